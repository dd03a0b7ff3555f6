"""asyncio's streams on native buffers: what runs once per connection.

What runs once per read or write is in `pinloop._core`. The classes are subclasses of asyncio's, for which
they stand in on any asyncio loop, down to those of the private names that asyncio's own code uses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from . import _core

DEFAULT_LIMIT = 64 * 1024

ClientConnected = Callable[["StreamReader", "StreamWriter"], Awaitable[None] | None]

# Until 3.13.1 asyncio's protocol kept the writer of a server's connection, which stayed open when its handler
# dropped the writer without closing it.  Since then dropping it closes the connection, with a warning.
_KEEPS_WRITER = hasattr(asyncio.StreamReaderProtocol, "_replace_writer")


class StreamReader(_core.StreamReader, asyncio.StreamReader):
    """`asyncio.StreamReader` with a native buffer.

    `limit` is the longest line that `readline` and `readuntil` accept, in bytes, and half of what is buffered
    before the transport's reading is paused; ValueError unless it is positive. `loop` is any asyncio loop, by
    default the current one.
    """


class StreamWriter(_core.StreamWriter, asyncio.StreamWriter):
    """`asyncio.StreamWriter`, whose `write` and `drain` are native."""

    def _drain_by_protocol(self) -> Awaitable[None]:
        # The protocol is not ours: asyncio's own way, by its _drain_helper().
        return asyncio.StreamWriter.drain(self)


class StreamReaderProtocol(_core.StreamProtocol, asyncio.StreamReaderProtocol):
    """`asyncio.StreamReaderProtocol`, which feeds a `StreamReader` natively.

    With `client_connected_cb` it is the protocol of a server's connection: that is called with the reader and
    a `StreamWriter`, and a coroutine it returns becomes a task.
    """

    def __init__(
        self,
        stream_reader: asyncio.StreamReader | None,
        client_connected_cb: ClientConnected | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(stream_reader, asyncio.get_event_loop() if loop is None else loop)
        self._client_connected_cb = client_connected_cb
        self._transport: Any = None
        self._stream_writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the reader the transport; call a server's callback."""
        self._transport = transport
        reader = self._stream_reader
        if reader is not None:
            reader.set_transport(transport)
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        if self._client_connected_cb is None:
            return
        writer = StreamWriter(transport, self, reader, self._loop)  # type: ignore[arg-type]
        if _KEEPS_WRITER:
            self._stream_writer = writer
        try:
            handling = self._client_connected_cb(reader, writer)  # type: ignore[arg-type]
        except Exception as failure:
            self._handler_failed(failure, transport)
            return
        if asyncio.iscoroutine(handling):
            self._task = self._loop.create_task(handling)
            self._task.add_done_callback(lambda task: self._handler_done(task, transport))

    def _handler_done(self, task: asyncio.Task[None], transport: Any) -> None:
        if task.cancelled():
            transport.close()
            return
        failure = task.exception()
        if failure is not None:
            self._handler_failed(failure, transport)

    def _handler_failed(self, failure: BaseException, transport: Any) -> None:
        self._loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": failure,
                "transport": transport,
            }
        )
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits: the reader's calls, `drain` and `wait_closed`."""
        reader = self._stream_reader
        if reader is not None:
            if exc is None:
                reader.feed_eof()
            else:
                reader.set_exception(exc)
        if not self._closed.done():
            if exc is None:
                self._closed.set_result(None)
            else:
                self._closed.set_exception(exc)
        self._connection_lost = True
        if self._paused:
            self._wake_drains(exc)
        self._stream_reader = self._stream_writer = self._task = self._transport = None

    def _replace_transport(self, transport: asyncio.Transport) -> None:
        """After `start_tls`."""
        self._transport = transport
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        reader: Any = self._stream_reader
        if reader is not None:
            reader._replace_transport(transport)

    def _replace_writer(self, writer: asyncio.StreamWriter) -> None:
        """The same, as asyncio calls it until 3.13.1."""
        self._stream_writer = writer
        self._replace_transport(writer.transport)  # type: ignore[arg-type]


def _reading_protocol(limit: int) -> StreamReaderProtocol:
    loop = asyncio.get_running_loop()
    return StreamReaderProtocol(StreamReader(limit, loop), loop=loop)


def _serving_factory(callback: ClientConnected, limit: int) -> Callable[[], StreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    return lambda: StreamReaderProtocol(StreamReader(limit, loop), callback, loop)


def _pair(transport: asyncio.Transport, protocol: StreamReaderProtocol) -> tuple[StreamReader, StreamWriter]:
    reader: Any = protocol._stream_reader
    return reader, StreamWriter(transport, protocol, reader, protocol._loop)


async def open_connection(
    host: Any = None, port: Any = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect, as `asyncio.open_connection` does, and return (reader, writer).

    `limit` is the reader's, in bytes; the rest goes to the loop's `create_connection`, whose errors come out
    of here. Cancelled, the connection is given up.
    """
    loop, protocol = asyncio.get_running_loop(), _reading_protocol(limit)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return _pair(transport, protocol)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.AbstractServer:
    """Serve, as `asyncio.start_server` does: `client_connected_cb(reader, writer)` for each connection.

    A coroutine that it returns becomes a task; what it raises is reported to the loop's exception handler and
    costs its connection. `limit` is the readers', in bytes; the rest goes to the loop's `create_server`,
    whose server is returned and whose errors come out of here. Cancelled, nothing listens.
    """
    factory = _serving_factory(client_connected_cb, limit)
    return await asyncio.get_running_loop().create_server(factory, host, port, **kwds)


async def open_unix_connection(
    path: str | os.PathLike[str] | None = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a Unix socket.  As `open_connection`, by the loop's `create_unix_connection`."""
    loop, protocol = asyncio.get_running_loop(), _reading_protocol(limit)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)  # type: ignore[arg-type]
    return _pair(transport, protocol)


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: str | os.PathLike[str] | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.AbstractServer:
    """Serve on a Unix socket.  As `start_server`, by the loop's `create_unix_server`."""
    factory = _serving_factory(client_connected_cb, limit)
    return await asyncio.get_running_loop().create_unix_server(factory, path, **kwds)
