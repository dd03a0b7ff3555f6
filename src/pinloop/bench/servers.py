"""The servers under load: each is started on a listening socket and returns what must be kept alive.

They are the plain ways to write such a server; none does more for one loop than for another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

CHUNK = 256 * 1024
BACKLOG = 4096
HELLO = b"Hello, World!"

StartServer = Callable[[socket.socket], Awaitable[object]]


def listen() -> socket.socket:
    """A nonblocking listening socket on a free port of 127.0.0.1.

    It names its protocol, as the sockets do that loops make: where that is 0, asyncio leaves Nagle's
    algorithm on.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


# ---- echo


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


async def echo_protocol(listener: socket.socket) -> object:
    """Echo by `asyncio.Protocol`."""
    return await asyncio.get_running_loop().create_server(EchoProtocol, sock=listener, backlog=BACKLOG)


async def echo_buffered(listener: socket.socket) -> object:
    """Echo by `asyncio.BufferedProtocol`."""
    return await asyncio.get_running_loop().create_server(
        EchoBufferedProtocol, sock=listener, backlog=BACKLOG
    )


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_streams(listener: socket.socket) -> object:
    """Echo by asyncio's streams."""
    return await asyncio.start_server(_echo_stream, sock=listener, backlog=BACKLOG)


async def _echo_sock(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        while data := await loop.sock_recv(connection, CHUNK):
            await loop.sock_sendall(connection, data)


async def _accept_sock(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(_echo_sock(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def echo_sock(listener: socket.socket) -> object:
    """Echo by `sock_accept`, `sock_recv`, `sock_sendall`; raises `NotImplementedError` if one is missing."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        await loop.sock_sendall(near, b"x")
        await loop.sock_recv(far, 1)
    accepting = loop.create_task(_accept_sock(listener))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if accepting.done():
        accepting.result()
    return accepting


# ---- hello by HTTP


async def _hello_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(HELLO)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def http_uvicorn(listener: socket.socket) -> object:
    """uvicorn with httptools and the smallest ASGI application, access log off."""
    import uvicorn

    config = uvicorn.Config(
        _hello_asgi, http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning"
    )
    server = uvicorn.Server(config)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
            raise RuntimeError("uvicorn ended before it served")
    return server, serving


async def http_aiohttp(listener: socket.socket) -> object:
    """aiohttp's server with one handler, access log off."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    return runner


SERVERS: dict[str, StartServer] = {
    "echo-protocol": echo_protocol,
    "echo-buffered": echo_buffered,
    "echo-streams": echo_streams,
    "echo-sock": echo_sock,
    "http-uvicorn": http_uvicorn,
    "http-aiohttp": http_aiohttp,
}
