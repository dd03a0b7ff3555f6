"""Cancellation of scopes, from within and from outside."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pinloop import Scope, fail_after, move_on_after, scope
from tests.api.scopes import (
    counts_hold,
    fail,
    forever,
    nothing_is_left,
)
from tests.api.support import this_task, turns
from tests.conftest import Run


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
