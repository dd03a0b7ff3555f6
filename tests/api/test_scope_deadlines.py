"""Deadlines of scopes."""

import asyncio
import math
import sys

import pytest

from pinloop import fail_after, fail_at, move_on_after, move_on_at, scope, testing
from tests.api.laws import LAW_LOOPS
from tests.api.scopes import (
    cancelling,
    forever,
)
from tests.conftest import Run


def test_move_on(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for make in (lambda: move_on_after(0.01), lambda: move_on_at(loop.time() + 0.01)):
            before = loop.time()
            async with make() as s:
                assert s.deadline == pytest.approx(before + 0.01, abs=0.5)
                child = s.spawn(forever())
                await forever()
            assert s.cancelled_caught
            assert child.cancelled()
            assert loop.time() >= before + 0.009
        async with move_on_after(60) as s:
            pass
        assert not s.cancel_called
        assert not s.cancelled_caught
        async with move_on_after(None) as s:
            assert s.deadline is None
        for never in (math.inf, sys.float_info.max, 10**18):
            async with move_on_after(never) as s:
                await asyncio.sleep(0)
            assert not s.cancel_called

    run(main())


def test_fail(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for make in (lambda: fail_after(0.01), lambda: fail_at(loop.time() + 0.01)):
            with pytest.raises(TimeoutError) as caught:
                async with make() as s:
                    await forever()
            assert isinstance(caught.value.__cause__, asyncio.CancelledError)
            assert s.cancelled_caught
            with pytest.raises(TimeoutError):  # while only children run, too
                async with make() as s:
                    s.spawn(forever())
        async with fail_after(60) as s:
            s.cancel()  # not by the deadline
            await forever()
        assert s.cancelled_caught

    run(main())


def test_a_deadline_that_nothing_was_cut_short_by(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with fail_after(0) as s:
            while loop.time() < (s.deadline or 0):
                pass
        assert s.cancel_called
        assert not s.cancelled_caught
        await asyncio.sleep(0)  # and nothing of it is left
        assert cancelling() == 0

    run(main())


def test_a_deadline_that_is_past_cancels_at_the_first_await(run: Run) -> None:
    async def main() -> None:
        reached = []
        async with move_on_at(0) as s:
            reached.append("body")
            await asyncio.sleep(0)
            reached.append("not here")
        assert reached == ["body"]
        assert s.cancelled_caught

    run(main())


def test_deadlines_can_be_changed(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with move_on_after(60) as s:
            s.deadline = loop.time() + 0.01
            await forever()
        assert s.cancelled_caught
        async with move_on_after(60) as s:
            s.deadline = loop.time() - 1
            await forever()
        assert s.cancelled_caught
        async with move_on_after(0.01) as s:
            s.deadline = None
            await asyncio.sleep(0.03)
        assert not s.cancel_called
        s = move_on_after(0)
        s.deadline = loop.time() + 60
        async with s:
            await asyncio.sleep(0)
        assert not s.cancel_called
        s.deadline = 0.0  # over: nothing to cancel

    run(main())


@pytest.mark.parametrize("loop", LAW_LOOPS)
def test_deadlines_fire_in_order(loop: str) -> None:
    async def wait(delay: float) -> None:
        async with move_on_after(delay):
            await forever()
        order.append(delay)

    order: list[float] = []
    delays = [4, 1, 5, 2, 3]

    async def main() -> None:
        async with scope() as s:
            for delay in delays:
                s.spawn(wait(delay))

    testing.run(main(), loop=loop)
    assert order == sorted(delays)
