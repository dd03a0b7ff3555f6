"""pinloop's streams and asyncio's over what is no TCP connection, in parts, in debug mode, installed."""

import asyncio
import functools
import logging
import os
import socket
import ssl
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pinloop
from tests.api.streams import LOOPS
from tests.api.support import tcp_pair, turns
from tests.conftest import Run
from tests.tls import client_context, server_context


@pytest.fixture(params=LOOPS, ids=lambda factory: f"on-{factory.__module__.partition('.')[0]}")
def loop_factory(request: pytest.FixtureRequest) -> Any:
    """Both loops: the streams are interchangeable."""
    return request.param


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a name short enough for Unix sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


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
