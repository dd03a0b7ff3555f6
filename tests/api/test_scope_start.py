"""Children that get ready, and limits of how many run at once."""

import asyncio

import pytest

from pinloop import Scope, TaskStatus, move_on_after, scope
from tests.api.scopes import (
    fail,
    forever,
    serve,
    value,
)
from tests.conftest import Run


def test_at_most_so_many_children_run(run: Run) -> None:
    running = most = 0
    begun: list[int] = []

    async def work(i: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.append(i)
        await asyncio.sleep(0)
        running -= 1
        return i

    async def main() -> None:
        async with scope(limit=3) as s:
            assert s.limit == 3
            tasks = [s.spawn(work(i)) for i in range(20)]
            assert len(s.children) == 20
        assert [task.result() for task in tasks] == list(range(20))

    run(main())
    assert most == 3
    assert begun == list(range(20))


def test_what_waits_for_a_place_can_be_cancelled_and_never_begins(run: Run) -> None:
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await asyncio.sleep(0)

    async def main() -> None:
        gate = asyncio.Event()
        async with scope(limit=1) as s:
            s.spawn(gate.wait())
            unstarted, queued, last = (s.spawn(work(name)) for name in ("unstarted", "queued", "last"))
            unstarted.cancel()
            await asyncio.sleep(0)
            queued.cancel()
            gate.set()
        assert unstarted.cancelled()
        assert queued.cancelled()
        assert not last.cancelled()
        async with scope(limit=1) as s:
            s.spawn(forever())
            tasks = [s.spawn(work("cut")) for _ in range(3)]
            await asyncio.sleep(0)
            s.cancel()
        assert all(task.cancelled() for task in tasks)

    run(main())
    assert begun == ["last"]


def test_a_place_is_passed_on_by_who_is_cancelled_as_it_gets_it(run: Run) -> None:
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)

    async def main() -> None:
        async with scope(limit=1) as s:
            first = s.spawn(value(1))
            second, third = s.spawn(work("second")), s.spawn(work("third"))
            first.add_done_callback(lambda _: second.cancel())
        assert second.cancelled()
        assert third.done()

    run(main())
    assert begun == ["third"]


def test_errors_with_a_limit(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope(limit=1) as s:
                s.spawn(value(1))
                s.spawn(fail(KeyError("a")))
                s.spawn(fail(KeyError("never begun")))
        assert [repr(error) for error in caught.value.exceptions] == ["KeyError('a')"]
        async with scope(limit=1) as s:
            for wrong in (None, forever):
                for _ in range(2):
                    with pytest.raises(TypeError, match="coroutine"):
                        s.spawn(wrong)  # type: ignore[arg-type]
            s.spawn(value(1))
            with pytest.raises(TypeError, match="coroutine"):
                s.spawn(None)  # type: ignore[arg-type]

    run(main())


def test_start_returns_when_the_child_is_ready(run: Run) -> None:
    async def main() -> None:
        async with scope() as s:
            assert await s.start(serve, 80, name="server") == 80
            assert [child.get_name() for child in s.children] == ["server"]
            s.cancel()

    run(main())


def test_start_raises_what_the_child_raises_before_it_is_ready(run: Run) -> None:
    async def bad(*, task_status: TaskStatus) -> None:
        await fail(OSError("in use"))

    async def ends(*, task_status: TaskStatus) -> None:
        await asyncio.sleep(0)

    async def cancelled(*, task_status: TaskStatus) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        async with scope() as s:
            with pytest.raises(OSError, match="in use"):
                await s.start(bad)
            with pytest.raises(RuntimeError, match="ended before it called"):
                await s.start(ends)
            with pytest.raises(RuntimeError, match="cancelled before it called"):
                await s.start(cancelled)
            assert not s.cancel_called
            assert await s.start(serve, 1) == 1
            s.cancel()

    run(main())


def test_after_it_is_ready_a_child_of_start_is_as_any_other(run: Run) -> None:
    async def late(*, task_status: TaskStatus) -> None:
        task_status.started()
        with pytest.raises(RuntimeError, match="twice"):
            task_status.started()
        await fail(KeyError("late"))

    async def at_once(*, task_status: TaskStatus) -> None:
        task_status.started()
        raise KeyError("at once")

    async def main() -> None:
        for function in (late, at_once):
            with pytest.raises(ExceptionGroup) as caught:
                async with scope() as s:
                    assert await s.start(function) is None
                    await forever()
            assert [type(error) for error in caught.value.exceptions] == [KeyError]

    run(main())


def test_whoever_waits_in_start_and_is_cancelled_takes_the_child_along(run: Run) -> None:
    ended: list[str] = []

    async def slow(error: BaseException | None, *, task_status: TaskStatus) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            task_status.started()  # nobody is there to hear it
            ended.append("slow")
            if error is not None:
                raise error

    async def main() -> None:
        async with scope() as s:
            async with move_on_after(0.01) as inner:
                await s.start(slow, None)
            assert inner.cancelled_caught
            assert s.children == ()
            assert not s.cancel_called
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s, move_on_after(0.01):
                await s.start(slow, KeyError("on the way out"))
        assert [type(error) for error in caught.value.exceptions] == [KeyError]

    run(main())
    assert ended == ["slow", "slow"]


def test_in_a_cancelled_scope_start_begins_nothing(run: Run) -> None:
    async def child(*, task_status: TaskStatus) -> None:
        raise AssertionError("begun")

    async def main() -> None:
        async with scope() as s:
            s.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await s.start(child)
            assert s.children == ()

    run(main())


def test_an_error_that_crosses_a_cancellation_in_start_is_the_scopes(run: Run) -> None:
    async def bad(*, task_status: TaskStatus) -> None:
        await proceed.wait()
        raise KeyError("crossed")

    async def starter(s: Scope) -> None:
        await s.start(bad)

    proceed = asyncio.Event()

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                waiting = asyncio.create_task(starter(s))
                await asyncio.sleep(0)
                (child,) = s.children
                child.add_done_callback(lambda _: waiting.cancel())
                proceed.set()
                await asyncio.wait([waiting])
                assert waiting.cancelled()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]

    run(main())


def test_start_in_a_limited_scope_waits_for_a_place(run: Run) -> None:
    async def main() -> None:
        async with scope(limit=1) as s:
            first = s.spawn(value(1))
            assert await s.start(serve, 5) == 5
            assert first.done()
            s.cancel()

    run(main())
