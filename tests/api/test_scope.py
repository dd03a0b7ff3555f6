"""Scopes: children, their errors, and what is left of them."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

import pinloop
from pinloop import Scope, fail_after, move_on_after, scope
from tests.api.scopes import (
    cancelling,
    fail,
    forever,
    value,
)
from tests.conftest import Context, Run


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
