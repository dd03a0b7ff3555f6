"""Listening: `create_server` and the `Server` that it returns."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from . import _core, _network, _tls

if TYPE_CHECKING:
    import ssl

    from ._endpoints import Endpoints, ProtocolFactory
    from ._loop import Loop

# From 3.14 on a cancelled serve_forever() closes the connections too.
_ENDS_CLIENTS = sys.version_info >= (3, 14)

# asyncio 3.11's wait_closed() returned at once after close(); from 3.12 on it waits for
# the connections.  Programs are written for the version they run on.
_WAITS_FOR_CLIENTS = sys.version_info >= (3, 12)


class Server(asyncio.AbstractServer):
    """A listening server, as `Loop.create_server` returns it.  Also an asynchronous context manager."""

    def __init__(
        self,
        loop: Endpoints,
        sockets: list[socket.socket],
        protocol_factory: ProtocolFactory,
        backlog: int,
        tls: _tls.TlsConfig | None = None,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = sockets
        self._protocol_factory = protocol_factory
        self._backlog = backlog
        self._tls = tls
        self._listeners: list[_core.Listener] = []
        self._transports: set[asyncio.Transport] = set()
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    @property
    def _ssl_context(self) -> ssl.SSLContext | None:
        """Of the connections, None without TLS.  asyncio's servers have it, and programs look at it."""
        return self._tls.context if self._tls is not None else None

    # Called by the native transports of this server.

    def _attach(self, transport: asyncio.Transport) -> None:
        self._transports.add(transport)

    def _detach(self, transport: asyncio.Transport) -> None:
        self._transports.discard(transport)
        if not self._transports and self._sockets is None:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters or [], None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _start_serving(self) -> None:
        if self._listeners or self._sockets is None:
            return
        try:
            for sock in self._sockets:
                listen(sock, self._backlog)
                listener = _core.Listener(self._loop, sock, self._protocol_factory, self, self._tls)
                listener.start()
                self._listeners.append(listener)
        except BaseException:
            self._stop_serving()
            raise

    def _stop_serving(self) -> None:
        for listener in self._listeners:
            listener.stop()
        self._listeners.clear()

    def get_loop(self) -> Loop:
        """The loop it serves on."""
        return cast("Loop", self._loop)

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return bool(self._listeners)

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets; empty once closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets or ())

    def close(self) -> None:
        """Accept no more and close the listening sockets.  Open connections go on."""
        sockets, self._sockets = self._sockets, None
        if sockets is None:
            return
        self._stop_serving()
        for sock in sockets:
            sock.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._forever = None
        if not self._transports:
            self._wake_waiters()

    def close_clients(self) -> None:
        """Close every open connection: what was written is still sent."""
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """Close every open connection at once, dropping what was not sent."""
        for transport in list(self._transports):
            transport.abort()

    async def start_serving(self) -> None:
        """Accept connections from now on.  Does nothing if it does already.

        Raises RuntimeError once it is closed.
        """
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        await asyncio.sleep(0)  # as asyncio: a first connection may be accepted before this returns

    async def _started(self, start_serving: bool) -> Self:
        """This new server, accepting if it shall; closed again if it cannot."""
        if start_serving:
            try:
                await self.start_serving()
            except BaseException:
                self.close()
                raise
        return self

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, then close the server (from 3.14 on with its connections).

        Raises RuntimeError if the server is closed or somebody serves for ever already.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                if _ENDS_CLIENTS:
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    async def wait_closed(self) -> None:
        """Wait until the server is closed and, from Python 3.12 on, its last connection gone."""
        if self._waiters is None or (self._sockets is None and not _WAITS_FOR_CLIENTS):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


async def create_server(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    host: Any,
    port: Any,
    *,
    family: int,
    flags: int,
    sock: socket.socket | None,
    backlog: int,
    ssl: Any,
    reuse_address: bool | None,
    reuse_port: bool | None,
    keep_alive: bool | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
    start_serving: bool,
) -> Server:
    """See Loop.create_server."""
    tls = _tls.server_config(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        if host is not None or port is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        _core.refuse_tls_socket(sock)
        _network.check_stream_socket(sock)
        sockets = [sock]
    elif host is None and port is None:
        raise ValueError("Neither host/port nor sock were specified")
    else:
        infos = await _listening_addresses(loop, host, port, family, flags)
        sockets = bind_all(infos, _socket_options(reuse_address, reuse_port, keep_alive))
    for listening in sockets:
        listening.setblocking(False)
        _network.set_nodelay(listening)
    server = Server(loop, sockets, protocol_factory, backlog, tls)
    return await server._started(start_serving)


async def _listening_addresses(
    loop: Endpoints, host: Any, port: Any, family: int, flags: int
) -> list[_network.AddressInfo]:
    if host == "":
        hosts: Sequence[Any] = [None]
    elif isinstance(host, (str, bytes)) or not isinstance(host, Iterable):
        hosts = [host]
    else:
        hosts = list(host)
    lookups = [
        _network.resolve(loop, (each, port), family=family, type=socket.SOCK_STREAM, flags=flags)
        for each in hosts
    ]
    found = await asyncio.gather(*lookups)
    return list(dict.fromkeys(info for infos in found for info in infos))


def _socket_options(
    reuse_address: bool | None, reuse_port: bool | None, keep_alive: bool | None
) -> list[tuple[str, int]]:
    """The SOL_SOCKET options to set.  Raises ValueError for SO_REUSEPORT where there is none."""
    if reuse_address is None:
        reuse_address = os.name == "posix" and sys.platform != "cygwin"
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    wanted = (
        ("SO_REUSEADDR", reuse_address),
        ("SO_REUSEPORT", reuse_port),
        ("SO_KEEPALIVE", keep_alive),
    )
    return [(name, getattr(socket, name)) for name, on in wanted if on]


def bind_all(infos: Iterable[_network.AddressInfo], options: list[tuple[str, int]]) -> list[socket.socket]:
    """A bound socket for each address.  Raises OSError naming the one that failed; none stays open then."""
    infos = list(infos)
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, type_, proto, _, address in infos:
            try:
                sock = socket.socket(family, type_, proto)
            except OSError:
                # A family that getaddrinfo knows and the kernel was built without.
                logger.debug("create_server() failed to create a socket for %r", address, exc_info=True)
                continue
            undo.callback(sock.close)
            if _bind(sock, address, options):
                sockets.append(sock)
        if not sockets:
            raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
        undo.pop_all()  # all went well: they stay open
    return sockets


def listen(sock: socket.socket, backlog: int) -> None:
    """Listen.  Raises OSError that names the address: it may have been taken since the bind."""
    try:
        sock.listen(backlog)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise OSError(
            exc.errno, f"error while attempting to listen on address {sock.getsockname()!r}: {reason}"
        ) from None


def _bind(sock: socket.socket, address: tuple[Any, ...], options: list[tuple[str, int]]) -> bool:
    """Bind; false for an address that this machine does not have."""
    for name, option in options:
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        except OSError as exc:
            if name != "SO_REUSEPORT":
                raise
            raise ValueError("reuse_port is known to the socket module, but not to this kernel") from exc
    if sock.family == socket.AF_INET6 and hasattr(socket, "IPPROTO_IPV6"):
        # Else "::" would take the IPv4 port too, which has a socket of its own.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
    try:
        sock.bind(address)
    except OSError as exc:
        text = f"error while attempting to bind on address {address!r}: {(exc.strerror or str(exc)).lower()}"
        if exc.errno == errno.EADDRNOTAVAIL:
            sock.close()
            logger.warning(text)
            return False
        raise OSError(exc.errno, text) from None
    return True
