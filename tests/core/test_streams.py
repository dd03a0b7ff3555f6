"""What is native about pinloop's streams: whose bytes are handed over, and how a call is driven by hand."""

import asyncio
import gc
import random
import sys
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

import pinloop
from pinloop import _core


@pytest.fixture
def reader(loop: asyncio.AbstractEventLoop) -> pinloop.StreamReader:
    return pinloop.StreamReader(limit=100, loop=loop)


def ended(call: Coroutine[Any, Any, bytes]) -> bytes:
    """The result of a call that need not wait."""
    with pytest.raises(StopIteration) as caught:
        call.send(None)
    result: bytes = caught.value.value
    return result


def test_a_chunk_read_whole_is_handed_over_as_it_came(reader: pinloop.StreamReader) -> None:
    for read in (reader.read, reader.readexactly):
        chunk = bytes(range(100))
        reader.feed_data(chunk)
        assert ended(read(100)) is chunk
    line = b"a line\n" * 1
    reader.feed_data(line)
    assert ended(reader.readline()) is line


def test_what_was_handed_over_is_never_written_to(reader: pinloop.StreamReader) -> None:
    reader.feed_data(b"first")
    reader.feed_data(b"second")
    first = ended(reader.read(100))
    reader.feed_data(b"third")
    reader.feed_data(b"fourth")
    assert ended(reader.readexactly(2)) == b"th"
    reader.feed_data(b"fifth")
    assert (first, ended(reader.read(100))) == (b"firstsecond", b"irdfourthfifth")


def test_any_sizes_in_any_order(loop: asyncio.AbstractEventLoop) -> None:
    rng = random.Random(3)
    data = rng.randbytes(300_000)
    reader = pinloop.StreamReader(limit=1 << 20, loop=loop)
    fed = read = 0

    async def main() -> None:
        nonlocal fed, read
        while read < len(data):
            size = min(rng.choice((1, 7, 100, 5000)), len(data) - read)
            call = asyncio.ensure_future(reader.readexactly(size))
            await asyncio.sleep(0)
            while not call.done():
                piece = data[fed : fed + rng.choice((1, 10, 1000, 9000))]
                if fed - read < size or rng.random() < 0.3:
                    reader.feed_data(piece)
                    fed += len(piece)
                await asyncio.sleep(0)
            assert await call == data[read : read + size]
            read += size

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_000])
def test_results_of_next_by_hand_are_ones_own(reader: pinloop.StreamReader, size: int) -> None:
    """The loop uses its StopIteration again, but not while somebody has it."""
    held = []
    for filling in (b"x", b"y", b"z"):
        reader.feed_data(filling * size)
        call: Any = reader.readexactly(size)
        with pytest.raises(StopIteration) as caught:
            next(call)
        held.append(caught.value)
    assert [each.value for each in held] == [b"x" * size, b"y" * size, b"z" * size]
    assert len({id(each) for each in held}) == 3


def test_a_small_result_is_let_go_at_the_next_wait(loop: asyncio.AbstractEventLoop) -> None:
    reader = pinloop.StreamReader(loop=loop)
    chunk = b"".join([b"a chunk", b" of its own"])
    before = sys.getrefcount(chunk)

    async def main() -> None:
        reader.feed_data(chunk)
        assert await reader.read(100) is chunk
        waiting = asyncio.ensure_future(reader.read(100))
        await asyncio.sleep(0)
        assert sys.getrefcount(chunk) == before
        reader.feed_data(b"more")
        assert await waiting == b"more"

    loop.run_until_complete(main())


def test_a_call_resumed_too_early(reader: pinloop.StreamReader) -> None:
    call: Any = reader.read(5)
    future = call.send(None)
    assert future._asyncio_future_blocking
    assert call.cr_suspended and call.cr_await is future
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        call.send(None)
    # The other may wait now.
    other: Any = reader.read(5)
    other.send(None)
    reader.feed_data(b"data")
    assert ended(other) == b"data"


def test_a_call_driven_by_hand_to_its_exception(reader: pinloop.StreamReader) -> None:
    call: Any = reader.read(5)
    call.send(None)
    reader.set_exception(OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        call.send(None)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)


def test_a_call_thrown_into_waits_no_more(reader: pinloop.StreamReader) -> None:
    for wanted in (ZeroDivisionError, ZeroDivisionError("once"), ZeroDivisionError("more")):
        call: Any = reader.readline()
        call.send(None)
        with pytest.raises(ZeroDivisionError):
            call.throw(wanted)
    call = reader.readline()
    call.send(None)
    call.close()
    reader.feed_data(b"line\n")
    assert ended(reader.readline()) == b"line\n"


def test_a_call_takes_no_value_before_it_begins(reader: pinloop.StreamReader) -> None:
    call: Any = reader.read(1)
    with pytest.raises(TypeError, match="non-None value"):
        call.send(1)
    call.close()


def test_the_buffer_that_others_look_at(reader: pinloop.StreamReader) -> None:
    reader.feed_data(b"abcdef")
    buffer: Any = reader._buffer
    assert buffer == b"abcdef"
    del buffer[:2]
    assert ended(reader.read(2)) == b"cd"
    reader._buffer.extend(b"gh")
    reader.feed_data(b"ij")
    assert ended(reader.readexactly(6)) == b"efghij"
    reader.feed_data(b"kl")
    reader._buffer.clear()
    reader.feed_eof()
    assert reader.at_eof()
    reader._buffer = b"mn"  # type: ignore[misc, assignment]
    assert not reader.at_eof()
    assert ended(reader.read(5)) == b"mn"


def test_futures_of_asyncios_own_will_do() -> None:
    async def main() -> bytes:
        reader = pinloop.StreamReader()
        waiting: Any = asyncio.ensure_future(reader.readexactly(4))
        await asyncio.sleep(0)
        assert type(waiting) is not _core.Task
        reader.feed_data(b"ab")
        reader.feed_data(b"cd")
        result: bytes = await waiting
        return result

    loop = pinloop.Loop(tasks="asyncio")
    try:
        assert loop.run_until_complete(main()) == b"abcd"
    finally:
        loop.close()


def test_a_loop_dropped_with_a_call_that_waits_is_collected() -> None:
    def drop() -> weakref.ref[Any]:
        loop = pinloop.new_event_loop()
        reader = pinloop.StreamReader(loop=loop)

        async def wait() -> None:
            await reader.read(1)

        task = loop.create_task(wait())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return weakref.ref(reader)

    gone = drop()
    gc.collect()
    assert gone() is None
