"""Eager tasks, from 3.12 on: the first step is made where the task is. Asyncio's class is the referee."""

import asyncio
import contextvars
import gc
import sys
from typing import Any

import pytest

from tests.core.worlds import World, alike, attempt, in_turn, normal, told

if sys.version_info < (3, 12):
    pytest.skip("eager tasks are new in 3.12", allow_module_level=True)

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def eager(world: World, coro: Any, **kwargs: Any) -> Any:
    return world.spawn(coro, eager_start=True, **kwargs)


def inside(scenario: Any) -> Any:
    """A scenario that is a coroutine: eager tasks want a loop that runs."""

    def run(world: World, log: list[Any]) -> None:
        world.run(scenario(world, log))

    run.__name__, run.__doc__, run.__module__ = scenario.__name__, scenario.__doc__, scenario.__module__
    return alike(run)


@inside
async def test_it_runs_to_its_first_wait(world: World, log: list[Any]) -> None:
    async def child(future: Any) -> str:
        log.append("begun")
        log.append(await future)
        return "ended"

    future = world.future()
    task = eager(world, child(future), name="mine")
    log.append(
        ("parent", task.done(), task.get_name(), task in asyncio.all_tasks(), task._fut_waiter is future)
    )
    future.set_result("result")
    world.loop.call_soon(in_turn(log, "soon"))
    log.append(await task)


@inside
async def test_ends_without_a_wait(world: World, log: list[Any]) -> None:
    async def child(what: Any) -> Any:
        if isinstance(what, BaseException):
            raise what
        return what

    for what in (42, OSError("mine"), asyncio.CancelledError("mine"), StopAsyncIteration()):
        task = eager(world, child(what), name="mine")
        task.add_done_callback(in_turn(log, "callback"))
        log.append((task.done(), task.cancelled(), attempt(task.result), task in asyncio.all_tasks()))
        if sys.version_info >= (3, 14):  # asyncio's crashes before
            log.append(
                (
                    task.get_coro(),
                    [frame.f_code.co_name for frame in task.get_stack()][1:],
                    normal(repr(task)),
                    attempt(task.get_context)[:12],
                )
            )
        await asyncio.sleep(0)


def test_what_one_that_ended_at_once_says_of_itself(world: World) -> None:
    if world.Task is asyncio.Task and sys.version_info < (3, 14):
        pytest.skip("asyncio's crashes before 3.14")

    async def child() -> int:
        return 42

    async def main() -> None:
        task = eager(world, child(), name="mine")
        assert task.get_coro() is None
        assert task.get_stack() == []
        assert "name='mine'" in repr(task) and "result=42" in repr(task)
        assert isinstance(task.get_context(), contextvars.Context)

    world.run(main())


@inside
async def test_exceptions_that_end_the_program_go_through_the_parent(world: World, log: list[Any]) -> None:
    async def child(exception: BaseException) -> None:
        raise exception

    for exception in (KeyboardInterrupt("mine"), SystemExit("mine"), GeneratorExit("mine")):
        coro = child(exception)
        try:
            task = eager(world, coro)
        except BaseException as error:
            log.append(("raised", told(error)))
        else:
            log.append(("kept", attempt(task.result)))
        log.append(asyncio.current_task() is not None)
        await asyncio.sleep(0)
    gc.collect()
    log.append(world.messages())  # nobody looked at what these tasks kept


@inside
async def test_the_current_task_changes_and_changes_back(world: World, log: list[Any]) -> None:
    async def child(depth: int) -> Any:
        task = asyncio.current_task()
        assert task is not None
        log.append((depth, task.get_name(), task in asyncio.all_tasks()))
        if depth:
            eager(world, child(depth - 1), name=f"depth {depth - 1}")
        log.append(task is asyncio.current_task())
        await asyncio.sleep(0)
        log.append(task is asyncio.current_task())

    parent = asyncio.current_task()
    tasks = [eager(world, child(2), name="depth 2")]
    log.append(parent is asyncio.current_task())
    await asyncio.wait(tasks)
    await asyncio.sleep(0)


@inside
async def test_an_eager_task_has_its_context(world: World, log: list[Any]) -> None:
    async def child() -> None:
        log.append(variable.get())
        variable.set("child's")
        await asyncio.sleep(0)
        log.append(variable.get())

    variable.set("parent's")
    given = contextvars.Context()
    given.run(variable.set, "given")
    tasks = [eager(world, child()), eager(world, child(), context=given)]
    log.append(variable.get())
    await asyncio.wait(tasks)
    log.append((variable.get(), given[variable]))


@inside
async def test_cancelled_by_itself_in_its_first_step(world: World, log: list[Any]) -> None:
    async def child(waits: bool) -> str:
        task = asyncio.current_task()
        assert task is not None
        log.append((task.cancel("mine"), task.cancelling()))
        if waits:
            await asyncio.sleep(0)
        return "ended"

    for waits in (True, False):
        task = eager(world, child(waits))
        log.append((task.done(), task.cancelling()))
        await asyncio.wait([task])
        log.append((task.cancelled(), attempt(task.result)))


@inside
async def test_cancelled_where_it_waits(world: World, log: list[Any]) -> None:
    async def child() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("finally")

    task = eager(world, child())
    task.cancel("mine")
    log.append(task.done())
    await asyncio.wait([task])
    log.append(attempt(task.result))


@inside
async def test_junk_and_bare_yields_in_the_first_step(world: World, log: list[Any]) -> None:
    class Give:
        def __init__(self, thing: Any) -> None:
            self.thing = thing

        def __await__(self) -> Any:
            return (yield self.thing)

    async def child(thing: Any) -> None:
        try:
            log.append(await Give(thing))
        except RuntimeError as error:
            log.append(told(error).partition(" in task")[0])

    for thing in (None, 42, world.future()):
        task = eager(world, child(thing))
        log.append(task.done())
        await task


@alike
def test_a_loop_that_does_not_run_gets_a_lazy_task(world: World, log: list[Any]) -> None:
    async def child() -> None:
        log.append("child")

    task = eager(world, child())
    log.append("made")
    world.loop.run_until_complete(task)


@inside
async def test_groups_and_gathers_of_eager_tasks(world: World, log: list[Any]) -> None:
    async def child(name: str, turns: int) -> str:
        log.append(f"{name} begins")
        for _ in range(turns):
            await asyncio.sleep(0)
        log.append(f"{name} ends")
        return name

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        return world.Task(coro, loop=loop, **({"eager_start": True} | kwargs))

    before = world.loop.get_task_factory()
    world.loop.set_task_factory(factory)
    log.append(await asyncio.gather(*(child(name, turns) for name, turns in (("a", 2), ("b", 0), ("c", 1)))))
    async with asyncio.TaskGroup() as group:
        for turns in range(3):
            group.create_task(child(f"child {turns}", turns))
        log.append("body")
    log.append(await asyncio.wait_for(child("waited for", 1), 3600))
    world.loop.set_task_factory(before)


def test_the_factory_of_eager_tasks_takes_the_class(world: World) -> None:
    async def child() -> str:
        await asyncio.sleep(0)
        return "result"

    async def main() -> None:
        task = asyncio.create_task(child(), name="mine")
        assert type(task) is world.Task
        assert task._fut_waiter is None and task.get_name() == "mine"
        assert await task == "result"

    before = world.loop.get_task_factory()
    world.loop.set_task_factory(asyncio.create_eager_task_factory(world.Task))
    world.run(main())
    world.loop.set_task_factory(before)


def test_an_eager_task_nobody_keeps_is_collected(world: World) -> None:
    async def child() -> None:
        await world.future()

    async def main() -> None:
        eager(world, child())._log_destroy_pending = False
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    world.run(main())
