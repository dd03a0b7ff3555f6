"""Scopes in scopes and beside what asyncio has, shields, and `checkpoint`."""

import asyncio
from typing import Any

import pytest

from pinloop import move_on_after, scope
from pinloop.scopes import checkpoint, current_scope
from tests.api.scopes import (
    COUNTS_HOLD,
    fail,
    forever,
    nothing_is_left,
)
from tests.api.support import this_task, turns
from tests.conftest import Run


def test_scopes_in_scopes(run: Run) -> None:
    async def main() -> None:
        async with scope() as outer:
            async with scope() as inner:
                inner.cancel()
                await forever()
            assert inner.cancelled_caught
            assert not outer.cancel_called
            async with scope() as inner:
                child = inner.spawn(forever())
                outer.cancel()
                await forever()
            raise AssertionError("the outer's cancellation ended here")
        assert outer.cancelled_caught
        assert not inner.cancelled_caught
        assert not inner.cancel_called
        assert child.cancelled()
        await nothing_is_left()

    run(main())


@pytest.mark.parametrize("first", ["outer", "inner"])
def test_both_deadlines_have_passed(run: Run, first: str) -> None:
    async def main() -> None:
        async with scope() as outer, scope() as inner:
            for s in (outer, inner) if first == "outer" else (inner, outer):
                s.deadline = 0
            await forever()
        assert outer.cancelled_caught
        assert not inner.cancelled_caught
        await nothing_is_left()

    run(main())


def test_with_timeouts(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                async with scope() as s:
                    child = s.spawn(forever())
        assert child.cancelled()
        assert not s.cancelled_caught
        async with move_on_after(0.001) as s:
            async with asyncio.timeout(60):
                await forever()
        assert s.cancelled_caught
        async with scope() as s:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await forever()
            await asyncio.sleep(0)
        assert not s.cancel_called
        await nothing_is_left()

    run(main())


def test_with_task_groups(run: Run) -> None:
    async def main() -> None:
        async with scope() as s, asyncio.TaskGroup() as group:
            member = group.create_task(forever())
            s.cancel()
        assert member.cancelled()
        assert s.cancelled_caught
        await nothing_is_left()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(KeyError()))
                async with scope() as s:
                    child = s.spawn(forever())
        assert child.cancelled()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                s.spawn(forever())
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail(KeyError()))
        (inner,) = caught.value.exceptions
        assert isinstance(inner, ExceptionGroup)
        if COUNTS_HOLD:
            await nothing_is_left()

    run(main())


def test_a_shield_holds_off_the_scopes_around_it(run: Run) -> None:
    async def main() -> None:
        async with scope() as outer:
            async with scope(shield=True) as inner:
                assert inner.shield
                child = inner.spawn(asyncio.sleep(0.002, "done"))
                outer.cancel("now")
                await turns(3)
                assert await asyncio.sleep(0, "body") == "body"
            assert child.result() == "done"
            assert this_task().cancelling() == 1
            with pytest.raises(asyncio.CancelledError, match="now"):
                await asyncio.sleep(0)
        assert not inner.cancel_called
        await nothing_is_left()

    run(main())


def test_a_child_behind_a_shield(run: Run) -> None:
    async def child() -> None:
        async with scope():
            async with scope(shield=True) as inner:
                inner.spawn(asyncio.sleep(0))
                entered.set()
                await proceed.wait()
                seen.append("shielded")
            await asyncio.sleep(0)
            seen.append("must not be reached")

    entered, proceed = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def main() -> None:
        async with scope() as s:
            task = s.spawn(child())
            await entered.wait()
            s.cancel()
            asyncio.get_running_loop().call_soon(proceed.set)
        assert task.cancelled()
        await nothing_is_left()

    run(main())
    assert seen == ["shielded"]


def test_a_shield_in_the_cleanup_does_not_bring_the_cancellation_again(run: Run) -> None:
    async def main() -> None:
        async with scope() as s:
            s.cancel()
            try:
                await forever()
            finally:
                async with scope(shield=True):
                    await turns(2)
                    checkpoint()
                await turns(2)
                cleaned.append(1)
        await nothing_is_left()

    cleaned: list[int] = []
    run(main())
    assert cleaned == [1]


def test_a_shield_does_not_hold_off_its_own_cancellation(run: Run) -> None:
    async def main() -> None:
        async with move_on_after(0.001, shield=True) as s:
            await forever()
        assert s.cancelled_caught
        async with scope() as outer:
            async with scope(shield=True) as s:
                outer.cancel()
                s.cancel()
                await forever()
            assert s.cancelled_caught
            await forever()
        assert outer.cancelled_caught
        await nothing_is_left()

    run(main())


def test_a_shield_taken_away_lets_through_what_it_held(run: Run) -> None:
    async def main() -> None:
        async with scope() as outer, scope(shield=True) as inner:
            child = inner.spawn(forever())
            outer.cancel()
            await turns(2)
            inner.shield = False
            await forever()
        assert child.cancelled()
        assert outer.cancelled_caught
        await nothing_is_left()
        async with scope() as outer, scope() as inner:
            inner.shield = True
            outer.cancel()
            await turns(2)
        await nothing_is_left()

    run(main())


def test_shields_in_shields(run: Run) -> None:
    async def main() -> None:
        async with scope() as outer:
            async with scope(shield=True):
                async with scope() as middle:
                    async with scope(shield=True):
                        outer.cancel()
                        middle.cancel()
                        await turns(2)
                    with pytest.raises(asyncio.CancelledError):
                        await asyncio.sleep(0)
                    await turns(2)
                await turns(2)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
        await nothing_is_left()

    run(main())


def test_a_shield_and_a_plain_cancellation(run: Run) -> None:
    async def in_the_body() -> None:
        async with scope(shield=True) as s:
            children.append(s.spawn(forever()))
            await forever()

    async def in_the_end() -> None:
        async with scope(shield=True) as s:
            children.append(s.spawn(proceed.wait()))
        reached.append(1)

    children: list[asyncio.Task[Any]] = []
    reached: list[int] = []
    proceed = asyncio.Event()

    async def main() -> None:
        task = asyncio.create_task(in_the_body())
        await turns(2)
        task.cancel("plain")
        with pytest.raises(asyncio.CancelledError, match="plain"):
            await task
        assert children.pop().cancelled()

        task = asyncio.create_task(in_the_end())
        await turns(2)
        for _ in range(3):
            task.cancel("plain")
            await turns(3)
        assert not task.done()
        proceed.set()
        with pytest.raises(asyncio.CancelledError, match="plain"):
            await task
        assert children[0].result() is True
        assert task.cancelling() == 3

        proceed.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001) as timeout:
                async with scope(shield=True) as s:
                    s.spawn(in_time(timeout))
        await nothing_is_left()

    async def in_time(timeout: asyncio.Timeout) -> None:
        while not timeout.expired():
            await asyncio.sleep(0)
        await turns(3)

    run(main())
    assert reached == []


def test_checkpoint_raises_as_long_as_the_scope_lasts(run: Run) -> None:
    async def main() -> None:
        checkpoint()
        assert current_scope() is None
        async with scope() as outer:
            assert current_scope() is outer
            checkpoint()
            outer.cancel("gone")
            for _ in range(3):
                with pytest.raises(asyncio.CancelledError, match="gone"):
                    checkpoint()
            async with scope() as inner:
                assert current_scope() is inner
                with pytest.raises(asyncio.CancelledError, match="gone"):
                    checkpoint()
                inner.shield = True
                checkpoint()
            assert current_scope() is outer
            checkpoint()
        assert outer.cancelled_caught
        assert current_scope() is None
        checkpoint()
        await nothing_is_left()

    run(main())


def test_checkpoint_in_children_and_in_others(run: Run) -> None:
    async def child() -> None:
        assert current_scope() is not None
        try:
            await forever()
        finally:
            with pytest.raises(asyncio.CancelledError):
                checkpoint()

    async def grandchild() -> None:
        async with scope() as s:
            s.spawn(child())

    async def other() -> None:
        assert current_scope() is None  # it was only made there
        started.set()
        await proceed.wait()
        checkpoint()

    started, proceed = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with scope() as s:
            s.spawn(child())
            s.spawn(grandchild())
            task = asyncio.create_task(other())
            await started.wait()
            await turns(2)
            s.cancel()
            asyncio.get_running_loop().call_soon(lambda: seen.append(current_scope()))
        proceed.set()
        await task
        assert seen == [None]

    seen: list[object] = []
    run(main())
