"""What scopes refuse."""

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pinloop import Scope, fail_after, fail_at, move_on_after, move_on_at, scope
from tests.api.scopes import (
    forever,
    serve,
)
from tests.conftest import Context, Run


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="limit must be 1 or more, not 0"):
        scope(limit=0)
    with pytest.raises(TypeError, match="limit must be an integer or None, not float"):
        scope(limit=1.5)  # type: ignore[arg-type]
    makers: list[Callable[[Any], Scope]] = [scope, move_on_at, fail_at, move_on_after, fail_after]
    for make in makers:
        for wrong in (-1, -math.inf, math.nan):
            with pytest.raises(ValueError, match="must be 0 or more, not"):
                make(wrong)
        with pytest.raises(TypeError, match="must be a number or None, not str"):
            make("1")


def test_a_deadline_is_checked_when_it_is_set(run: Run) -> None:
    async def main() -> None:
        async with move_on_after(60) as s:
            before = s.deadline
            with pytest.raises(ValueError, match="deadline must be 0 or more, not -1"):
                s.deadline = -1
            with pytest.raises(ValueError, match="nan"):
                s.deadline = math.nan
            with pytest.raises(TypeError, match="not list"):
                s.deadline = []  # type: ignore[assignment]
            assert s.deadline == before

    run(main())


def test_spawning_what_is_no_coroutine(run: Run) -> None:
    async def main() -> None:
        async with scope() as s:
            for wrong in (None, forever, asyncio.get_running_loop().create_future()):
                with pytest.raises(TypeError, match="coroutine"):
                    s.spawn(wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="coroutine"):
                await s.start(lambda *, task_status: 5)  # type: ignore[arg-type, return-value]
            assert s.children == ()

    run(main())


def test_a_scope_that_is_not_open(run: Run) -> None:
    async def main() -> None:
        s = scope()
        with pytest.raises(RuntimeError, match="has not been entered"):
            s.spawn(forever())
        with pytest.raises(RuntimeError, match="has not been entered"):
            await s.start(serve, 1)
        with pytest.raises(RuntimeError, match="cannot be left"):
            await s.__aexit__(None, None, None)
        async with s:
            with pytest.raises(RuntimeError, match="entered once"):
                await s.__aenter__()
        with pytest.raises(RuntimeError, match="takes no more children"):
            s.spawn(forever())
        with pytest.raises(RuntimeError, match="entered once"):
            await s.__aenter__()
        s.cancel()  # as that of a task that is done
        assert not s.cancel_called

    run(main())


def test_from_another_thread_or_loop(run: Run, loop: asyncio.AbstractEventLoop) -> None:
    async def elsewhere(s: Scope) -> None:
        for use in (lambda: s.spawn(forever()), s.cancel, lambda: setattr(s, "deadline", 1.0)):
            with pytest.raises(RuntimeError, match="only in the thread of its loop"):
                use()

    def in_thread(s: Scope) -> None:
        try:
            with pytest.raises(RuntimeError, match="only in the thread of its loop"):
                s.spawn(forever())
            with pytest.raises(RuntimeError, match="only in the thread of its loop"):
                s.cancel()
            loop.run_until_complete(elsewhere(s))
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []

    async def main() -> None:
        async with scope() as s:
            thread = threading.Thread(target=in_thread, args=(s,))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert not s.cancel_called
        if errors:
            raise errors[0]

    run(main())


def test_outside_of_a_task() -> None:
    coro = scope().__aenter__()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


def test_left_by_another_task(run: Run, loop_errors: list[Context]) -> None:
    async def enter(s: Scope) -> None:
        await s.__aenter__()
        children.append(s.spawn(forever()))
        await forever()

    children: list[asyncio.Task[None]] = []

    async def main() -> None:
        s = scope()
        host = asyncio.create_task(enter(s))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="left by another task"):
            await s.__aexit__(None, None, None)
        assert children[0].cancelled()
        assert not host.done()  # the scope is gone, and its host goes on
        host.cancel()
        await asyncio.wait([host])
        assert host.cancelled()

    run(main())


def test_left_in_the_wrong_order(run: Run) -> None:
    async def main() -> None:
        outer, inner = scope(), scope()
        await outer.__aenter__()
        await inner.__aenter__()
        with pytest.raises(RuntimeError, match="was left before"):
            await outer.__aexit__(None, None, None)
        await inner.__aexit__(None, None, None)

    run(main())


def test_a_host_that_is_closed_reports_what_its_children_raise(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context]
) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        finally:
            raise KeyError("late")

    async def main() -> None:
        async with scope() as s:
            s.spawn(stubborn())
            await forever()

    async def close() -> None:
        host = asyncio.create_task(main())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        coro: Any = host.get_coro()
        coro.close()
        host.cancel()  # it has nothing to run any longer
        await asyncio.wait([host])
        with pytest.raises(RuntimeError, match="already awaited"):
            host.result()

    loop.run_until_complete(close())
    assert [repr(context["exception"]) for context in loop_errors] == ["KeyError('late')"]
    loop_errors.clear()
