"""Timeouts and whatever else ends a block: other errors, cancellation, other timeouts, task groups."""

import asyncio
from typing import Any

import pytest

from tests.api.support import turns
from tests.api.syncs import FIXTURES, LONG, current, for_ever
from tests.conftest import Run

way, loop_factory, sync = FIXTURES

MARKS_ERRORS = hasattr(asyncio.Timeout, "_insert_timeout_error")  # 3.14, and late 3.13s


def test_other_errors_pass(sync: Any, run: Run) -> None:
    async def main() -> None:
        for failure in (ValueError("v"), KeyboardInterrupt(), TimeoutError("own")):
            with pytest.raises(type(failure)) as caught:
                async with sync.timeout(LONG) as timeout:
                    raise failure
            assert caught.value is failure and failure.__cause__ is None
            assert not timeout.expired()

    run(main())


def test_cancelled_from_outside(sync: Any, run: Run) -> None:
    async def main() -> None:
        timeouts = []

        async def limited() -> None:
            async with sync.timeout(LONG) as timeout:
                timeouts.append(timeout)
                await for_ever()

        task = asyncio.create_task(limited())
        await turns(2)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("message",)
        assert task.cancelled() and task.cancelling() == 1
        assert not timeouts[0].expired()
        assert repr(timeouts[0]) == "<Timeout [finished]>"

    run(main())


@pytest.mark.parametrize("first", ["task", "timeout"])
def test_cancelled_from_outside_when_time_is_up(sync: Any, first: str, run: Run) -> None:
    """Both before the task runs: it was cancelled, so it must not go on."""

    async def main() -> None:
        timeouts = []

        async def limited() -> None:
            async with sync.timeout(LONG) as timeout:
                timeouts.append(timeout)
                await for_ever()

        task = asyncio.create_task(limited())
        await turns(2)
        if first == "task":
            task.cancel()
        timeouts[0].reschedule(0)
        if first == "timeout":
            asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.wait([task])
        if first == "task":
            # It runs before the timeout's callback does.
            assert task.cancelled() and not timeouts[0].expired()
        else:
            assert task.cancelled() and timeouts[0].expired()
        assert task.cancelling() == 1

    run(main())


def test_a_cancellation_that_the_block_survives(sync: Any, run: Run) -> None:
    async def main() -> None:
        async with sync.timeout(0) as timeout:
            with pytest.raises(asyncio.CancelledError):
                await for_ever()
        assert timeout.expired()
        assert current().cancelling() == 0
        await turns(2)

    run(main())


def test_a_task_that_was_cancelled_before(sync: Any, run: Run) -> None:
    """Its count of cancellations is what it was, and time being up is told as such."""

    async def main() -> None:
        current().cancel()
        with pytest.raises(asyncio.CancelledError):
            await turns(1)
        with pytest.raises(TimeoutError):
            async with sync.timeout(0):
                await for_ever()
        assert current().cancelling() == 1
        current().uncancel()

    run(main())


def test_cancelled_in_the_block_itself(sync: Any, run: Run) -> None:
    async def limited(sync: Any) -> None:
        async with sync.timeout(LONG):
            current().cancel()
            await for_ever()

    async def main() -> None:
        task = asyncio.create_task(limited(sync))
        await asyncio.wait([task])
        assert task.cancelled()

        async def raising() -> None:
            async with sync.timeout(LONG):
                raise asyncio.CancelledError

        task = asyncio.create_task(raising())
        await asyncio.wait([task])
        assert task.cancelled()

    run(main())


@pytest.mark.parametrize("inner", [0.001, LONG])
def test_one_in_another(sync: Any, inner: float, run: Run) -> None:
    async def main() -> None:
        outer = 0.001 if inner == LONG else LONG
        with pytest.raises(TimeoutError):
            async with sync.timeout(outer) as first:
                try:
                    async with sync.timeout(inner) as second:
                        await for_ever()
                except TimeoutError:
                    assert second.expired() and not first.expired()
                    raise
                except asyncio.CancelledError:
                    assert first.expired() and not second.expired()
                    raise
        assert first.expired() is (outer < inner)
        assert second.expired() is (inner < outer)
        assert current().cancelling() == 0

    run(main())


def test_both_at_the_same_moment(sync: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with sync.timeout_at(0) as first, sync.timeout_at(0) as second:
                await for_ever()
        assert first.expired() and second.expired()
        assert current().cancelling() == 0

    run(main())


def test_asyncios_in_ours_and_ours_in_asyncios(sync: Any, run: Run) -> None:
    async def main() -> None:
        for one, other in ((sync, asyncio), (asyncio, sync)):
            with pytest.raises(TimeoutError):
                async with one.timeout(LONG) as first, other.timeout(0) as second:
                    await for_ever()
            assert second.expired() and not first.expired()
            with pytest.raises(TimeoutError):
                async with one.timeout(0) as first, other.timeout(LONG) as second:
                    await for_ever()
            assert first.expired() and not second.expired()

    run(main())


def test_around_a_task_group(sync: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with sync.timeout(0.001), asyncio.TaskGroup() as group:
                tasks = [group.create_task(for_ever()) for _ in range(3)]
        assert all(task.cancelled() for task in tasks)
        assert current().cancelling() == 0
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:

                async def limited() -> None:
                    async with sync.timeout(0.001):
                        await for_ever()

                group.create_task(limited())
                other = group.create_task(for_ever())
        assert [type(each) for each in caught.value.exceptions] == [TimeoutError]
        assert other.cancelled()

    run(main())


@pytest.mark.skipif(not MARKS_ERRORS, reason="asyncio of this version tells the bare CancelledError")
def test_an_error_raised_on_account_of_it_has_it_in_its_chain(sync: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="while cancelled") as caught:
            async with sync.timeout(0):
                try:
                    await for_ever()
                finally:
                    raise ValueError("while cancelled")
        marked = caught.value.__context__
        assert type(marked) is TimeoutError
        assert type(marked.__cause__) is type(marked.__context__) is asyncio.CancelledError

        async def failing() -> None:
            try:
                await for_ever()
            finally:
                raise ValueError("in a child")

        with pytest.raises(ExceptionGroup) as group:
            async with sync.timeout(0.001), asyncio.TaskGroup() as tasks:
                tasks.create_task(failing())
        assert type(group.value.exceptions[0].__context__) is TimeoutError

    run(main())
