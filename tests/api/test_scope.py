"""Scopes: children and their errors, deadlines, limits, `start`, and what is refused."""

import asyncio
import gc
import math
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import pinloop
from pinloop import Scope, TaskStatus, fail_after, fail_at, move_on_after, move_on_at, scope
from tests.conftest import Context, Run


async def forever() -> None:
    await asyncio.Event().wait()


async def value(result: Any) -> Any:
    await asyncio.sleep(0)
    return result


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


# ---------------------------------------------------------------- children --


def test_a_scope_waits_for_its_children(run: Run) -> None:
    async def main() -> None:
        async with scope() as s:
            assert isinstance(s, Scope)
            first, second = s.spawn(value(1)), s.spawn(value(2), "second")
            assert s.children == (first, second)
            assert isinstance(first, asyncio.Task)
            assert second.get_name() == "second"
        assert (first.result(), second.result()) == (1, 2)
        assert s.children == ()
        assert not s.cancel_called
        assert not s.cancelled_caught

    run(main())


def test_children_may_spawn_while_the_body_is_over(run: Run) -> None:
    async def parent(s: Scope, depth: int) -> None:
        await asyncio.sleep(0)
        if depth:
            s.spawn(parent(s, depth - 1))
        else:
            ended.append(depth)

    ended: list[int] = []

    async def main() -> None:
        async with scope() as s:
            s.spawn(parent(s, 10))

    run(main())
    assert ended == [0]


def test_a_callback_and_another_task_may_spawn(run: Run) -> None:
    async def child() -> None:
        seen.append(pinloop.scopes.current_scope())

    seen: list[object] = []

    async def main() -> None:
        async with scope() as s:
            spawned = asyncio.Event()

            def callback() -> None:
                s.spawn(child())
                spawned.set()

            async def other() -> None:
                async with scope():
                    s.spawn(child())

            asyncio.get_running_loop().call_soon(callback)
            await asyncio.create_task(other())
            await spawned.wait()
            s.spawn(child())
        assert seen == [s, s, s]

    run(main())


def test_a_failing_child_cancels_the_rest(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                sleeper = s.spawn(forever())
                s.spawn(fail(KeyError("a")))
                await forever()
        assert [repr(error) for error in caught.value.exceptions] == ["KeyError('a')"]
        assert caught.value.message == "unhandled errors in a scope"
        assert sleeper.cancelled()
        assert s.cancel_called
        assert not s.cancelled_caught
        assert cancelling() == 0

    run(main())


def test_all_errors_are_in_the_group_the_bodys_last(run: Run) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        finally:
            raise KeyError("child")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope() as s:
                s.spawn(stubborn())
                await asyncio.sleep(0)
                raise ValueError("body")
        assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError]
        assert caught.value.__suppress_context__

    run(main())


def test_a_body_without_children_fails_as_it_is(run: Run) -> None:
    async def main() -> None:
        for make in (scope, lambda: move_on_after(60), lambda: fail_after(60)):
            with pytest.raises(ValueError, match="body"):
                async with make():
                    raise ValueError("body")
        with pytest.raises(ExceptionGroup):
            async with scope() as s:
                s.spawn(value(1))
                raise ValueError("body")

    run(main())


@pytest.mark.parametrize("where", ["child", "body"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_and_other_errors_are_reported(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], kind: type[BaseException], where: str
) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        finally:
            raise KeyError("lost")

    async def main() -> None:
        async with scope() as s:
            s.spawn(stubborn())
            await asyncio.sleep(0)
            if where == "body":
                raise kind(3)
            s.spawn(fail(kind(3)))
            await forever()

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    if not task.done():  # the child's went through the loop first
        with pytest.raises(kind):
            loop.run_until_complete(task)
    assert [repr(context["exception"]) for context in loop_errors] == ["KeyError('lost')"]
    loop_errors.clear()


def test_closing_a_generator_in_a_scope(run: Run) -> None:
    async def numbers() -> Any:
        async with scope() as s:
            children.append(s.spawn(forever()))
            yield 1

    children: list[asyncio.Task[None]] = []

    async def main() -> None:
        generator = numbers()
        assert await anext(generator) == 1
        await generator.aclose()
        assert children[0].cancelled()

    run(main())


def test_a_scope_keeps_nothing_alive(run: Run) -> None:
    class Thing:
        pass

    async def hold(thing: Thing) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            thing = Thing()
            gone = weakref.ref(thing)
            async with scope() as s:
                s.spawn(hold(thing))
                del thing
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert gone() is None  # a scope that is open for long keeps no children that have ended
            left = weakref.ref(s)
            del s
            assert left() is None
        finally:
            gc.enable()

    run(main())


def test_errors_are_freed_at_once(run: Run) -> None:
    class Failure(Exception):
        pass

    async def fail_here() -> None:
        await asyncio.sleep(0)
        raise Failure

    async def children() -> None:
        async with scope() as s:
            s.spawn(fail_here())
            s.spawn(forever())

    async def body() -> None:
        async with scope() as s:
            s.spawn(forever())
            await fail_here()

    async def alone() -> None:
        async with scope():
            await fail_here()

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            for function in (children, body, alone):
                try:
                    await function()
                except* Failure as group:
                    failure = weakref.ref(group.exceptions[0])
                    del group
                await asyncio.sleep(0)
                assert failure() is None, function.__name__
        finally:
            gc.enable()

    run(main())


def test_eager_tasks(run: Run) -> None:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("eager tasks come with Python 3.12")

    async def stop(s: Scope) -> None:
        assert pinloop.scopes.current_scope() is s
        s.cancel()
        with pytest.raises(asyncio.CancelledError):
            pinloop.scopes.checkpoint()
        await forever()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with scope() as s:
            done = s.spawn(asyncio.sleep(0, 5))
            cancelled = s.spawn(stop(s))
        assert done.done()
        assert cancelled.cancelled()
        assert s.cancelled_caught
        assert cancelling() == 0
        with pytest.raises(ExceptionGroup):
            async with scope() as s:
                s.spawn(fail_now())

    async def fail_now() -> None:
        raise ValueError

    run(main())


# --------------------------------------------------------------- deadlines --


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


def test_deadlines_fire_in_order(run: Run) -> None:
    async def wait(delay: float) -> None:
        async with move_on_after(delay):
            await forever()
        order.append(delay)

    order: list[float] = []
    delays = [0.004, 0.001, 0.005, 0.002, 0.003]

    async def main() -> None:
        async with scope() as s:
            for delay in delays:
                s.spawn(wait(delay))

    run(main())
    assert order == sorted(delays)


# -------------------------------------------------------------------- limit --


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


# -------------------------------------------------------------------- start --


async def serve(port: int, *, task_status: TaskStatus) -> None:
    await asyncio.sleep(0)
    task_status.started(port)
    await forever()


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


# ------------------------------------------------------------------- misuse --


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
