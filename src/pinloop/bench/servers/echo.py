"""Echo over TCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from .sockets import BACKLOG

CHUNK = 256 * 1024


class EchoProtocol(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._write(data)


class EchoBufferedProtocol(asyncio.BufferedProtocol):
    """Sends back what it receives into a buffer of its own."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(CHUNK))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined]

    def get_buffer(self, sizehint: int) -> memoryview:
        """The same buffer each time."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Send a copy back: a transport may keep what it is given, and this buffer is about to be reused."""
        self._write(bytes(self._view[:nbytes]))


async def by_protocol(listener: socket.socket) -> object:
    """Echo by `asyncio.Protocol`."""
    return await asyncio.get_running_loop().create_server(EchoProtocol, sock=listener, backlog=BACKLOG)


async def by_buffered_protocol(listener: socket.socket) -> object:
    """Echo by `asyncio.BufferedProtocol`."""
    return await asyncio.get_running_loop().create_server(
        EchoBufferedProtocol, sock=listener, backlog=BACKLOG
    )


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


async def by_streams(listener: socket.socket) -> object:
    """Echo by asyncio's streams."""
    return await asyncio.start_server(_echo_stream, sock=listener, backlog=BACKLOG)


async def by_native_streams(listener: socket.socket) -> object:
    """Echo by pinloop's streams, which any loop can have."""
    # Here, because no other loop's process has anything of pinloop's but this package.
    from pinloop import start_server

    return await start_server(_echo_stream, sock=listener, backlog=BACKLOG)


# ---- sockets without transports

Handler = Callable[[socket.socket], Coroutine[Any, Any, None]]


async def _echo_sock(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        while data := await loop.sock_recv(connection, CHUNK):
            await loop.sock_sendall(connection, data)


async def _echo_sock_into(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    view = memoryview(bytearray(CHUNK))
    with connection:
        while count := await loop.sock_recv_into(connection, view):
            await loop.sock_sendall(connection, view[:count])


async def _accept_sock(listener: socket.socket, handler: Handler) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(handler(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _serve_sock(
    listener: socket.socket, handler: Handler, receive: Callable[[socket.socket], Awaitable[object]]
) -> object:
    """Accept on *listener*; raises `NotImplementedError` at once if a method is missing."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        await loop.sock_sendall(near, b"x")
        await receive(far)
    accepting = loop.create_task(_accept_sock(listener, handler))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if accepting.done():
        accepting.result()
    return accepting


async def by_sock(listener: socket.socket) -> object:
    """Echo by `sock_accept`, `sock_recv`, `sock_sendall`; raises `NotImplementedError` if one is missing."""
    loop = asyncio.get_running_loop()
    return await _serve_sock(listener, _echo_sock, lambda far: loop.sock_recv(far, 1))


async def by_sock_into(listener: socket.socket) -> object:
    """Echo by `sock_accept`, `sock_recv_into` a buffer that is kept, `sock_sendall` of a view of it.

    Raises `NotImplementedError` if one is missing.
    """
    loop = asyncio.get_running_loop()
    return await _serve_sock(listener, _echo_sock_into, lambda far: loop.sock_recv_into(far, bytearray(1)))
