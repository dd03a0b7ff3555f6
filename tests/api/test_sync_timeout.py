"""timeout, timeout_at and Timeout, asyncio's and pinloop's, on both loops: they do the same."""

import asyncio
import contextlib
import gc
import os
import sys
import weakref
from typing import Any

import pytest

from tests.api.support import answer, turns
from tests.api.syncs import FIXTURES, LONG, current, for_ever, now
from tests.conftest import Run

way, loop_factory, sync = FIXTURES


def test_a_block_that_is_done_in_time(sync: Any, run: Run) -> None:
    async def main() -> None:
        before = now()
        async with sync.timeout(LONG) as timeout:
            assert type(timeout) is sync.Timeout
            assert before + LONG <= timeout.when() <= now() + LONG
            assert not timeout.expired()
            assert await answer() == 42
        assert timeout.expired() is False
        assert repr(timeout) == "<Timeout [finished]>"
        assert current().cancelling() == 0

    run(main())


def test_a_block_that_is_not(sync: Any, run: Run) -> None:
    async def main() -> None:
        before = now()
        with pytest.raises(TimeoutError) as caught:
            async with sync.timeout(0.01) as timeout:
                await for_ever()
        assert now() - before >= 0.01
        assert type(caught.value) is TimeoutError and caught.value.args == ()
        assert type(caught.value.__cause__) is asyncio.CancelledError
        assert caught.value.__suppress_context__
        assert timeout.expired() is True
        assert repr(timeout) == "<Timeout [expired]>"
        assert current().cancelling() == 0

    run(main())


def test_a_deadline(sync: Any, run: Run) -> None:
    async def main() -> None:
        when = now() + 0.01
        with pytest.raises(TimeoutError):
            async with sync.timeout_at(when) as timeout:
                assert timeout.when() == when
                await for_ever()
        assert now() >= when
        async with sync.timeout_at(when=now() + LONG):
            await answer()
        async with sync.Timeout(now() + LONG):
            await answer()
        async with sync.timeout(delay=LONG):
            await answer()

    run(main())


@pytest.mark.parametrize("make", ["timeout", "timeout_at", "Timeout"])
def test_no_deadline(sync: Any, make: str, run: Run) -> None:
    async def main() -> None:
        async with getattr(sync, make)(None) as timeout:
            assert timeout.when() is None
            assert repr(timeout) == "<Timeout [active] when=None>"
            await answer()
        assert not timeout.expired()

    run(main())


@pytest.mark.parametrize("delay", [0, -1, -1e9, 0.0])
def test_no_time_at_all(sync: Any, delay: float, run: Run) -> None:
    async def main() -> None:
        # The block is entered, and cancelled where it waits.
        reached = []
        with pytest.raises(TimeoutError):
            async with sync.timeout(delay) as timeout:
                reached.append(1)
                await for_ever()
        assert reached and timeout.expired()
        async with sync.timeout(delay) as timeout:
            pass
        assert not timeout.expired()
        await turns(3)
        assert current().cancelling() == 0

    run(main())


def test_delays_of_all_kinds(sync: Any, run: Run) -> None:
    async def main() -> None:
        for delay in (True, 10**6, 1e9, float("inf")):
            async with sync.timeout(delay) as timeout:
                assert timeout.when() >= now() + 0.5
                await answer()
            assert not timeout.expired()
        with pytest.raises(TypeError):
            async with sync.timeout("soon"):
                pass
        with pytest.raises(TypeError):
            async with sync.timeout_at("soon"):
                pass
        with pytest.raises(TypeError):
            sync.timeout()
        with pytest.raises(TypeError):
            sync.timeout(1, 2)
        assert current().cancelling() == 0

    run(main())


def test_a_deadline_that_is_no_number(sync: Any, run: Run) -> None:
    if sync is asyncio:
        pytest.skip("asyncio takes NaN, and never expires or at once")

    async def main() -> None:
        for make in (sync.timeout, sync.timeout_at, sync.Timeout):
            with pytest.raises(ValueError, match="NaN"):
                make(float("nan"))
        async with sync.timeout(LONG) as timeout:
            with pytest.raises(ValueError, match="NaN"):
                timeout.reschedule(float("nan"))
            assert timeout.when() < float("inf")

    run(main())


def test_without_a_running_loop(sync: Any) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        sync.timeout(1)
    timeout = sync.timeout_at(5)
    assert timeout.when() == 5 and not timeout.expired()
    assert repr(timeout) == "<Timeout [created]>"


def test_outside_a_task(sync: Any, run: Run) -> None:
    async def main() -> None:
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            try:
                next(sync.timeout(LONG).__aenter__().__await__())
            except RuntimeError as error:
                outcome.set_result(str(error))

        asyncio.get_running_loop().call_soon(callback)
        assert await outcome == "Timeout should be used inside a task"

    run(main())


def test_entered_twice(sync: Any, run: Run) -> None:
    async def main() -> None:
        timeout = sync.timeout(LONG)
        async with timeout:
            with pytest.raises(RuntimeError, match="Timeout has already been entered"):
                async with timeout:
                    pass
            assert not timeout.expired()
        with pytest.raises(RuntimeError, match="Timeout has already been entered"):
            async with timeout:
                pass

    run(main())


def test_left_before_it_is_entered(sync: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises((AssertionError, RuntimeError)):
            await sync.timeout(LONG).__aexit__(None, None, None)

    run(main())


def test_it_is_no_ordinary_context_manager(sync: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="context manager"), sync.timeout(LONG):
            pass

    run(main())


def test_entered_and_left_by_hand(sync: Any, run: Run) -> None:
    async def main() -> None:
        timeout = sync.timeout(LONG)
        assert await timeout.__aenter__() is timeout
        assert "active" in repr(timeout)
        assert not await timeout.__aexit__(None, None, None)
        assert repr(timeout) == "<Timeout [finished]>"
        async with contextlib.AsyncExitStack() as stack:
            timeout = await stack.enter_async_context(sync.timeout(LONG))
            assert "active" in repr(timeout)
        assert repr(timeout) == "<Timeout [finished]>"
        with pytest.raises(TimeoutError):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(sync.timeout(0))
                await for_ever()

    run(main())


# ----------------------------------------------------------------------------- its state --


def test_its_repr(sync: Any, run: Run) -> None:
    async def main() -> None:
        timeout = sync.timeout_at(12345678.123456)
        assert repr(timeout) == "<Timeout [created]>"
        async with timeout:
            assert repr(timeout) == "<Timeout [active] when=12345678.123>"
            timeout.reschedule(10**9)
            assert repr(timeout) == "<Timeout [active] when=1000000000>"
        assert repr(timeout) == "<Timeout [finished]>"
        with pytest.raises(TimeoutError):
            async with sync.timeout(0) as timeout:
                try:
                    await for_ever()
                finally:
                    assert repr(timeout) == "<Timeout [expiring]>"
                    assert timeout.expired() is True

    run(main())


def test_rescheduled(sync: Any, run: Run) -> None:
    async def main() -> None:
        async with sync.timeout(0) as timeout:
            assert timeout.reschedule(now() + LONG) is None
            await turns(3)
            timeout.reschedule(None)
            assert timeout.when() is None
            await turns(3)
        assert not timeout.expired()
        with pytest.raises(TimeoutError):
            async with sync.timeout(None) as timeout:
                timeout.reschedule(now() + 0.001)
                await for_ever()
        with pytest.raises(TimeoutError):
            async with sync.timeout(LONG) as timeout:
                timeout.reschedule(now() - 1)
                assert timeout.when() < now()
                await for_ever()
        with pytest.raises(TimeoutError):
            async with sync.timeout(LONG) as timeout:
                timeout.reschedule(0)
                timeout.reschedule(now() + 0.001)
                await for_ever()

    run(main())


def test_rescheduled_by_keyword(sync: Any, run: Run) -> None:
    async def main() -> None:
        async with sync.timeout(LONG) as timeout:
            timeout.reschedule(when=None)
            assert timeout.when() is None

    run(main())


def test_rescheduled_by_another(sync: Any, run: Run) -> None:
    """A deadline that moves on while there is progress."""

    async def main() -> None:
        async with sync.timeout(0.05) as timeout:

            def progress() -> None:
                timeout.reschedule(now() + 0.05)

            began = now()
            for delay in (0.02, 0.04, 0.06):
                asyncio.get_running_loop().call_later(delay, progress)
            with pytest.raises(asyncio.CancelledError):
                await for_ever()
            assert now() - began >= 0.11
            current().uncancel()
        assert timeout.expired()
        current().cancel()
        with pytest.raises(asyncio.CancelledError):
            await turns(1)
        current().uncancel()

    run(main())


def test_when_it_cannot_be_rescheduled(sync: Any, run: Run) -> None:
    async def main() -> None:
        timeout = sync.timeout(0)
        with pytest.raises(RuntimeError, match="Timeout has not been entered"):
            timeout.reschedule(1)
        with pytest.raises(TimeoutError):
            async with timeout:
                try:
                    await for_ever()
                finally:
                    with pytest.raises(RuntimeError, match="Cannot change state of expiring Timeout"):
                        timeout.reschedule(now() + 1)
        with pytest.raises(RuntimeError, match="Cannot change state of expired Timeout"):
            timeout.reschedule(1)
        async with sync.timeout(LONG) as timeout:
            pass
        with pytest.raises(RuntimeError, match="Cannot change state of finished Timeout"):
            timeout.reschedule(None)

    run(main())


# -------------------------------------------------------------------------- what it leaves --


def test_a_subclass(sync: Any, run: Run) -> None:
    class Named(sync.Timeout):  # type: ignore[misc]
        def __init__(self, when: float, name: str) -> None:
            super().__init__(when)
            self.name = name

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with Named(now() + 0.001, "short") as timeout:
                assert timeout.name == "short"
                await for_ever()
        assert timeout.expired()

    run(main())


@pytest.mark.parametrize("ends", ["in time", "late"])
def test_a_thousand_leave_nothing(sync: Any, ends: str, run: Run) -> None:
    many = 200 if os.environ.get("PYTHONASYNCIODEBUG") else 2000

    async def some(count: int) -> None:
        for _ in range(count):
            try:
                async with sync.timeout(LONG if ends == "in time" else 0):
                    await turns(1 if ends == "in time" else 3)
            except TimeoutError:
                assert ends == "late"
        gc.collect()

    async def main() -> None:
        await some(many)
        blocks = sys.getallocatedblocks()
        await some(5 * many)
        assert sys.getallocatedblocks() - blocks < 500

    run(main())


def test_attributes_and_weak_references(sync: Any) -> None:
    timeout = sync.timeout_at(LONG)
    timeout.name = "name"
    assert weakref.ref(timeout)() is timeout
    assert timeout.name == "name"


def test_it_does_not_keep_its_block_alive(sync: Any, run: Run) -> None:
    class Token:
        pass

    async def main() -> None:
        kept = []

        async def limited(token: Token) -> None:
            async with sync.timeout(LONG) as timeout:
                kept.append(timeout)
                await turns(2)

        token = Token()
        gone = weakref.ref(token)
        await asyncio.create_task(limited(token))
        del token
        gc.collect()
        assert gone() is None
        assert not kept[0].expired()

    run(main())


def test_the_timer_is_gone_with_the_block(sync: Any, run: Run) -> None:
    """A loop that is asked to stop when nothing is left does not wait for a timeout that was not needed."""

    async def main() -> None:
        for delay in (0.002, 0.02, 0.2, 2):  # until it is left in time, which a busy machine may not manage
            with contextlib.suppress(TimeoutError):
                async with sync.timeout(delay) as timeout:
                    await turns(2)
                break
        cancelled = []
        try:
            await asyncio.sleep(2 * delay)
        except asyncio.CancelledError:
            cancelled.append(1)
        assert not cancelled and not timeout.expired()
        assert current().cancelling() == 0

    run(main())
