"""What futures and tasks say of themselves: repr, reports of what is lost, debug mode. As asyncio's do."""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.worlds import World, alike, normal

Task = Any


async def nothing() -> None:
    pass


async def wait(future: Any) -> Any:
    return await future


def callback(_: Any) -> None:
    pass


async def fail(exception: BaseException) -> None:
    raise exception


# --------------------------------------------------------------------------------------- repr --


@alike
def test_the_repr_of_a_future(world: World, log: list[Any]) -> None:
    def note() -> None:
        log.append(normal(repr(future)))
        log.append(normal(str(future)))

    for end in ("result", "long result", "exception", "cancel"):
        future = world.future()
        note()
        future.add_done_callback(callback)
        note()
        future.add_done_callback(world.turn)
        note()
        future.add_done_callback(callback)
        note()
        if end == "result":
            future.set_result({"a": [1, 2, 3]})
        elif end == "long result":
            future.set_result("long " * 1000)
        elif end == "exception":
            future.set_exception(ValueError("mine"))
        else:
            future.cancel("mine")
        note()
        future.remove_done_callback(callback)
        if end == "exception":
            future.exception()
    future = world.Future.__new__(world.Future)
    log.append(type(future).__name__)


@alike
def test_the_repr_of_a_task(world: World, log: list[Any]) -> None:
    future = world.future()
    for coro, turns in ((nothing(), 1), (wait(future), 1), (fail(ValueError("mine")), 1), (wait(future), 0)):
        task = world.spawn(coro, name="mine")
        log.append(normal(repr(task)))
        task.add_done_callback(callback)
        log.append(normal(repr(task)))
        world.turn(turns)
        log.append(normal(repr(task)))
        task.cancel()
        log.append(normal(repr(task)))
        world.turn(2)
        log.append(normal(repr(task)))
        if not task.cancelled():
            task.exception()
        future = world.future()


@alike
def test_the_repr_of_a_future_that_a_task_awaits(world: World, log: list[Any]) -> None:
    future = world.future()
    tasks = [world.spawn(wait(future)), world.spawn(wait(future))]
    world.turn()
    # How a task's own callback is called is the class's affair; that there are two is not.
    log.append(normal(repr(future)).count("wakeup"))
    log.append(len(future._callbacks))
    log.append(normal(repr(tasks[0])).partition("wait_for=<Future pending")[0])
    future.set_result(None)
    world.turn()


@alike
def test_a_repr_within_itself(world: World, log: list[Any]) -> None:
    future = world.future()
    future.set_result([future])
    log.append(normal(repr(future)))
    failed = world.future()
    failed.set_exception(OSError(failed))
    log.append(normal(repr(failed)))
    failed.exception().args = ()


@alike
def test_the_repr_of_a_subclass(world: World, log: list[Any]) -> None:
    class Special(world.Future):  # type: ignore[name-defined,misc]
        pass

    class SpecialTask(world.Task):  # type: ignore[name-defined,misc]
        pass

    log.append(repr(Special(loop=world.loop)))
    log.append(normal(repr(SpecialTask(nothing(), loop=world.loop))))
    world.turn()


def test_a_repr_that_fails_fails(world: World) -> None:
    class Silent:
        def __repr__(self) -> str:
            raise LookupError("mine")

    future = world.future()
    future.set_exception(OSError(Silent()))
    with pytest.raises(LookupError, match="mine"):
        repr(future)
    future.exception()


# -------------------------------------------------------------------------- what was not seen --


def reported(world: World) -> list[Any]:
    """What was told to the exception handler."""
    gc.collect()
    told = [
        (
            normal(each["message"]),
            repr(each.get("exception")),
            sorted(each),
            [normal(repr(each[key])) for key in ("future", "task") if key in each],
        )
        for each in world.errors
    ]
    world.errors.clear()
    return told


@alike
def test_an_exception_that_nobody_took(world: World, log: list[Any]) -> None:
    world.future().set_exception(ValueError("a future's"))
    log.append(reported(world))
    world.spawn(fail(ValueError("a task's")))
    world.turn()
    log.append(reported(world))


@alike
def test_ways_to_take_an_exception(world: World, log: list[Any]) -> None:
    async def take(future: Any) -> None:
        try:
            await future
        except ValueError:
            pass

    takers: list[Callable[[Any], Any]] = [
        lambda future: future.exception(),
        lambda future: future.cancel(),
        lambda future: world.run(take(future)),
        lambda future: (
            world.run(asyncio.gather(future, return_exceptions=True)) if False else world.run(take(future))
        ),
        lambda future: setattr(future, "_log_traceback", False),
        lambda future: future._log_traceback,
        lambda future: future.done(),
        repr,
        lambda future: future.add_done_callback(callback),
    ]
    for number, taker in enumerate(takers):
        future = world.future()
        future.set_exception(ValueError("mine"))
        taker(future)
        del future
        world.turn()
        log.append((number, len(reported(world))))


@alike
def test_a_pending_task_that_is_lost(world: World, log: list[Any]) -> None:
    task = world.spawn(wait(world.future()))
    world.turn()
    del task
    log.append(reported(world))
    task = world.spawn(wait(world.future()))
    task._log_destroy_pending = False
    world.turn()
    del task
    log.append(reported(world))
    future = world.future()
    del future
    log.append(reported(world))


def test_a_pending_task_that_is_lost_is_no_longer_among_all_tasks(world: World) -> None:
    task = world.spawn(wait(world.future()), name="lost")
    world.turn()
    del task
    gc.collect()
    assert [each["message"] for each in world.errors] == ["Task was destroyed but it is pending!"]
    # The report holds it, and may hold it for long.
    lost = world.errors[0]["task"]
    world.errors.clear()
    assert lost.get_name() == "lost"
    if world.name.startswith("ours") or sys.version_info < (3, 14):
        assert asyncio.all_tasks(world.loop) == set()


def test_a_handler_may_keep_what_it_is_told_of(world: World) -> None:
    kept: list[Any] = []
    world.loop.set_exception_handler(lambda _, context: kept.append(context))
    world.future().set_exception(ValueError("mine"))
    task = world.spawn(wait(world.future()))
    world.turn()
    del task
    gc.collect()
    future, task = kept[0]["future"], kept[1]["task"]
    assert repr(future.exception()) == "ValueError('mine')"
    assert not task.done()
    kept.clear()
    del future, task
    gc.collect()
    # A second end is not reported again.
    assert [each["message"] for each in kept] == []


def test_a_handler_that_fails_does_no_harm(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def handler(loop: Any, context: dict[str, Any]) -> None:
        raise LookupError("the handler's")

    world.loop.set_exception_handler(handler)
    with caplog.at_level(logging.ERROR, "asyncio"):
        world.future().set_exception(ValueError("mine"))
        gc.collect()
    assert "Unhandled error in exception handler" in caplog.text


# -------------------------------------------------------------------------------- debug mode --


@pytest.fixture
def debugged(world: World) -> World:
    world.loop.set_debug(True)
    return world


def test_debug_mode_tells_where_futures_and_tasks_were_made(debugged: World) -> None:
    world, loop = debugged, debugged.loop
    tasks = [
        world.Task(nothing(), loop=loop),
        loop.create_task(nothing()),
        asyncio.ensure_future(nothing(), loop=loop),
    ]
    futures = [world.Future(loop=loop), *([] if "create_future" in vars(loop) else [loop.create_future()])]
    world.turn()
    for each in (*tasks, *futures):
        names = [frame.name for frame in each._source_traceback]
        assert "test_debug_mode_tells_where_futures_and_tasks_were_made" in names, names
        last = each._source_traceback[-1]
        assert f"created at {last.filename}:{last.lineno}" in repr(each)
    loop.set_debug(False)
    assert world.future()._source_traceback is None
    assert "created at" not in repr(world.future())


def test_debug_mode_reports_where_a_lost_one_was_made(debugged: World) -> None:
    world = debugged
    world.Future(loop=world.loop).set_exception(ValueError("mine"))
    task = world.Task(wait(world.future()), loop=world.loop)
    world.turn()
    del task
    gc.collect()
    names = [each["source_traceback"][-1].name for each in world.errors]
    world.errors.clear()
    assert names == ["test_debug_mode_reports_where_a_lost_one_was_made"] * 2


def test_debug_mode_names_a_task_whose_step_is_slow(
    debugged: World, caplog: pytest.LogCaptureFixture
) -> None:
    world = debugged

    async def slow() -> None:
        await asyncio.sleep(0)
        time.sleep(0.01)

    world.loop.slow_callback_duration = 0.005
    with caplog.at_level(logging.WARNING, "asyncio"):
        world.loop.run_until_complete(world.spawn(slow(), name="the slow one"))
    (said,) = [each.getMessage() for each in caplog.records if "seconds" in each.getMessage()]
    assert said.startswith("Executing <")
    assert "name='the slow one'" in said


def test_debug_mode_refuses_futures_completed_by_another_thread(debugged: World) -> None:
    import threading

    world = debugged
    errors: list[BaseException] = []

    def complete(future: Any) -> None:
        try:
            future.set_result(None)
        except BaseException as error:
            errors.append(error)

    async def main() -> None:
        future = world.future()
        future.add_done_callback(callback)
        thread = threading.Thread(target=complete, args=(future,))
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    world.run(main())
    world.loop.run_until_complete(world.loop.shutdown_default_executor())
    assert [type(each) for each in errors] == [RuntimeError]
    assert "Non-thread-safe operation" in str(errors[0])


@alike
def test_a_program_in_debug_mode(world: World, log: list[Any]) -> None:
    async def main(number: int) -> int:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, future.set_result, number)
        async with asyncio.timeout(3600):
            return int(await future) + sum(
                await asyncio.gather(*(asyncio.sleep(0, each) for each in range(number)))
            )

    world.loop.set_debug(True)
    log.append([world.run(main(number)) for number in range(4)])
