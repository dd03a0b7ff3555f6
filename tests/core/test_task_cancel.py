"""Cancelling tasks: before, while and after they wait; counts, messages, refusals. Asyncio is the referee."""

# ruff: noqa: PERF401 - a log is written line by line

import asyncio
import traceback
from typing import Any

import pytest

from tests.core.worlds import World, alike, attempt, in_turn, told


async def wait(future: Any) -> Any:
    return await future


def outcome(task: Any) -> tuple[Any, ...]:
    """What is to be seen of a task that was cancelled."""
    return task._state, task.cancelled(), task.cancelling(), attempt(task.result)


# ------------------------------------------------------------------------------- the moment --


@alike
def test_cancelled_before_its_first_step(world: World, log: list[Any]) -> None:
    async def main() -> None:
        log.append("never begun")

    task = world.spawn(main())
    log.append((task.cancel("mine"), task.cancelled(), task.cancelling(), task._must_cancel))
    task.add_done_callback(in_turn(log, "callback"))
    world.turn()
    log.append("turn")
    world.turn()
    log.append(outcome(task))


@alike
def test_cancelled_while_it_waits(world: World, log: list[Any]) -> None:
    async def main() -> None:
        try:
            await future
        except asyncio.CancelledError as error:
            log.append((told(error), task.cancelling(), task._fut_waiter))
            raise

    future = world.future()
    task = world.spawn(main())
    world.turn()
    log.append((task._fut_waiter is future, task.cancel("mine"), task._must_cancel, future.cancelled()))
    world.turn()
    log.append(outcome(task))
    log.append((task.cancel("late"), task.cancelling()))


@alike
def test_cancelled_after_it_was_woken_and_before_it_resumes(world: World, log: list[Any]) -> None:
    async def main(future: Any) -> None:
        try:
            log.append(await future)
        except BaseException as error:
            log.append((told(error), told(error.__context__)))
            raise

    for ending in ("result", "exception", "cancel"):
        future = world.future()
        task = world.spawn(main(future))
        world.turn()
        if ending == "result":
            future.set_result("lost")
        elif ending == "exception":
            future.set_exception(OSError("lost"))
        else:
            future.cancel("the future's")
        log.append((ending, task._fut_waiter is future, task.cancel("mine"), task._must_cancel))
        world.turn()
        log.append(outcome(task))
        del future, task
        world.messages()


@alike
def test_cancelled_in_its_own_step(world: World, log: list[Any]) -> None:
    async def main() -> None:
        task = tasks[0]
        log.append((task.cancel("mine"), task._must_cancel, task.cancelling()))
        log.append("goes on")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            log.append(told(error))
            log.append((task._must_cancel, task.cancelling()))
            raise

    tasks: list[Any] = []
    tasks.append(world.spawn(main()))
    world.turn(3)
    log.append(outcome(tasks.pop()))


@alike
def test_cancelled_in_its_own_last_step(world: World, log: list[Any]) -> None:
    async def main(end: Any) -> Any:
        tasks[-1].cancel("mine")
        if end is not None:
            raise end
        return 42

    tasks: list[Any] = []
    for end in (None, OSError("mine"), asyncio.CancelledError("another")):
        tasks.append(world.spawn(main(end)))
        world.turn(2)
        log.append(outcome(tasks.pop()))


@alike
def test_cancelled_in_its_own_step_before_it_awaits_a_future(world: World, log: list[Any]) -> None:
    async def main(future: Any) -> None:
        tasks[-1].cancel("mine")
        try:
            await future
        except BaseException as error:
            log.append(told(error))
            raise

    tasks: list[Any] = []
    done, failed = world.future(), world.future()
    done.set_result(None)
    failed.set_exception(OSError("the future's"))
    for future in (world.future(), done, failed, asyncio.Future(loop=world.loop)):
        tasks.append(world.spawn(main(future)))
        for _ in range(3):
            world.turn()
            log.append(future._state)
        log.append(outcome(tasks.pop()) if tasks[-1].done() else "pending")


@alike
def test_cancelled_between_two_bare_yields(world: World, log: list[Any]) -> None:
    async def main() -> None:
        for number in range(3):
            log.append(number)
            await asyncio.sleep(0)

    task = world.spawn(main())
    world.turn(2)
    log.append((task.cancel(), task._must_cancel))
    world.turn()
    log.append(outcome(task))


@alike
def test_cancelled_while_it_waits_for_a_task_that_waits(world: World, log: list[Any]) -> None:
    async def main(name: str, inner: Any) -> None:
        try:
            await inner
        except asyncio.CancelledError as error:
            log.append((name, told(error), [task.cancelling() for task in tasks]))
            raise

    future = world.future()
    tasks: list[Any] = []
    inner: Any = future
    for name in ("innermost", "inner", "outer"):
        inner = world.spawn(main(name, inner), name=name)
        tasks.append(inner)
    world.turn(3)
    log.append(tasks[-1].cancel("mine"))
    log.append([task.cancelling() for task in tasks])
    for _ in range(4):
        world.turn()
        log.append([task.cancelled() for task in tasks])
    log.append([outcome(task) for task in tasks])
    tasks.clear()


@alike
def test_cancelled_while_the_task_it_waits_for_is_ready(world: World, log: list[Any]) -> None:
    async def main(name: str, inner: Any) -> Any:
        try:
            return await inner
        finally:
            log.append((name, "ends"))

    for turns in range(6):
        inner = world.spawn(main("inner", asyncio.sleep(0, 42)))
        outer = world.spawn(main("outer", inner))
        world.turn(turns)
        log.append((turns, outer.cancel(), inner.cancelling(), outer.cancelling()))
        world.turn(6)
        log.append((outcome(inner), outcome(outer)))


@alike
def test_a_subclass_of_task_in_the_chain_is_asked_to_cancel(world: World, log: list[Any]) -> None:
    class Noting(world.Task):  # type: ignore[name-defined,misc]
        def cancel(self, msg: Any = None) -> bool:
            log.append(f"asked: {msg}")
            return bool(super().cancel(msg))

    inner = Noting(wait(world.future()), loop=world.loop)
    outer = world.spawn(wait(inner))
    world.turn(2)
    log.append(outer.cancel("mine"))
    world.turn(3)
    log.append((outcome(inner), outcome(outer)))


def test_cancelling_tasks_that_wait_for_each_other_comes_to_an_end(world: World) -> None:
    async def main(number: int) -> None:
        await tasks[number]

    tasks: list[Any] = []
    for number in (1, 2, 3, 1):  # the first one waits for a circle that it is no part of
        tasks.append(world.spawn(main(number)))
    world.turn()
    for task in tasks:
        with pytest.raises(RecursionError):
            task.cancel()
        assert not task.done()
        task._log_destroy_pending = False
    tasks.clear()


@alike
def test_cancelled_by_a_callback_of_what_it_waits_for(world: World, log: list[Any]) -> None:
    future = world.future()
    before = world.spawn(wait(future))
    future.add_done_callback(lambda _: log.append((before.cancel(), after.cancel())))
    after = world.spawn(wait(future))
    world.turn()
    future.set_result(42)
    world.turn(2)
    log.append((outcome(before), outcome(after)))


# -------------------------------------------------------------------------- counts, messages --


@alike
def test_requests_are_counted(world: World, log: list[Any]) -> None:
    task = world.spawn(wait(world.future()))
    log.append((task.uncancel(), task.cancelling()))
    for number in range(3):
        log.append((task.cancel(f"message {number}"), task.cancelling(), task._cancel_message))
    log.append([task.uncancel() for _ in range(5)])
    world.turn()
    log.append(outcome(task))
    task.cancel()
    world.turn(2)


@alike
def test_taking_back_a_request_that_is_not_delivered(world: World, log: list[Any]) -> None:
    async def main() -> str:
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "cancelled"
        return "spared"

    for requests in (1, 2):
        for turns in range(3):
            task = world.spawn(main())
            world.turn(turns)
            for _ in range(requests):
                task.cancel()
            task.uncancel()
            log.append((requests, turns, task._must_cancel, task.cancelling()))
            world.turn(4)
            log.append(outcome(task))


@alike
def test_messages(world: World, log: list[Any]) -> None:
    for message in (None, "mine", 42, "", (1, 2)):
        for turns in (0, 1):
            task = world.spawn(wait(world.future()))
            outer = world.spawn(wait(task))
            world.turn(turns)
            task.cancel(message)
            world.turn(3)
            for each in (task, outer):
                try:
                    each.result()
                except asyncio.CancelledError as error:
                    log.append((message, turns, error.args, told(error.__context__)))


def test_the_traceback_of_a_cancellation_leads_to_where_it_waited(world: World) -> None:
    async def inner() -> None:
        await asyncio.sleep(3600)

    async def outer() -> None:
        await world.spawn(inner())

    task = world.spawn(outer())
    world.turn(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        world.loop.run_until_complete(task)
    names = [each.name for each in traceback.extract_tb(caught.value.__traceback__)]
    assert "outer" in names


@alike
def test_the_error_a_task_ends_with_is_handed_out_once(world: World, log: list[Any]) -> None:
    errors = []

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            errors.append(error)
            raise

    task = world.spawn(main())
    world.turn()
    task.cancel("mine")
    world.turn()
    for _ in range(3):
        try:
            task.result()
        except asyncio.CancelledError as error:
            log.append((error is errors[0], error.args))


# --------------------------------------------------------------------------------- refusals --


@alike
def test_a_cancellation_that_is_swallowed(world: World, log: list[Any]) -> None:
    async def main() -> str:
        for number in range(3):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                log.append((number, tasks[0].cancelling()))
        return "went on"

    tasks = [world.spawn(main())]
    for _ in range(4):
        world.turn()
        log.append(tasks[0].cancel())
    world.turn(2)
    log.append(outcome(tasks.pop()))


@alike
def test_cancelled_in_its_finally(world: World, log: list[Any]) -> None:
    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("cleans up")
            try:
                await asyncio.sleep(3600)
            finally:
                log.append("cleaned up")

    task = world.spawn(main())
    world.turn()
    for message in ("first", "second"):
        task.cancel(message)
        world.turn()
        log.append(task.done())
    try:
        task.result()
    except asyncio.CancelledError as error:
        log.append((told(error), told(error.__context__)))


@alike
def test_another_exception_in_place_of_the_cancellation(world: World, log: list[Any]) -> None:
    async def main(exception: BaseException) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise exception  # noqa: B904

    for exception in (OSError("mine"), asyncio.CancelledError("another")):
        task = world.spawn(main(exception))
        world.turn()
        task.cancel("first")
        world.turn()
        log.append(outcome(task))
        log.append(told(exception.__context__))


def test_a_future_that_refuses_is_asked_each_time(world: World) -> None:
    class Refusing(world.Future):  # type: ignore[name-defined,misc]
        asked = 0

        def cancel(self, msg: Any = None) -> bool:
            self.asked += 1
            return False

    future = Refusing(loop=world.loop)
    task = world.spawn(wait(future))
    world.turn()
    assert task.cancel() is True
    assert task._must_cancel is True
    assert task.cancel() is True
    assert future.asked == 2
    future.set_result(42)
    with pytest.raises(asyncio.CancelledError):
        world.loop.run_until_complete(task)


@pytest.mark.parametrize("exception", [LookupError("mine"), KeyboardInterrupt("mine")])
def test_a_future_whose_cancel_raises(world: World, exception: BaseException) -> None:
    class Failing(world.Future):  # type: ignore[name-defined,misc]
        def cancel(self, msg: Any = None) -> bool:
            raise exception

    future = Failing(loop=world.loop)
    task = world.spawn(wait(future))
    world.turn()
    with pytest.raises(type(exception), match="mine"):
        task.cancel()
    future.set_result(42)
    assert world.loop.run_until_complete(task) == 42
