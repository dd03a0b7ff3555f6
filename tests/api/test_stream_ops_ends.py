"""How streams end: read to the end, left early, failed, cancelled, dropped; what was begun ends with them."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pinloop import Stream, move_on_after, scope, stream
from tests.api.pipelines import Calls, Source, orders, settle
from tests.conftest import Context, Run

MAKE: dict[str, Callable[[Stream[int], Calls], Stream[Any]]] = {
    "plain": lambda st, calls: st,
    "map": lambda st, calls: st.map(calls),
    "ordered": lambda st, calls: st.map(calls, 3),
    "unordered": lambda st, calls: st.map(calls, 3, ordered=False),
    "unordered-filter": lambda st, calls: st.map(calls, 3, False).filter(lambda _: True).skip(1),
    "twice": lambda st, calls: st.map(calls, 2).map(lambda n: n).map(calls_of(calls), 3),
    "buffer": lambda st, calls: st.buffer(3),
    "buffer-map": lambda st, calls: st.buffer(3).map(calls),
    "map-buffer": lambda st, calls: st.map(calls, 2).buffer(3),
    "chunks": lambda st, calls: st.map(calls).chunks(2),
    "chunks-within": lambda st, calls: st.map(calls).chunks(2, within=1.5),
    "merge": lambda st, calls: st.merge(Source(), stream(Source()).map(calls, 2)),
    "zip": lambda st, calls: st.zip(stream(Source()).map(calls, 2)),
    "flat_map": lambda st, calls: st.flat_map(lambda n: Source(2)).map(calls),
    "throttle": lambda st, calls: st.map(calls, 3).throttle(1, per=2),
    "timeout": lambda st, calls: st.map(calls, 3).timeout(100),
    "take": lambda st, calls: st.map(calls, 3).take(50),
}
every_kind = pytest.mark.parametrize("kind", MAKE)


def calls_of(calls: Calls) -> Callable[[int], Any]:
    async def call(item: int) -> int:
        return await calls(item)

    return call


def is_over(source: Source, calls: Calls) -> bool:
    """Whether nothing of a stream is left."""
    return calls.running == 0 and source.closed == source.begun and len(asyncio.all_tasks()) == 1


@every_kind
@orders
async def test_left_by_break(kind: str) -> None:
    source, calls = Source(), Calls()
    async with MAKE[kind](stream(source), calls) as items:
        async for _ in items:
            break
    assert is_over(source, calls)
    assert source.closed == 1 or kind == "merge"  # where another one was quicker


@every_kind
@orders
async def test_left_by_an_error_of_the_block(kind: str) -> None:
    source, calls = Source(), Calls()
    error = ValueError("of the block")
    with pytest.raises(ValueError, match="of the block") as caught:
        async with MAKE[kind](stream(source), calls) as items:
            async for _ in items:
                await asyncio.sleep(0.5)
                raise error
    assert caught.value is error
    assert is_over(source, calls)


@every_kind
@pytest.mark.parametrize("seconds", [0, 0.5, 3.25, 4])
@orders
async def test_cancelled(kind: str, seconds: float) -> None:
    """In a pull and between two: what ran is awaited, and the cancellation goes on."""
    source, calls = Source(), Calls()
    ended = []

    async def consume() -> None:
        try:
            async with MAKE[kind](stream(source), calls) as items:
                async for _ in items:
                    await asyncio.sleep(0.7)
        finally:
            ended.append((calls.running, source.closed == source.begun))

    task = asyncio.create_task(consume())
    await asyncio.sleep(seconds)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert ended in ([(0, True)], [])  # it may have been cancelled before its first step
    assert is_over(source, calls)


@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind != "merge"])  # there the others go on
@orders
async def test_without_a_block_a_cancelled_pull_ends_it_too(kind: str) -> None:
    source, calls = Source(3, pause=1000), Calls()
    items = MAKE[kind](stream(source), calls)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            async for _ in items:
                pass
    assert is_over(source, calls)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


@every_kind
@orders
async def test_dropped_without_a_block(kind: str) -> None:
    """There is a warning, and what was begun is ended all the same, a little later."""
    source, calls = Source(), Calls()

    async def take_one() -> None:
        async for _ in MAKE[kind](stream(source), calls):
            break
        gc.collect(0)

    with pytest.warns(ResourceWarning, match="dropped before its end"):
        await take_one()
    await settle()
    assert is_over(source, calls)


@orders
async def test_read_to_its_end_without_a_block_it_is_closed() -> None:
    source, calls = Source(7), Calls()
    seen = [item async for item in stream(source).map(calls, 3)]
    assert seen == [n * n for n in range(7)]
    assert is_over(source, calls)
    gc.collect(0)


@orders
async def test_a_stream_in_a_generator_that_is_closed() -> None:
    source, calls = Source(), Calls()

    async def squares() -> AsyncIterator[int]:
        async with stream(source).map(calls, 3) as items:
            async for item in items:
                yield item

    async with stream(squares).buffer(2) as items:
        assert await anext(items) == 0
    assert is_over(source, calls)


@orders
async def test_in_a_scope_that_is_cancelled() -> None:
    source, calls = Source(), Calls()
    async with move_on_after(5) as s:
        await stream(source).map(calls, 3, ordered=False).for_each(calls, 2)
    assert s.cancelled_caught
    assert is_over(source, calls)


# ------------------------------------------------------------------------------------- errors --


@pytest.mark.parametrize("concurrency", [1, 3])
@orders
async def test_an_error_of_the_function_comes_out_as_it_is(concurrency: int) -> None:
    error = ValueError("of the function")
    source, calls = Source(), Calls({4: error})
    seen = []
    with pytest.raises(ValueError, match="of the function") as caught:
        async for item in stream(source).map(calls, concurrency):
            seen.append(item)  # noqa: PERF401 (what came before an error)
    assert caught.value is error
    assert seen == [0, 1, 4, 9][: len(seen)]
    assert concurrency > 1 or len(seen) == 4
    assert is_over(source, calls)


@pytest.mark.parametrize("ordered", [True, False])
@orders
async def test_a_plain_function_that_fails_ahead(ordered: bool) -> None:
    source, calls = Source(), Calls()

    def function(n: int) -> Any:
        if n == 2:
            raise ValueError(n)
        return calls(n)

    with pytest.raises(ValueError, match="2"):
        await stream(source).map(function, 4, ordered).collect()
    assert is_over(source, calls)
    assert calls.cancelled == calls.begun <= 2


@every_kind
@orders
async def test_an_error_of_the_source_comes_after_what_it_gave(kind: str) -> None:
    error = OSError("of the source")
    source, calls = Source(3, error), Calls()
    seen = []
    with pytest.raises(OSError, match="of the source") as caught:
        async with MAKE[kind](stream(source), calls) as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401 (what came before an error)
    assert caught.value is error
    flat = [each for item in seen for each in (item if isinstance(item, list) else [item])]
    if kind == "flat_map":
        assert flat == [0, 1, 0, 1, 0, 1]
    elif kind == "unordered-filter":
        assert len(flat) == 2
    elif kind == "merge":
        assert {0, 1, 2} <= {*flat}
    else:
        assert len(flat) == 3
    assert is_over(source, calls)


@orders
async def test_several_errors_come_as_a_group() -> None:
    """Two calls fail: one by itself, the other as it is cancelled for that."""
    cleanup = OSError("of the cleanup")

    async def function(n: int) -> None:
        if n == 0:
            await asyncio.sleep(1)
            raise ValueError("of the function")
        try:
            await asyncio.sleep(5)
        finally:
            raise cleanup

    with pytest.raises(ExceptionGroup, match="errors in a stream") as caught:
        await stream(range(2)).map(function, 2).collect()
    assert caught.group_contains(ValueError, match="of the function")
    assert caught.value.exceptions[1] is cleanup


@orders
async def test_an_error_on_the_way_out_is_raised_by_the_block() -> None:
    async def function(n: int) -> int:
        try:
            await asyncio.sleep(n)
        except asyncio.CancelledError:
            raise OSError("of the cleanup") from None
        return n

    with pytest.raises(OSError, match="of the cleanup"):
        async with stream(range(2)).map(function, 2) as items:
            assert await anext(items) == 0
            await asyncio.sleep(0.5)


@every_kind
@orders
async def test_an_error_of_a_generator_that_is_closed(kind: str) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 0
        finally:
            raise OSError("of the source")

    calls = Calls()
    with pytest.raises(OSError, match="of the source"):
        async with MAKE[kind](stream(source), calls) as items:
            await anext(items)
            await settle()
    assert calls.running == 0


def test_an_error_that_nobody_came_to_see_is_reported(run: Run, loop_errors: list[Context]) -> None:
    error = ValueError("ahead")

    async def function(n: int) -> int:
        if n == 2:
            raise error
        return n

    async def main() -> None:
        async with stream(range(9)).map(function, 3) as items:
            assert await anext(items) == 0
            for _ in range(10):
                await asyncio.sleep(0)
        assert await stream(range(9)).map(function, 8).take(2).collect() == [0, 1]

    run(main())
    assert all(context["exception"] is error for context in loop_errors)
    assert "never raised" in loop_errors[0]["message"]
    assert 1 <= len(loop_errors) <= 2
    loop_errors.clear()


@pytest.mark.parametrize("concurrency", [1, 3])
@orders
async def test_a_function_that_is_cancelled_by_itself(concurrency: int) -> None:
    async def function(n: int) -> int:
        if n == 1:
            raise asyncio.CancelledError("by itself")
        return n

    with pytest.raises(asyncio.CancelledError):
        await stream(range(9)).map(function, concurrency).collect()


@pytest.mark.parametrize("concurrency", [1, 3])
@orders
async def test_the_end_of_another_iteration_does_not_end_this_one(concurrency: int) -> None:
    async def function(n: int) -> int:
        raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        await stream(range(1)).map(function, concurrency).collect()


@orders
async def test_cancelled_as_it_is_closed_it_waits_all_the_same() -> None:
    source, calls = Source(), Calls()
    cleaned = []

    async def function(n: int) -> int:
        try:
            return await calls(n)
        except asyncio.CancelledError:
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                cleaned.append("asked twice")
                raise
            cleaned.append("in its time")
            raise

    async def consume() -> None:
        async with stream(source).map(function, 1).buffer(2) as items:
            assert await anext(items) == 0

    task = asyncio.create_task(consume())
    await asyncio.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["asked twice"]
    assert is_over(source, calls)


@pytest.mark.parametrize("how", ["raises", "returns", "goes on"])
@pytest.mark.parametrize("kind", ["ordered", "unordered", "buffer", "buffer-map", "throttle"])
@orders
async def test_a_source_that_takes_the_cancellation_for_itself(kind: str, how: str) -> None:
    """Whatever it makes of it, the calls are cancelled, and it is asked for no more."""
    calls = Calls(seconds=100)
    after = 0

    async def source() -> AsyncIterator[int]:
        nonlocal after
        for n in range(4):
            yield n
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            if how == "raises":
                raise OSError("of the source") from None
            if how == "returns":
                return
        while True:
            after += 1
            yield -1

    async def consume() -> None:
        async with MAKE[kind](stream(source), calls) as items:
            async for _ in items:
                pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(150)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or (how == "raises" and str(task.exception()) == "of the source")
    assert calls.running == 0
    assert after <= 1
    assert asyncio.get_running_loop().time() == pytest.approx(150)


# ------------------------------------------------------------------------------ who does what --


@orders
async def test_a_source_that_holds_a_block_open_is_read_by_one_task() -> None:
    """A generator in a timeout or a scope must not be read by several: a step with a pump does not."""

    async def source() -> AsyncIterator[int]:
        async with asyncio.timeout(1000), scope() as s:
            s.spawn(asyncio.sleep(1))
            for n in range(100):
                yield n

    calls = Calls()
    async with stream(source).map(calls, 3) as items:
        assert [await anext(items), await anext(items)] == [0, 1]
    assert await stream(source).buffer(2).map(calls, 3).fold(0, max) == 99 * 99


@orders
async def test_closed_by_what_runs_in_it() -> None:
    """It would wait for itself."""
    streams: list[Stream[Any]] = []

    async def function(n: int) -> None:
        await streams[0].aclose()

    async def source() -> AsyncIterator[int]:
        yield 1
        await streams[0].aclose()

    for made in (stream(range(1)).map(function, 2), stream(source).buffer(3)):
        streams[:] = [made]
        with pytest.raises(RuntimeError, match=r"wait for itself|already running"):
            await made.collect()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks come with Python 3.12")
@every_kind
@orders
async def test_eager_tasks(kind: str) -> None:
    """What runs ahead may be at its end before there is a task for it."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    for count, seconds in ((3, 1.0), (0, 0.0)):
        source, calls = Source(count), Calls(seconds=seconds)
        async with MAKE[kind](stream(source), calls) as items:
            left = 4
            async for _ in items:
                left -= 1
                if not left:
                    break
        assert is_over(source, calls)

    async def plain(n: int) -> int:
        return n

    assert await stream(range(20)).map(plain, 3).buffer(2).map(plain, 3, ordered=False).fold(0, max) == 19


@orders
async def test_ended_by_the_end_of_the_loop() -> None:
    """The pump is cancelled from outside, as asyncio.run does at its end: the stream is over, and says so."""
    source, calls = Source(pause=1000), Calls()
    async with stream(source).map(calls, 3) as items:
        pull = asyncio.create_task(anext(items))  # type: ignore[arg-type]
        await asyncio.sleep(1)
        (pump,) = asyncio.all_tasks() - {asyncio.current_task(), pull}
        pump.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
    assert is_over(source, calls)


def test_dropped_when_the_loop_is_gone(run: Run) -> None:
    async def main() -> Stream[int]:
        items = stream(range(5)).buffer(2)
        await anext(items)
        return items

    items = run(main())
    with pytest.warns(ResourceWarning, match="dropped before its end"):
        del items


def test_running_ahead_at_the_end_of_the_loop(run: Run) -> None:
    """asyncio.run cancels what is left: nothing hangs, nothing is reported."""
    source, calls = Source(pause=0), Calls(seconds=60)

    async def main() -> Stream[int]:
        items = stream(source).map(calls, 3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(items.first())), 0.01)
        return items

    run(main())
    assert (calls.running, source.closed) == (0, 1)
