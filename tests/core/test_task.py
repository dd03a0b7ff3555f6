"""Task: its steps, its name and context, its ends. Asyncio's class is the referee."""

# ruff: noqa: PERF401 - a log is written line by line

import asyncio
import contextvars
import gc
import io
import sys
import types
import weakref
from typing import Any

import pytest

from tests.core.worlds import World, alike, attempt, in_turn, told

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def nothing() -> None:
    pass


async def wait(future: Any) -> Any:
    return await future


# ------------------------------------------------------------------------------ being made --


@alike
def test_what_is_no_coroutine_is_refused(world: World, log: list[Any]) -> None:
    def generator() -> Any:
        yield

    for thing in (None, 42, nothing, generator(), world.future(), asyncio.sleep, object()):
        log.append(attempt(world.spawn, thing).partition("got")[0])


@alike
def test_arguments_that_are_wrong(world: World, log: list[Any]) -> None:
    coro = nothing()
    for keywords in ({"colour": "red"}, {"loop": 42}):
        log.append((keywords, attempt(world.Task, coro, **{"loop": world.loop} | keywords).partition(":")[0]))
    log.append(attempt(world.Task).partition(":")[0])
    log.append(attempt(world.Task, coro, world.loop).partition(":")[0])
    coro.close()


def test_other_things_that_are_coroutines_run(world: World) -> None:
    class Coroutine:
        """A coroutine by collections.abc, written by hand."""

        def __init__(self) -> None:
            self.steps: list[Any] = []

        def send(self, value: Any) -> Any:
            self.steps.append(value)
            if len(self.steps) == 3:
                raise StopIteration(42)

        def throw(self, *exception: Any) -> Any:
            self.steps.append(exception)
            raise exception[0]

        def close(self) -> None:
            self.steps.append("closed")

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return self.send(None)

    import collections.abc

    collections.abc.Coroutine.register(Coroutine)
    coro = Coroutine()
    assert world.run(coro) == 42  # type: ignore[arg-type]
    assert coro.steps == [None, None, None]
    cancelled = Coroutine()
    task = world.spawn(cancelled)  # type: ignore[arg-type]
    world.turn()
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError, match="mine"):
        world.loop.run_until_complete(task)
    assert cancelled.steps[0] is None
    assert isinstance(cancelled.steps[1][0], asyncio.CancelledError)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="from 3.12 on asyncio does not take generators for coroutines"
)
def test_a_generator_of_types_coroutine_runs(world: World) -> None:
    @types.coroutine
    def generator() -> Any:
        yield
        return 42

    assert world.run(generator()) == 42  # type: ignore[arg-type]


@alike
def test_a_task_begins_in_the_next_turn(world: World, log: list[Any]) -> None:
    async def main(name: str) -> None:
        log.append(name)

    world.loop.call_soon(in_turn(log, "before"))
    tasks = [world.spawn(main("one")), world.spawn(main("two"))]
    world.loop.call_soon(in_turn(log, "after"))
    log.append([task.done() for task in tasks])
    world.turn()
    log.append([task.done() for task in tasks])


@alike
def test_the_order_of_steps_and_callbacks(world: World, log: list[Any]) -> None:
    async def main(name: str, future: Any) -> str:
        for step in range(3):
            log.append((name, step))
            world.loop.call_soon(in_turn(log, (name, "soon", step)))
            await asyncio.sleep(0)
        log.append((name, "waits"))
        log.append((name, await future))
        future.add_done_callback(in_turn(log, (name, "callback")))
        return name

    future = world.future()
    tasks = [world.spawn(main(name, future)) for name in "abc"]
    for task in tasks:
        task.add_done_callback(lambda task: log.append(("done", task.result())))
    for turn in range(12):
        log.append(turn)
        if turn == 6:
            future.set_result("set")
        world.turn()


def test_a_task_of_a_loop_that_is_closed_is_refused(world: World) -> None:
    world.loop.close()
    coro = nothing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        world.loop.create_task(coro)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        world.Task(coro, loop=world.loop)
    coro.close()
    gc.collect()
    world.messages()  # it was pending


# ------------------------------------------------------------------------- names, contexts --


@alike
def test_names(world: World, log: list[Any]) -> None:
    for name in ("mine", None, 42, "", ("a", 1)):
        task = world.spawn(nothing(), name=name)
        log.append(task.get_name().rstrip("0123456789"))
        log.append(type(task.get_name()).__name__)
        task.set_name(["set"])
        log.append((task.get_name(), attempt(task.set_name), attempt(task.set_name, None), task.get_name()))
        world.turn()
        task.set_name("late")
        log.append(task.get_name())


def test_the_numbers_in_names_go_up(world: World) -> None:
    tasks = [world.spawn(nothing()) for _ in range(3)]
    numbers = [int(task.get_name().removeprefix("Task-")) for task in reversed(tasks)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 3
    world.turn()


def test_a_name_may_be_a_subclass_of_str(world: World) -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "as it says"

    task = world.spawn(nothing(), name=Name("mine"))
    assert task.get_name() == "as it says"
    world.turn()


def test_the_context_of_a_task(world: World) -> None:
    async def main() -> str:
        before = variable.get()
        variable.set("task's")
        await asyncio.sleep(0)
        return before + variable.get()

    given = contextvars.copy_context()
    given.run(variable.set, "given ")
    task = world.spawn(main(), context=given)
    assert world.loop.run_until_complete(task) == "given task's"
    assert given[variable] == "task's"
    variable.set("mine ")
    assert world.run(main()) == "mine task's"
    assert variable.get() == "mine "
    variable.set("unset")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Task.get_context is new in 3.12")
def test_get_context(world: World) -> None:
    given = contextvars.copy_context()
    task = world.spawn(nothing(), context=given)
    assert task.get_context() is given
    other = world.spawn(nothing())
    assert isinstance(other.get_context(), contextvars.Context)
    world.turn()


def test_the_coroutine_of_a_task(world: World) -> None:
    coro = nothing()
    task = world.spawn(coro)
    assert task.get_coro() is coro
    world.turn()
    assert task.get_coro() is coro


# ------------------------------------------------------------------------------- how it ends --


@alike
def test_what_a_task_ends_with(world: World, log: list[Any]) -> None:
    async def end(what: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(what, BaseException):
            raise what
        return what

    for what in (
        None, 42, (1, 2), OSError("mine"), StopAsyncIteration("mine"), asyncio.CancelledError("by itself"),
        GeneratorExit("mine"), ExceptionGroup("group", [OSError()]), TimeoutError(),
    ):  # fmt: skip
        task = world.spawn(end(what))
        world.turn(3)
        log.append((repr(what), task._state, attempt(task.result), attempt(task.exception)))
        log.append((task.done(), task.cancelled(), task.cancelling()))


@alike
def test_a_coroutine_that_raises_stop_iteration(world: World, log: list[Any]) -> None:
    async def main() -> None:
        raise StopIteration("mine")

    task = world.spawn(main())
    world.turn()
    log.append((attempt(task.result), told(task.exception().__cause__)))


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_program_ends_the_run_and_is_the_tasks(
    world: World, exception: type[BaseException]
) -> None:
    async def main() -> None:
        raise exception("mine")

    task = world.spawn(main())
    with pytest.raises(exception, match="mine"):
        world.turn()
    assert type(task.exception()) is exception
    assert asyncio.current_task(world.loop) is None
    assert asyncio.all_tasks(world.loop) == set()
    world.turn()
    assert world.run(wait(asyncio.sleep(0, 42))) == 42


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_one_that_waits_for_it_gets_it_as_well(world: World, exception: type[BaseException]) -> None:
    async def main() -> None:
        raise exception("mine")

    inner = world.spawn(main())
    outer = world.spawn(wait(inner))
    with pytest.raises(exception, match="mine"):
        world.turn(2)
    with pytest.raises(exception, match="mine"):
        world.turn(2)
    assert type(outer.exception()) is exception
    assert type(inner.exception()) is exception


def test_a_base_exception_of_ones_own_is_the_tasks(world: World) -> None:
    class Mine(BaseException):
        pass

    async def main() -> None:
        raise Mine

    task = world.spawn(main())
    world.turn()
    assert type(task.exception()) is Mine


@alike
def test_results_cannot_be_set_from_outside(world: World, log: list[Any]) -> None:
    task = world.spawn(nothing())
    log.append(attempt(task.set_result, 42))
    log.append(attempt(task.set_exception, OSError()))
    world.turn()


@alike
def test_a_coroutine_that_was_run_before(world: World, log: list[Any]) -> None:
    for begun in (True, False):
        coro = wait(world.future())
        if begun:
            coro.send(None)._asyncio_future_blocking = False
        coro.close()
        task = world.spawn(coro)
        world.turn()
        log.append(attempt(task.result))


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="__init__ is refused the second time from 3.15 on")
@alike
def test_a_task_initialised_again_runs_again(world: World, log: list[Any]) -> None:
    async def main(what: str) -> str:
        return what

    task = world.spawn(main("first"), name="one")
    world.turn()
    log.append((task.result(), task.get_name()))
    task.__init__(main("second"), loop=world.loop, name="two")
    log.append((task.done(), task.get_name(), asyncio.all_tasks(world.loop) == {task}))
    world.turn()
    log.append((task.result(), asyncio.all_tasks(world.loop) == set()))


# ----------------------------------------------------------------------------- its stack --


def test_the_stack_of_a_task_is_where_it_waits(world: World) -> None:
    async def inner(future: Any) -> None:
        await future

    async def outer(future: Any) -> None:
        await inner(future)

    future = world.future()
    task = world.spawn(outer(future))
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    world.turn()
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    assert task.get_stack(limit=0) == []
    text = io.StringIO()
    task.print_stack(file=text)
    assert "await inner(future)" in text.getvalue()
    assert text.getvalue().startswith("Stack for <Task pending")
    future.set_result(None)
    world.loop.run_until_complete(task)
    assert task.get_stack() == []


def test_the_stack_of_a_task_that_failed_is_that_of_its_exception(world: World) -> None:
    async def inner() -> None:
        raise ValueError("mine")

    async def outer() -> None:
        await inner()

    task = world.spawn(outer())
    world.turn()
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer", "inner"]
    assert [frame.f_code.co_name for frame in task.get_stack(limit=1)] == ["outer"]
    text = io.StringIO()
    task.print_stack(file=text, limit=5)
    assert text.getvalue().startswith("Traceback for <Task finished")
    assert "ValueError: mine" in text.getvalue()
    task.exception()


def test_a_stack_printed_to_stderr(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    task = world.spawn(nothing())
    task.print_stack()
    assert "in nothing" in capsys.readouterr().err
    world.turn()
    task.print_stack()
    assert "No stack for <Task finished" in "".join(capsys.readouterr())


# ---------------------------------------------------------------------------- as an object --


def test_what_a_task_is(world: World) -> None:
    task = world.spawn(nothing())
    assert isinstance(task, asyncio.Task) and isinstance(task, asyncio.Future)
    assert isinstance(task, world.Task)
    assert asyncio.isfuture(task)
    assert task.get_loop() is world.loop
    assert asyncio.ensure_future(task) is task
    assert task._fut_waiter is None and task._must_cancel is False
    world.turn()


def test_a_task_takes_attributes_and_weak_references(world: World) -> None:
    task = world.spawn(nothing())
    task.colour = "red"
    reference = weakref.ref(task)
    assert reference() is task and task.colour == "red"
    world.turn()
    del task
    gc.collect()
    assert reference() is None
    fresh = [world.spawn(nothing()) for _ in range(10)]
    assert not any(hasattr(each, "colour") for each in fresh)
    world.turn()


@alike
def test_a_subclass_of_task(world: World, log: list[Any]) -> None:
    class Noting(world.Task):  # type: ignore[name-defined,misc]
        def __init__(self, coro: Any, **kwargs: Any) -> None:
            self.noted = ["init"]
            super().__init__(coro, **kwargs)

        def cancel(self, msg: Any = None) -> bool:
            log.append(f"cancel {msg}")
            return bool(super().cancel(msg))

        def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
            log.append("add_done_callback")
            super().add_done_callback(fn, context=context)

        def get_name(self) -> str:
            return f"my {super().get_name()}"

        def done(self) -> bool:
            log.append("done")
            return bool(super().done())

    task = Noting(asyncio.sleep(3600), loop=world.loop, name="name")
    outer = world.spawn(wait(task))
    world.turn()
    log.append((task.noted, task.get_name(), isinstance(task, asyncio.Task)))
    outer.cancel("mine")
    world.turn(3)
    log.append((task.cancelled(), outer.cancelled()))
    log.append(repr(task).replace("my ", ""))


@alike
def test_read_only_attributes(world: World, log: list[Any]) -> None:
    task = world.spawn(nothing())
    for name in ("_coro", "_fut_waiter", "_must_cancel"):
        log.append((name, hasattr(task, name), attempt(setattr, task, name, 42).partition(":")[0]))
    log.append((task._log_destroy_pending, attempt(delattr, task, "_log_destroy_pending").partition(":")[0]))
    task._log_destroy_pending = False
    log.append(task._log_destroy_pending)
    world.turn()
