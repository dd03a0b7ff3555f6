"""yield_now and consume_budget: when a task lets the others run."""

import asyncio
import warnings
from typing import Any

import pytest

import pinloop
from pinloop import consume_budget, yield_now
from tests.api.support import only_pinloop
from tests.conftest import Run

BUDGET = 128


async def count(log: list[int], awaited: Any, times: int) -> None:
    for number in range(times):
        await awaited()
        log.append(number)


def test_yield_now_is_one_turn_for_the_others(run: Run) -> None:
    async def main() -> list[str]:
        log = []

        async def other(name: str) -> None:
            for _ in range(2):
                log.append(name)
                await yield_now()

        tasks = [asyncio.create_task(other(name)) for name in "ab"]
        assert await yield_now() is None
        log.append("-")
        await yield_now()
        log.append("-")
        await asyncio.gather(*tasks)
        return log

    assert run(main()) == ["a", "b", "-", "a", "b", "-"]


@pytest.mark.parametrize("early", [True, False], ids=["before", "while it waits"])
def test_yield_now_is_where_a_task_may_be_cancelled(run: Run, early: bool) -> None:
    async def main() -> None:
        reached = False

        async def child() -> None:
            nonlocal reached
            if early:
                task.cancel("due")
            await yield_now()
            reached = True

        task = asyncio.create_task(child())
        await yield_now()
        if not early:
            task.cancel("due")
        with pytest.raises(asyncio.CancelledError, match="due"):
            await task
        assert not reached

    run(main())


@pytest.mark.parametrize("make", [yield_now, consume_budget])
def test_they_are_coroutines_to_who_takes_one(run: Run, make: Any) -> None:
    async def main() -> None:
        call = make()
        assert asyncio.iscoroutine(call)
        assert call.__name__ == make.__name__
        assert await asyncio.create_task(call) is None
        with pytest.raises(RuntimeError, match="already awaited"):
            await call

    run(main())


@pytest.mark.parametrize("make", [yield_now, consume_budget])
def test_who_forgets_to_await_is_told(make: Any) -> None:
    with pytest.warns(RuntimeWarning, match=f"'{make.__name__}' was never awaited"):
        make()


@pytest.mark.parametrize("make", [yield_now, consume_budget])
def test_closed_unawaited_it_says_nothing(make: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().close()


def test_what_is_always_ready_keeps_nobody_waiting(run: Run) -> None:
    async def main() -> None:
        log: list[int] = []
        task = asyncio.create_task(count(log, consume_budget, 10 * BUDGET))
        seen = []
        while not task.done():
            await asyncio.sleep(0)
            seen.append(len(log))
        steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
        assert sum(steps) == 10 * BUDGET
        # One more than the budget: where it gives way it has not been counted.
        assert max(steps) <= BUDGET + 1
        if isinstance(asyncio.get_running_loop(), pinloop.Loop):
            assert len(steps) <= 12

    run(main())


@only_pinloop
def test_a_step_begins_with_the_whole_budget(run: Run) -> None:
    async def main() -> None:
        order: list[str] = []
        asyncio.get_running_loop().call_soon(order.append, "others")
        for _ in range(BUDGET):
            await consume_budget()
        order.append("all at once")
        await asyncio.sleep(0)
        assert order == ["all at once", "others"]
        asyncio.get_running_loop().call_soon(order.append, "others")
        for _ in range(BUDGET):
            await consume_budget()
        assert order == ["all at once", "others"]
        await consume_budget()
        assert order == ["all at once", "others", "others"]

    run(main())


def test_a_task_that_gives_way_may_be_cancelled(run: Run) -> None:
    async def main() -> None:
        log: list[int] = []
        task = asyncio.create_task(count(log, consume_budget, 100 * BUDGET))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert BUDGET // 2 < len(log) <= 4 * BUDGET

    run(main())


def test_they_are_public() -> None:
    assert {"yield_now", "consume_budget"} <= set(pinloop.__all__)
