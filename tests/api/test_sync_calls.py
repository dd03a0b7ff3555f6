"""What `Lock.acquire`, `Queue.get` and their like return: whatever takes a coroutine takes them."""

import asyncio
import contextvars
import gc
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.api.support import turns
from tests.api.syncs import WAITS, WAYS, Wait, Way, at_once
from tests.conftest import Run

# In debug mode each task and future has a traceback.
MANY = 1000 if os.environ.get("PYTHONASYNCIODEBUG") else 10_000

CASES = [pytest.param((way, make), id=f"{name}-{way}") for name, make in WAITS.items() for way in WAYS]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Way, Callable[[Any], Wait]]:
    case: tuple[Way, Callable[[Any], Wait]] = request.param
    return case


@pytest.fixture
def loop_factory(case: tuple[Way, Any]) -> Any:
    return case[0].loop


@pytest.fixture
def wait(case: tuple[Way, Callable[[Any], Wait]]) -> Wait:
    """One call that has to wait."""
    way, make = case
    return make(way.module)


async def soon(wait: Wait) -> None:
    """Let it wait, then release it."""
    await turns(3)
    wait.release()


def test_it_is_a_coroutine(wait: Wait, run: Run) -> None:
    async def main() -> None:
        call = wait.call()
        assert asyncio.iscoroutine(call)
        assert inspect.isawaitable(call)
        assert isinstance(call, Coroutine)
        assert not asyncio.isfuture(call)
        call.close()

    run(main())


def test_awaited_by_itself(wait: Wait, run: Run) -> None:
    async def main() -> None:
        releasing = asyncio.create_task(soon(wait))
        assert await wait.call() == wait.result
        await releasing

    run(main())


def test_as_a_task(wait: Wait, run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(wait.call(), name="a name")
        assert task.get_name() == "a name"
        await turns(2)
        assert not task.done()
        wait.release()
        assert await task == wait.result

    run(main())


def test_it_takes_as_many_turns_as_asyncios(wait: Wait, run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(wait.call())
        await turns(3)
        wait.release()
        assert not task.done()
        await turns(1)
        assert task.done()

    run(main())


def test_in_gather_wait_and_shield(wait: Wait, run: Run) -> None:
    async def main() -> None:
        results, _ = await asyncio.gather(asyncio.shield(wait.call()), soon(wait))
        assert results == wait.result

    run(main())


def test_under_wait_for(wait: Wait, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait.call(), 0.001)
        releasing = asyncio.create_task(soon(wait))
        assert await asyncio.wait_for(wait.call(), 30) == wait.result
        await releasing

    run(main())


def test_in_a_task_group(wait: Wait, run: Run) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(wait.call())
            group.create_task(soon(wait))
        assert task.result() == wait.result

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_in_an_eager_task(wait: Wait, run: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(wait.call())
        assert not task.done()
        wait.release()
        assert await task == wait.result

    run(main())


def test_as_the_whole_program(wait: Wait, run: Run) -> None:
    wait.release()
    assert run(wait.call()) == wait.result


def test_from_another_thread(wait: Wait, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[Any] = loop.create_future()

        def ask() -> None:
            result = asyncio.run_coroutine_threadsafe(wait.call(), loop).result(30)
            loop.call_soon_threadsafe(got.set_result, result)

        thread = threading.Thread(target=ask)
        thread.start()
        await soon(wait)
        assert await got == wait.result
        thread.join()

    run(main())


def test_what_is_there_needs_no_turn(wait: Wait) -> None:
    wait.release()
    assert at_once(wait.call()) == wait.result


def test_awaited_a_second_time(wait: Wait, run: Run) -> None:
    async def main() -> None:
        wait.release()
        call = wait.call()
        assert await call == wait.result
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await call

    run(main())


def test_awaited_by_two(wait: Wait, run: Run) -> None:
    async def main() -> None:
        call = wait.call()

        async def again() -> Any:
            return await call

        first, second = asyncio.create_task(again()), asyncio.create_task(again())
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await second
        wait.release()
        assert await first == wait.result

    run(main())


def test_never_awaited(wait: Wait) -> None:
    call = wait.call()
    # Named as asyncio's: a PriorityQueue's get is its base's.
    name = getattr(getattr(asyncio, type(wait.subject).__name__), call.__name__).__qualname__
    with pytest.warns(RuntimeWarning, match=rf"coroutine '{name}' was never awaited"):
        del call


def test_closed_before_it_is_awaited(wait: Wait, run: Run) -> None:
    async def main() -> None:
        call = wait.call()
        call.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await call
        wait.release()
        assert at_once(wait.call()) == wait.result

    run(main())


def test_closed_while_it_waits(wait: Wait, run: Run) -> None:
    async def main() -> None:
        before = repr(wait.subject)
        call = wait.call()
        assert asyncio.isfuture(call.send(None))
        if call.__name__ != "join":  # whom a queue's repr does not count
            assert repr(wait.subject) != before
        call.close()
        assert repr(wait.subject) == before
        call.close()
        # What it waited for goes to others.
        releasing = asyncio.create_task(soon(wait))
        assert await wait.call() == wait.result
        await releasing

    run(main())


def test_an_exception_thrown_in(wait: Wait, run: Run) -> None:
    async def main() -> None:
        before = repr(wait.subject)
        call = wait.call()
        call.send(None)
        with pytest.raises(ValueError, match="thrown"):
            call.throw(ValueError("thrown"))
        assert repr(wait.subject) == before
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.send(None)
        fresh = wait.call()
        with pytest.raises(KeyError):
            fresh.throw(KeyError("at the start"))
        assert repr(wait.subject) == before
        releasing = asyncio.create_task(soon(wait))
        assert await wait.call() == wait.result
        await releasing

    run(main())


def test_sent_a_value_at_the_start(wait: Wait, run: Run) -> None:
    async def main() -> None:
        call = wait.call()
        with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
            call.send(1)
        call.close()

    run(main())


def test_resumed_by_hand_before_its_time(wait: Wait, run: Run) -> None:
    async def main() -> None:
        call = wait.call()
        future = call.send(None)
        assert asyncio.isfuture(future) and not future.done()
        assert future.get_loop() is asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            call.send(None)

    run(main())


def test_its_attributes(wait: Wait, run: Run) -> None:
    async def main() -> None:
        call = wait.call()
        assert call.__qualname__.endswith(f".{call.__name__}")
        assert repr(call).startswith(f"<coroutine object {call.__qualname__} at 0x")
        assert (call.cr_running, call.cr_await) == (False, None)
        future = call.send(None)
        assert call.cr_suspended
        # asyncio's waits for an Event, or for the future's iterator.
        assert call.cr_await is not None
        call.close()
        assert future.get_loop() is asyncio.get_running_loop()
        assert (call.cr_running, call.cr_suspended) == (False, False)

    run(main())


def test_cancelled_with_a_message(wait: Wait, run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(wait.call())
        await turns(2)
        task.cancel("for a reason")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert task.cancelled()
        assert caught.value.args == ("for a reason",)

    run(main())


def test_cancelled_before_it_began(wait: Wait, run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(wait.call())
        task.cancel()
        await turns(2)
        assert task.cancelled()
        wait.release()
        assert at_once(wait.call()) == wait.result

    run(main())


def test_another_loop_cannot_wait_for_it(wait: Wait, case: tuple[Way, Any], run: Run) -> None:
    async def bind() -> None:
        task = asyncio.create_task(wait.call())
        await turns(2)
        task.cancel()

    run(bind())

    async def other() -> None:
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            await wait.call()

    run(other())


def test_what_does_not_wait_binds_to_no_loop(case: tuple[Way, Callable[[Any], Wait]], run: Run) -> None:
    way, make = case
    wait = make(way.module)
    wait.release()

    async def use() -> Any:
        return await wait.call()

    assert run(use()) == wait.result
    second = make(way.module)

    async def elsewhere() -> None:
        releasing = asyncio.create_task(soon(second))
        assert await second.call() == second.result
        await releasing

    run(elsewhere())


def test_without_a_running_loop_it_cannot_wait(wait: Wait) -> None:
    with pytest.raises((RuntimeError, AttributeError)):
        wait.call().send(None)


def test_cancelled_waits_leave_nothing(wait: Wait, run: Run) -> None:
    async def some(count: int) -> None:
        for _ in range(count // 100):
            tasks = [asyncio.create_task(wait.call()) for _ in range(100)]
            await turns(2)
            for task in tasks:
                task.cancel()
            await turns(2)
            assert all(task.cancelled() for task in tasks)
            del tasks, task
        gc.collect()

    async def main() -> None:
        before = repr(wait.subject)
        await some(1000)
        blocks = sys.getallocatedblocks()
        await some(MANY)
        assert sys.getallocatedblocks() - blocks < 1000
        assert repr(wait.subject) == before

    run(main())


def test_what_a_cancelled_one_was_woken_for_is_there_for_the_next(wait: Wait, run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(wait.call())
        await turns(2)
        wait.release()
        task.cancel()
        await turns(2)
        assert task.cancelled()
        assert at_once(wait.call()) == wait.result

    run(main())


def test_those_cancelled_when_they_were_woken_leave_nothing(
    case: tuple[Way, Callable[[Any], Wait]], run: Run
) -> None:
    way, make = case

    async def some(count: int) -> None:
        for _ in range(count // 100):
            waits = [make(way.module) for _ in range(100)]
            tasks = [asyncio.create_task(wait.call()) for wait in waits]
            await turns(2)
            for task, wait in zip(tasks, waits, strict=True):
                wait.release()
                task.cancel()
            await turns(2)
            assert all(task.cancelled() for task in tasks)
            del tasks, task, waits, wait
        gc.collect()

    async def main() -> None:
        await some(1000)
        blocks = sys.getallocatedblocks()
        await some(MANY)
        assert sys.getallocatedblocks() - blocks < 1000

    run(main())


def test_a_waiting_task_that_nobody_holds(case: tuple[Way, Callable[[Any], Wait]], run: Run) -> None:
    """A lock, a call and whoever waits, referring to each other, are one cycle that the collector takes."""
    way, make = case

    class Token:
        pass

    async def main() -> None:
        wait = make(way.module)
        wait.subject.itself = wait.subject
        call = wait.call()
        future = call.send(None)
        token = Token()
        wait.subject.token, wait.subject.call = token, call
        gone = weakref.ref(token)
        del wait, call, future, token
        gc.collect()
        assert gone() is None

    run(main())


def test_it_runs_in_the_context_of_its_task(wait: Wait, run: Run) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def main() -> int:
        variable.set(1)

        async def inside() -> int:
            variable.set(2)
            await wait.call()
            return variable.get()

        task = asyncio.create_task(inside())
        await turns(2)
        wait.release()
        assert await task == 2
        return variable.get()

    assert run(main()) == 1
