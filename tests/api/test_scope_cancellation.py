"""Cancellation of scopes: where it goes and where it ends, shields, and scopes beside what asyncio has."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pinloop import Scope, fail_after, move_on_after, scope
from pinloop.scopes import checkpoint, current_scope
from tests.conftest import Run

COUNTS_HOLD = sys.version_info >= (3, 13)
"""Before, a TaskGroup may leave a request behind whose child fails as it waits, and may swallow one."""

counts_hold = pytest.mark.skipif(
    not COUNTS_HOLD,
    reason="before 3.13 a cancellation that an error took the place of cannot be asked for again",
)


async def forever() -> None:
    await asyncio.Event().wait()


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def turns(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def nothing_is_left() -> None:
    """No request counts, and none waits for the next await."""
    assert this_task().cancelling() == 0
    await asyncio.sleep(0)


# ------------------------------------------------------------------- cancel --


def test_cancel_ends_the_body_and_the_children(run: Run) -> None:
    async def main() -> None:
        async with scope() as s:
            children = [s.spawn(forever()) for _ in range(3)]
            asyncio.get_running_loop().call_soon(s.cancel, "enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await forever()
            await turns(3)  # once is all: an await that is not pinloop's goes on
        assert all(child.cancelled() for child in children)
        assert s.cancel_called
        assert s.cancelled_caught
        assert s.cancel_reason == "enough"
        await nothing_is_left()

    run(main())


def test_cancel_from_the_body_and_from_a_child(run: Run) -> None:
    async def stop(s: Scope) -> None:
        s.cancel()
        s.cancel("again")
        await forever()

    async def main() -> None:
        async with scope() as s:
            s.spawn(forever())
            s.cancel()
        await nothing_is_left()
        async with scope() as s:
            stopper = s.spawn(stop(s))
            await forever()
        assert stopper.cancelled()
        assert s.cancel_reason is None
        await nothing_is_left()
        async with scope() as s:
            s.cancel()  # and nothing awaits it
        assert not s.cancelled_caught
        await nothing_is_left()

    run(main())


def test_a_scope_cancelled_before_it_is_entered(run: Run) -> None:
    async def main() -> None:
        s = scope()
        s.cancel("early")
        async with s:
            child = s.spawn(forever())
            await forever()
        assert child.cancelled()
        assert s.cancelled_caught
        await nothing_is_left()

    run(main())


def test_a_child_spawned_into_a_cancelled_scope_never_begins(run: Run) -> None:
    begun: list[int] = []

    async def child() -> None:
        begun.append(1)

    async def main() -> None:
        async with scope() as s:
            s.cancel()
            task = s.spawn(child())
        assert task.cancelled()

    run(main())
    assert begun == []


def test_each_task_is_told_once(run: Run) -> None:
    async def careful(name: str) -> None:
        try:
            await forever()
        finally:
            await turns(5)
            cleaned.append(name)

    async def nested() -> None:
        async with scope() as inner:
            inner.spawn(careful("grandchild"))
            await careful("child")

    cleaned: list[str] = []

    async def main() -> None:
        async with scope() as s:
            s.spawn(nested())
            s.spawn(careful("other"))
            await turns(2)
            s.spawn(fail(KeyError()))
            await careful("body")

    with pytest.raises(ExceptionGroup):
        run(main())
    assert sorted(cleaned) == ["body", "child", "grandchild", "other"]


def test_errors_after_the_cancellation_are_not_lost(run: Run) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        finally:
            raise KeyError("late")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                s.spawn(stubborn())
                await turns(1)
                s.cancel()
                await forever()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert not s.cancelled_caught
        await nothing_is_left()

    run(main())


def test_a_deep_tree_is_cancelled(run: Run) -> None:
    async def level(n: int) -> None:
        nonlocal ended
        try:
            async with scope() as s:
                if n:
                    s.spawn(level(n - 1))
                else:
                    bottom.set()
                await forever()
        finally:
            ended += 1

    ended = 0

    async def main() -> None:
        async with scope() as s:
            s.spawn(level(2000))
            await bottom.wait()
            s.cancel()

    bottom = asyncio.Event()
    run(main())
    assert ended == 2001


# ------------------------------------------------------------- from outside --


def test_a_cancellation_from_outside_passes(run: Run) -> None:
    async def inner(body: Callable[[], Awaitable[None]]) -> None:
        async with scope() as s:
            children.append(s.spawn(forever()))
            await body()

    children: list[asyncio.Task[None]] = []

    async def main() -> None:
        for body in (forever, lambda: asyncio.sleep(0)):
            task = asyncio.create_task(inner(body))
            await turns(4)
            task.cancel("from outside")
            with pytest.raises(asyncio.CancelledError, match="from outside"):
                await task
            assert children.pop().cancelled()

    run(main())


@pytest.mark.parametrize("late", ["task", "timeout", "scope"])
def test_a_cancellation_after_the_scopes_own_is_not_swallowed(run: Run, late: str) -> None:
    # CPython 155433: TaskGroup lost what came while it waited for its children to clean up.
    async def careful() -> None:
        try:
            await forever()
        finally:
            cleaning.set()
            await proceed.wait()

    async def inner() -> None:
        async with scope() as s:
            s.spawn(careful())
            await turns(2)
            s.cancel()
        reached.append("after the scope")
        await asyncio.sleep(0)

    async def by_scope() -> None:
        async with scope() as outer:
            asyncio.get_running_loop().call_soon(cancels.append, outer.cancel)
            await inner()
        assert outer.cancelled_caught

    async def by_timeout() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                loop = asyncio.get_running_loop()
                cancels.append(lambda: timeout.reschedule(loop.time()))
                await inner()

    cleaning, proceed = asyncio.Event(), asyncio.Event()
    reached: list[str] = []
    cancels: list[Callable[[], object]] = []

    async def main() -> None:
        task = asyncio.create_task({"task": inner, "timeout": by_timeout, "scope": by_scope}[late]())
        await cleaning.wait()
        await turns(1)
        if late == "task":
            task.cancel("message")
        else:
            cancels[0]()
        await turns(3)
        proceed.set()
        if late == "task":
            with pytest.raises(asyncio.CancelledError, match="message"):
                await task
        else:
            await task
        assert task.cancelling() == (late == "task")

    run(main())
    assert reached == []


def test_a_body_that_replaces_the_cancellation_leaves_the_counts_right(run: Run) -> None:
    # CPython 95289: TaskGroup did not take its request back then.
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                s.spawn(fail(KeyError()))
                try:
                    await forever()
                except asyncio.CancelledError:
                    raise ValueError from None
        assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError]
        await nothing_is_left()
        async with scope() as s:
            s.cancel()
            try:
                await forever()
            except asyncio.CancelledError:
                pass
        await nothing_is_left()
        assert not s.cancelled_caught  # it was the body that caught it

    run(main())


@pytest.mark.parametrize(
    "groups",
    [
        (scope, scope),
        pytest.param((asyncio.TaskGroup, scope), marks=counts_hold),
        pytest.param((scope, asyncio.TaskGroup), marks=counts_hold),
    ],
    ids=["scopes", "scope in TaskGroup", "TaskGroup in scope"],
)
def test_inner_and_outer_cancelled_at_once(run: Run, groups: tuple[Any, Any]) -> None:
    # CPython 116720: the inner of two groups swallowed the outer's cancellation.
    outer_group, inner_group = groups
    reached: list[str] = []

    def spawn(group: Any, coro: Any) -> None:
        group.spawn(coro) if isinstance(group, Scope) else group.create_task(coro)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with outer_group() as outer:
                try:
                    async with inner_group() as inner:
                        spawn(inner, fail(KeyError("inner")))
                        spawn(outer, fail(KeyError("outer")))
                        await forever()
                except* KeyError:
                    reached.append("handler")
                await asyncio.sleep(0)
                reached.append("must not be reached")
        assert [repr(error) for error in caught.value.exceptions] == ["KeyError('outer')"]
        await nothing_is_left()

    run(main())
    assert reached == ["handler"]


@counts_hold
def test_an_error_does_not_lose_the_cancellation_from_outside(run: Run) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        finally:
            raise KeyError("late")

    async def inner() -> None:
        with pytest.raises(ExceptionGroup):
            async with scope() as s:
                s.spawn(stubborn())
                await forever()
        reached.append("handler")
        await asyncio.sleep(0)
        reached.append("must not be reached")

    reached: list[str] = []

    async def main() -> None:
        task = asyncio.create_task(inner())
        await turns(2)
        task.cancel("outside")
        with pytest.raises(asyncio.CancelledError, match="outside"):
            await task
        assert task.cancelling() == 1

    run(main())
    assert reached == ["handler"]


def test_an_error_does_not_lose_the_cancellation_of_the_scope_around(run: Run) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        finally:
            raise KeyError("late")

    reached: list[str] = []

    async def main() -> None:
        async with scope() as outer:
            with pytest.raises(ExceptionGroup):
                async with scope() as s:
                    s.spawn(stubborn())
                    await turns(1)
                    outer.cancel()
                    await forever()
            reached.append("handler")
            await asyncio.sleep(0)
            reached.append("must not be reached")
        await nothing_is_left()

    run(main())
    assert reached == ["handler"]


def test_an_error_behind_a_shield_does_not_bring_what_is_held_early(run: Run) -> None:
    async def main() -> None:
        task = this_task()
        async with scope() as outer:
            async with scope(shield=True) as s:
                outer.cancel()
                with pytest.raises(ExceptionGroup):
                    async with scope() as inner:
                        inner.spawn(fail(KeyError()))
                        await forever()
                await turns(2)
                assert task.cancelling() == 0
                assert not s.cancel_called
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
        await nothing_is_left()

    run(main())


def test_cancel_and_an_error_of_the_body(run: Run) -> None:
    # CPython 108951: a way to end a group early, that does not hide errors.
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                s.spawn(forever())
                s.cancel()
                raise ValueError("body")
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        await nothing_is_left()

    run(main())


def test_in_the_cleanup_of_a_cancelled_task(run: Run) -> None:
    async def inner() -> None:
        try:
            await forever()
        finally:
            async with move_on_after(0.001) as s:
                await forever()
            assert s.cancelled_caught
            async with scope() as s:
                assert await s.spawn(asyncio.sleep(0, "flushed")) == "flushed"
            with pytest.raises(TimeoutError):
                async with fail_after(0.001):
                    await forever()
            assert this_task().cancelling() == 1
            cleaned.append(1)

    cleaned: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(inner())
        await turns(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run(main())
    assert cleaned == [1]


def test_a_request_that_waits_when_the_scope_is_entered_is_the_outside_s(run: Run) -> None:
    async def inner() -> None:
        this_task().cancel()
        async with scope() as s:
            s.cancel()
            await forever()

    async def main() -> None:
        task = asyncio.create_task(inner())
        await asyncio.wait([task])
        assert task.cancelled()

    run(main())


def test_a_cancellation_without_a_request_passes(run: Run) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel("the future's")
        with pytest.raises(asyncio.CancelledError, match="the future's"):
            async with scope():
                await future
        await nothing_is_left()

    run(main())


# ------------------------------------------------------------------- nested --


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


# ------------------------------------------------------------------- shield --


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


# --------------------------------------------------------------- checkpoint --


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
