"""The servers under load: each is started on a bound socket and returns what must be kept alive.

They are the plain ways to write such a server; none does more for one loop than for another.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import echo, files, http, sockets, tls, udp

StartServer = Callable[[socket.socket], Awaitable[object]]


@dataclass(frozen=True)
class Server:
    """How a server is started, and how the socket is made that it is started on."""

    start: StartServer
    bind: Callable[[], socket.socket] = sockets.listen


SERVERS = {
    "echo-protocol": Server(echo.by_protocol),
    "echo-buffered": Server(echo.by_buffered_protocol),
    "echo-streams": Server(echo.by_streams),
    "echo-native-streams": Server(echo.by_native_streams),
    "echo-sock": Server(echo.by_sock),
    "echo-sock-into": Server(echo.by_sock_into),
    "http-uvicorn": Server(http.by_uvicorn),
    "http-aiohttp": Server(http.by_aiohttp),
    "udp-echo": Server(udp.echo, sockets.bind_datagrams),
    "tls-echo": Server(tls.echo),
    "tls-handshake": Server(tls.greet),
    "sendfile": Server(files.send),
}
