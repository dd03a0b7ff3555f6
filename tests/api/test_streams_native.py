"""pinloop's streams and asyncio's, on the loop under test and on asyncio's own: all of them do the same."""

import asyncio
import contextlib
import gc
import os
import sys
import weakref
from typing import Any

import pytest

from tests.api.streams import LOOPS, connected
from tests.api.support import turns
from tests.conftest import Run


@pytest.fixture(params=LOOPS, ids=lambda factory: f"on-{factory.__module__.partition('.')[0]}")
def loop_factory(request: pytest.FixtureRequest) -> Any:
    """Both loops: the streams are interchangeable."""
    return request.param


def test_an_echo_line_by_line(streams: Any, run: Run) -> None:
    async def echo(reader: Any, writer: Any) -> None:
        async for line in reader:
            writer.write(line)
            await writer.drain()
        writer.close()

    async def main() -> list[bytes]:
        async with await streams.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            writer.writelines([b"one\n", bytearray(b"two\n"), memoryview(b"three")])
            assert writer.can_write_eof()
            writer.write_eof()
            lines = [line async for line in reader]
            assert reader.at_eof()
            writer.close()
            await writer.wait_closed()
            return lines

    assert run(main()) == [b"one\n", b"two\n", b"three"]


def test_the_classes_are_asyncios(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams) as ((reader, writer), (far_reader, far_writer)):
            for each in (reader, far_reader):
                assert isinstance(each, asyncio.StreamReader) and type(each) is streams.StreamReader
            for each in (writer, far_writer):
                assert isinstance(each, asyncio.StreamWriter) and type(each) is streams.StreamWriter
            protocol = writer.transport.get_protocol()
            assert isinstance(protocol, asyncio.StreamReaderProtocol)
            assert repr(reader) == f"<StreamReader transport={writer.transport!r}>"
            assert repr(writer) == f"<StreamWriter transport={writer.transport!r} reader={reader!r}>"
            assert writer.get_extra_info("peername") == far_writer.get_extra_info("sockname")
            assert writer.get_extra_info("nothing", 42) == 42
            assert not writer.is_closing()

    run(main())


@pytest.mark.parametrize("size", [1, 1000, 70_000, 1_000_000])
def test_readexactly_and_read_of_what_comes_in_pieces(streams: Any, run: Run, size: int) -> None:
    async def main() -> None:
        data = os.urandom(size)
        async with connected(streams) as ((reader, _), (_, writer)):
            writer.write(data)
            assert await reader.readexactly(size) == data
            writer.write(data)
            received = b""
            while len(received) < size:
                received += await reader.read(size - len(received))
            assert received == data
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            assert await reader.read() == await reader.read(5) == await reader.readline() == b""
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(5)
            assert (caught.value.partial, caught.value.expected) == (b"", 5)

    run(main())


def test_lines_longer_than_the_limit(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams, limit=10) as ((reader, _), (_, writer)):
            writer.write(b"0123456789\n" + b"x" * 11 + b"\nnext\n" + b"y" * 40)
            assert await reader.readline() == b"0123456789\n"
            with pytest.raises(ValueError, match="chunk is longer than limit"):
                await reader.readline()
            assert await reader.readline() == b"next\n"
            with pytest.raises(asyncio.LimitOverrunError, match="Separator is not found") as caught:
                await reader.readuntil(b"\n")
            assert caught.value.consumed > 10
            with pytest.raises(ValueError, match="Separator is not found"):
                await reader.readline()
            writer.write(b"z\n")
            writer.write_eof()
            assert (await reader.read()).endswith(b"z\n")

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="tuples of separators are new in 3.13")
def test_readuntil_the_first_of_several_separators(streams: Any, run: Run) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        reader.feed_data(b"one\r\ntwo\nthree\rfour")
        for expected in (b"one\r", b"\n", b"two\n", b"three\r"):
            assert await reader.readuntil((b"\n", b"\r", b"\r\n")) == expected
        with pytest.raises(ValueError, match="at least one element"):
            await reader.readuntil(())
        with pytest.raises(ValueError, match="at least one-byte"):
            await reader.readuntil((b"x", b""))

    run(main())


class Closed(asyncio.Transport):
    def is_closing(self) -> bool:
        return True


def test_bad_arguments(streams: Any, run: Run) -> None:
    async def main() -> None:
        for limit in (0, -1):
            with pytest.raises(ValueError, match="Limit cannot be <= 0"):
                streams.StreamReader(limit=limit)
        reader = streams.StreamReader()
        reader.feed_data(b"data\n")
        with pytest.raises(ValueError, match="can not be less than zero"):
            await reader.readexactly(-1)
        with pytest.raises(ValueError, match="at least one-byte string"):
            await reader.readuntil(b"")
        for argument in (None, "3"):
            with pytest.raises(TypeError):
                await reader.readexactly(argument)
            with pytest.raises(TypeError):
                await reader.readuntil(argument)
        with pytest.raises(TypeError):
            reader.feed_data("text")
        assert await reader.readexactly(0) == await reader.read(0) == b""
        assert await reader.readline() == b"data\n"
        with pytest.raises(AssertionError):
            streams.StreamWriter(Closed(), None, "no reader", asyncio.get_running_loop())

    run(main())


def test_one_call_waits_at_a_time(streams: Any, run: Run) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        first = asyncio.create_task(reader.readexactly(3))
        await turns(2)
        for call, name in ((reader.read(), "read"), (reader.readline(), "readuntil")):
            with pytest.raises(RuntimeError, match=rf"{name}\(\) called while another coroutine"):
                await call
        reader.feed_data(b"abc")
        assert await first == b"abc"

    run(main())


def test_what_is_fed_may_change_afterwards(streams: Any, run: Run) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        data = bytearray(b"first")
        for each in (data, memoryview(data)):
            reader.feed_data(each)
        data[:] = b"other"
        assert await reader.readexactly(10) == b"firstfirst"

    run(main())


def test_an_exception_ends_the_call_that_waits_and_all_after_it(streams: Any, run: Run) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        waiting = asyncio.create_task(reader.readline())
        await turns(2)
        failure = OSError("broken")
        reader.set_exception(failure)
        assert reader.exception() is failure
        with pytest.raises(OSError, match="broken"):
            await waiting
        for call in (reader.read(), reader.readexactly(1), reader.readline()):
            with pytest.raises(OSError, match="broken"):
                await call

    run(main())


def test_a_cancelled_read_has_taken_nothing(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams) as ((reader, _), (_, writer)):
            writer.write(b"abc")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readexactly(4), 0.01)
            waiting = asyncio.create_task(reader.readline())
            await turns(3)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            writer.write(b"d")
            assert await reader.readexactly(4) == b"abcd"

    run(main())


def test_too_much_unread_pauses_the_transport(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams, limit=1000) as ((reader, near), (_, writer)):
            total = 16 * 1024 * 1024
            writer.write(bytes(total))
            draining = asyncio.create_task(writer.drain())
            while near.transport.is_reading():
                await asyncio.sleep(0.001)
            held = len(reader._buffer)
            assert 2000 < held <= 512 * 1024  # the limit, and one receive
            await turns(20)
            assert len(reader._buffer) == held
            assert not draining.done()
            received = 0
            while received < total:
                received += len(await reader.read(100_000))
            await draining
            assert near.transport.is_reading()

    run(main())


def test_readexactly_of_more_than_the_buffer_may_hold(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams, limit=100) as ((reader, near), (_, writer)):
            data = os.urandom(300_000)
            writer.write(data)
            while near.transport.is_reading():
                await asyncio.sleep(0.001)
            assert await reader.readexactly(len(data)) == data

    run(main())


def test_drain_of_a_lost_connection(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams) as ((_, writer), (_, far)):
            await writer.drain()
            far.transport.abort()
            await turns(3)  # in which its socket is closed
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(b"data")
                    await writer.drain()

    run(main())


def test_drains_that_wait_when_the_connection_is_lost(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams) as ((_, writer), (far, _)):
            writer.write(bytes(16 * 1024 * 1024))
            drains = [asyncio.create_task(writer.drain()) for _ in range(3)]
            await turns(3)
            drains[1].cancel()
            writer.transport.abort()
            assert [type(each) for each in await asyncio.gather(*drains, return_exceptions=True)] == [
                type(None),
                asyncio.CancelledError,
                type(None),
            ]
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await writer.drain()
            with contextlib.suppress(ConnectionError):
                await far.read()

    run(main())


def test_drain_of_a_closing_connection_lets_a_turn_pass(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams) as ((_, writer), _):
            passed: list[str] = []
            asyncio.get_running_loop().call_soon(passed.append, "before")
            await writer.drain()
            assert not passed  # nothing was waited for
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.drain()
            assert passed

    run(main())


@pytest.mark.parametrize("raises", ["at once", "later"])
def test_a_handler_that_fails_costs_its_connection(
    streams: Any, run: Run, loop_errors: list[dict[str, Any]], raises: str
) -> None:
    if raises == "at once" and streams is asyncio and sys.version_info < (3, 14):
        pytest.skip("asyncio before 3.14 leaves this to the transport")

    def fail(reader: Any, writer: Any) -> None:
        raise ZeroDivisionError("handler")

    async def fail_later(reader: Any, writer: Any) -> None:
        await reader.read(1)
        fail(reader, writer)

    async def main() -> None:
        handler = fail if raises == "at once" else fail_later
        async with await streams.start_server(handler, "127.0.0.1", 0) as server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            with contextlib.suppress(ConnectionResetError):  # what was written may not have been read
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()

    run(main())
    (context,) = loop_errors
    assert context["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["transport"].is_closing()
    loop_errors.clear()


def test_a_cancelled_handler_costs_its_connection(streams: Any, run: Run) -> None:
    if not hasattr(asyncio.StreamReaderProtocol, "_replace_transport") and streams is asyncio:
        pytest.skip("asyncio until 3.13.0 reports an error for it")

    async def cancelled(reader: Any, writer: Any) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        async with await streams.start_server(cancelled, "127.0.0.1", 0) as server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_writer_dropped_unclosed_warns_and_closes(streams: Any, run: Run) -> None:
    if not hasattr(asyncio.StreamWriter, "__del__"):
        pytest.skip("asyncio has it from 3.11.5 on")

    async def main() -> None:
        async def read_all(reader: Any, writer: Any) -> None:
            await reader.read()
            writer.close()

        async with await streams.start_server(read_all, "127.0.0.1", 0) as server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            transport = writer.transport
            with pytest.warns(ResourceWarning, match=r"unclosed <StreamWriter"):
                del writer
            assert transport.is_closing()
            assert await reader.read() == b""

    run(main())


def test_nothing_is_left_of_a_closed_connection(streams: Any, run: Run) -> None:
    async def main() -> None:
        async with connected(streams) as ((reader, writer), (_, far)):
            far.write(b"data")
            await reader.readexactly(4)
            gone = [weakref.ref(each) for each in (reader, writer, writer.transport.get_protocol())]
            writer.close()
            await writer.wait_closed()
        del reader, writer, _, far
        gc.collect()
        return gone  # type: ignore[return-value]

    gone: Any = run(main())
    gc.collect()
    assert [each() for each in gone] == [None, None, None]
