"""pinloop's streams and asyncio's, on the loop under test and on asyncio's own: all of them do the same."""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import socket
import ssl
import sys
import tempfile
import tracemalloc
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import pinloop
from tests.api.support import ON_PINLOOP, tcp_pair, turns
from tests.conftest import Run
from tests.tls import client_context, server_context

Pair = tuple[Any, Any]

LOOPS = [asyncio.new_event_loop, *([pinloop.new_event_loop] if ON_PINLOOP else [])]


@pytest.fixture(params=LOOPS, ids=lambda factory: f"on-{factory.__module__.partition('.')[0]}")
def loop_factory(request: pytest.FixtureRequest) -> Any:
    """Both loops: the streams are interchangeable."""
    return request.param


@pytest.fixture(params=[asyncio, pinloop], ids=["asyncios", "pinloops"])
def streams(request: pytest.FixtureRequest) -> Any:
    """The module whose streams are tested."""
    return request.param


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a name short enough for Unix sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@contextlib.asynccontextmanager
async def connected(streams: Any, **options: Any) -> AsyncIterator[tuple[Pair, Pair]]:
    """(reader, writer) at the client's end of a connection, and at the server's."""
    accepted: asyncio.Future[Pair] = asyncio.get_running_loop().create_future()

    def accept(reader: Any, writer: Any) -> None:
        accepted.set_result((reader, writer))

    server = await streams.start_server(accept, "127.0.0.1", 0, **options)
    async with server:
        near = await streams.open_connection(*server.sockets[0].getsockname()[:2], **options)
        far = await accepted
        yield near, far
        for _, writer in (near, far):
            writer.close()
        for _, writer in (near, far):
            with contextlib.suppress(OSError):
                await writer.wait_closed()


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


def test_unix_sockets(streams: Any, run: Run, folder: str) -> None:
    async def shout(reader: Any, writer: Any) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        async with await streams.start_unix_server(shout, f"{folder}/s"):
            reader, writer = await streams.open_unix_connection(f"{folder}/s", limit=100)
            writer.write(b"hello\n")
            line: bytes = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert run(main()) == b"HELLO\n"


def test_start_tls(streams: Any, run: Run) -> None:
    async def serve(reader: Any, writer: Any) -> None:
        writer.write(b"ready\n")
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        async with await streams.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            assert await reader.readline() == b"ready\n"
            await writer.start_tls(client_context(), server_hostname="localhost")
            assert isinstance(writer.get_extra_info("sslcontext"), ssl.SSLContext)
            assert not writer.can_write_eof()
            writer.write(b"secret\n")
            answer: bytes = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert run(main()) == b"secret\n"


def same(thing: Any) -> Any:
    return thing


def test_foreign_parts_fit(run: Run) -> None:
    """asyncio's protocol with pinloop's reader and writer, and the other way round."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for reader_of, protocol_of, writer_of in (
            (pinloop, asyncio, pinloop),
            (asyncio, pinloop, asyncio),
            (pinloop, asyncio, asyncio),
            (pinloop, pinloop, asyncio),
        ):
            near, far = socket.socketpair()
            reader = reader_of.StreamReader()
            protocol = protocol_of.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(functools.partial(same, protocol), near)
            writer = writer_of.StreamWriter(transport, protocol, reader, loop)
            with far:
                far.sendall(b"line\nrest")
                assert await reader.readline() == b"line\n"
                writer.write(b"answer")
                await writer.drain()
                far.setblocking(False)
                assert await loop.sock_recv(far, 100) == b"answer"
            assert await reader.read() == b"rest"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_pipes(streams: Any, run: Run) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        receiving, sending = os.pipe()
        reader = streams.StreamReader()
        from_pipe, _ = await loop.connect_read_pipe(
            lambda: streams.StreamReaderProtocol(reader), os.fdopen(receiving, "rb", 0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(sending, "wb", 0)
        )
        writer = streams.StreamWriter(transport, protocol, None, loop)
        writer.write(b"through a pipe")
        await writer.drain()
        writer.close()
        data: bytes = await reader.read()
        from_pipe.close()
        await turns(3)
        return data

    assert run(main()) == b"through a pipe"


def test_a_subclass_is_asked(run: Run) -> None:
    """What a subclass overrides is called, also by a native transport."""

    class Counting(pinloop.StreamReader):
        fed = 0

        def feed_data(self, data: Any) -> None:
            self.fed += len(data)
            super().feed_data(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = tcp_pair()
        near.setblocking(False)
        reader = Counting(limit=50)
        protocol = pinloop.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, near)
        with far:
            far.sendall(b"abc")
            assert await reader.readexactly(3) == b"abc"
        assert reader.fed == 3
        assert await reader.read() == b""
        transport.close()
        await turns(3)

    run(main())


def test_calls_are_coroutines(streams: Any, run: Run) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        reader.feed_data(b"1\n22\n333")
        first, second = await asyncio.gather(reader.readline(), reader.readuntil(b"2\n"))
        assert (first, second) == (b"1\n", b"22\n")
        call: Any = reader.readexactly(5)
        assert call.__qualname__ == "StreamReader.readexactly"
        assert asyncio.iscoroutine(call)
        assert await asyncio.wait_for(asyncio.shield(reader.read(3)), 1) == b"333"
        waiting = asyncio.ensure_future(call)
        await turns(2)
        reader.feed_data(b"44444")
        assert await waiting == b"44444"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await call
        unused = reader.read(1)
        with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamReader.read' was never awaited"):
            del unused
        closed = reader.read(1)
        closed.close()

    run(main())


def test_debug_mode_says_where_a_reader_was_made(
    streams: Any, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        assert reader._source_traceback[-1].name == "main"
        protocol = streams.StreamReaderProtocol(reader)
        with caplog.at_level(logging.DEBUG, logger="asyncio"):
            protocol.pause_writing()
            protocol.resume_writing()
        assert [record.message for record in caplog.records if "writing" in record.message] == [
            f"{protocol!r} pauses writing",
            f"{protocol!r} resumes writing",
        ]

    run(main(), debug=True)


def test_memory_does_not_grow_with_what_passes(run: Run) -> None:
    async def main() -> None:
        reader = pinloop.StreamReader()
        tracemalloc.start()
        try:
            for turn in range(3000):
                reader.feed_data(bytes(1000))
                reader.feed_data(bytes(1000))
                await reader.readexactly(1999)
                await reader.readexactly(1)
                if turn == 1000:
                    before = tracemalloc.get_traced_memory()[0]
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()

    run(main())


NAMES = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")


@pytest.fixture
def installed() -> Iterator[Callable[..., None]]:
    """`pinloop.install`, undone after the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()
    yield pinloop.install
    pinloop.install(streams=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def test_install_with_streams_and_back(installed: Callable[..., None]) -> None:
    theirs = {name: getattr(asyncio, name) for name in NAMES}
    for _ in range(2):
        installed(streams=True)
        for name in NAMES:
            assert getattr(asyncio, name) is getattr(asyncio.streams, name) is getattr(pinloop, name)
    installed()
    assert asyncio.open_connection is pinloop.open_connection
    for _ in range(2):
        installed(streams=False)
        for name in NAMES:
            assert getattr(asyncio, name) is getattr(asyncio.streams, name) is theirs[name]
