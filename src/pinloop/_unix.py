"""Stream connections and servers over Unix sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from . import _network, _tls
from ._datagram import remove_stale_socket
from ._server import Server

if TYPE_CHECKING:
    from ._endpoints import Endpoints, ProtocolFactory

# asyncio's servers take their socket files away since 3.13.
CLEANS_UP = sys.version_info >= (3, 13)


class UnixServer(Server):
    """A server on a Unix socket, whose file it removes when it closes unless somebody replaced it."""

    def __init__(
        self,
        loop: Endpoints,
        sock: socket.socket,
        protocol_factory: ProtocolFactory,
        backlog: int,
        cleanup_socket: bool,
        tls: _tls.TlsConfig | None,
    ) -> None:
        super().__init__(loop, [sock], protocol_factory, backlog, tls)
        self._file: tuple[str, int] | None = None
        path = sock.getsockname()
        if cleanup_socket and path and path[0] not in (0, "\x00"):
            try:
                self._file = (path, os.stat(path).st_ino)
            except FileNotFoundError:
                pass

    def close(self) -> None:
        """Accept no more, close the listening socket and remove its file.  Open connections go on."""
        super().close()
        file, self._file = self._file, None
        if file is None:
            return
        path, inode = file
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, exc)


async def create_unix_connection(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    path: Any,
    *,
    ssl: Any,
    sock: socket.socket | None,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> tuple[asyncio.Transport, Any]:
    """See Loop.create_unix_connection."""
    if ssl and server_hostname is None:
        raise ValueError("you have to pass server_hostname when using ssl")
    tls, server_hostname = _tls.client_config(
        ssl, None, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
    )
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        info = (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", os.fspath(path))
        sock = await _network.connect_one(loop, info, None, [])
    elif sock is None:
        raise ValueError("no path and sock were specified")
    else:
        _check_unix_socket(sock)
    return await _network.adopt_socket(loop, sock, protocol_factory, tls, server_hostname=server_hostname)


async def create_unix_server(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    path: Any,
    *,
    sock: socket.socket | None,
    backlog: int,
    ssl: Any,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
    start_serving: bool,
    cleanup_socket: bool,
) -> Server:
    """See Loop.create_unix_server."""
    tls = _tls.server_config(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        sock = _bind(os.fspath(path))
    elif sock is None:
        raise ValueError("path was not specified, and no sock specified")
    else:
        _check_unix_socket(sock)
    sock.setblocking(False)
    server = UnixServer(loop, sock, protocol_factory, backlog, cleanup_socket, tls)
    return await server._started(start_serving)


def _bind(path: str | bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path:
            remove_stale_socket(path)
        sock.bind(path)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    except BaseException:
        sock.close()
        raise
    return sock


def _check_unix_socket(sock: socket.socket) -> None:
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
