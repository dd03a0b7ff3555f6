"""What makes connections: the loop's methods that give transports, servers and processes.

Each hands over to the module of its kind; the words are here, where a user looks for them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from typing import IO, Any

from . import _core, _datagram, _network, _pipes, _sendfile, _subprocess, _tls, _unix
from ._server import Server, create_server

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def _not_yet(name: str) -> Any:
    async def method(self: object, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"pinloop's loop has no {name}() yet")

    method.__name__ = name
    method.__qualname__ = f"Loop.{name}"
    method.__doc__ = "Not there yet: raises NotImplementedError."
    return method


class Endpoints(_core.Loop, asyncio.AbstractEventLoop):
    """The half of the loop's surface that makes endpoints."""

    # --------------------------------------------------------------------- TCP --

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """As socket.getaddrinfo, in a thread of the default executor; a literal address needs none."""
        return await _network.getaddrinfo(self, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
        """As socket.getnameinfo, in a thread; with NI_NUMERICHOST and NI_NUMERICSERV it needs none."""
        return await _network.getnameinfo(self, sockaddr, flags)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket; a host name in `address` is looked up.

        Raises OSError naming the address; ValueError, in debug mode, for a blocking socket.
        """
        await _network.sock_connect(self, sock, address)

    async def create_connection(
        self,
        protocol_factory: ProtocolFactory,
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, Any]:
        """Connect over TCP and return (transport, protocol).

        `sock` is a connected socket instead of host and port; `happy_eyeballs_delay` (seconds)
        starts attempts side by side (RFC 8305).  `ssl` is an SSLContext, or True for Python's
        default one; timeouts in seconds.  Raises OSError when no address answers, with
        `all_errors` an ExceptionGroup of every attempt's; ValueError or TypeError for what does
        not go together.  Cancellation closes what was begun.
        """
        return await _network.create_connection(
            self,
            protocol_factory,
            host,
            port,
            ssl=ssl,
            family=family,
            proto=proto,
            flags=flags,
            sock=sock,
            local_addr=local_addr,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            happy_eyeballs_delay=happy_eyeballs_delay,
            interleave=interleave,
            all_errors=all_errors,
        )

    async def connect_accepted_socket(
        self,
        protocol_factory: ProtocolFactory,
        sock: socket.socket,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, Any]:
        """Make a transport of a connection accepted elsewhere and return (transport, protocol)."""
        return await _network.connect_accepted_socket(
            self,
            protocol_factory,
            sock,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        host: Any = None,
        port: Any = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Listen on TCP and return a `Server`.

        `host` is a name, a sequence of names or None for all interfaces; `sock` is a bound
        socket instead of host and port.  Raises OSError naming host and port that cannot be
        bound; nothing stays open then.
        """
        return await create_server(
            self,
            protocol_factory,
            host,
            port,
            family=family,
            flags=flags,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
            keep_alive=keep_alive,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=start_serving,
        )

    # --------------------------------------------------------------------- TLS --

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Encrypt an open connection and return the transport to use from now on.

        Timeouts in seconds.  Raises TypeError for what is no SSLContext or cannot
        carry TLS, ssl.SSLError when the handshake fails and ConnectionAbortedError when it takes
        too long; the connection is closed then, and also when cancelled.
        """
        return await _tls.start_tls(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    # ------------------------------------------------------------ Unix sockets --

    async def create_unix_connection(
        self,
        protocol_factory: ProtocolFactory,
        path: Any = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, Any]:
        """Connect to the Unix socket at `path` and return (transport, protocol).

        `path` is a str, bytes or os.PathLike; with a null byte in front it is a name in
        Linux's abstract namespace.  `sock` is a connected socket instead of the path.  Waits
        while the server's queue is full.  Raises OSError when nobody listens there;
        cancellation closes what was begun.
        """
        return await _unix.create_unix_connection(
            self,
            protocol_factory,
            path,
            ssl=ssl,
            sock=sock,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        path: Any = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _unix.CLEANS_UP,
    ) -> Server:
        """Listen on the Unix socket `path` and return a `Server`.

        A socket file that is there already is replaced.  `sock` is a bound socket instead of
        the path; `cleanup_socket` (the default from Python 3.13 on) removes the file when the
        server closes.  Raises OSError naming the path that cannot be bound.
        """
        return await _unix.create_unix_server(
            self,
            protocol_factory,
            path,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=start_serving,
            cleanup_socket=cleanup_socket,
        )

    # --------------------------------------------------------------- datagrams --

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, Any]:
        """Make a datagram socket, bound to `local_addr`, connected to `remote_addr`, or both.

        Returns (transport, protocol).  The addresses are (host, port), or paths with
        family=AF_UNIX; without any, `family` is enough.  `sock` is a socket instead of all
        these.  Raises ValueError or TypeError for what does not go together, OSError for what cannot
        be bound or connected; nothing stays open then.
        """
        return await _datagram.create_datagram_endpoint(
            self,
            protocol_factory,
            local_addr,
            remote_addr,
            family=family,
            proto=proto,
            flags=flags,
            reuse_port=reuse_port,
            allow_broadcast=allow_broadcast,
            sock=sock,
        )

    # ---------------------------------------------------------------- sendfile --

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file over a non-blocking stream socket and return the number of bytes sent.

        From `offset` on, `count` bytes or up to the end, by sendfile(2); where that cannot be,
        by reading and sending, unless `fallback` is false: then SendfileNotAvailableError.
        The file's position is set to the end of what was sent, also when it fails or is
        cancelled.  Raises ValueError or TypeError for a file in text mode, a bad offset or
        count, a socket that is not a stream; OSError as the socket does.
        """
        return await _sendfile.sock_sendfile(self, sock, file, offset, count, bool(fallback))

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file through a transport, after what was written to it, and return the number of bytes.

        As `sock_sendfile` otherwise; TLS needs the fallback.  Meanwhile nothing is read,
        and writing raises RuntimeError where sendfile(2) is at work.  Raises RuntimeError
        for a transport that is closing or not a stream, or needs a fallback that is not
        wanted; ConnectionError when the connection ends before the file.
        """
        return await _sendfile.sendfile(self, transport, file, offset, count, fallback)

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        # This and the next by asyncio's names: its tests replace them to force the fallback.
        return await _sendfile.sock_native(self, sock, file, offset, count)

    async def _sendfile_native(
        self, transp: asyncio.WriteTransport, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        return await _sendfile.transport_native(self, transp, file, offset, count)

    # ------------------------------------------------------------------- pipes --

    async def connect_read_pipe(
        self, protocol_factory: ProtocolFactory, pipe: Any
    ) -> tuple[asyncio.ReadTransport, Any]:
        """Read from `pipe` (a file object or socket) and return (transport, protocol).

        The transport owns it from then on and makes it non-blocking.  Raises ValueError,
        and leaves it to the caller, if it is not a pipe, a FIFO, a socket or a character
        device; RuntimeError if a transport uses its fd.  Cancellation closes it.
        """
        return await _pipes.connect_read_pipe(self, protocol_factory, pipe)

    async def connect_write_pipe(
        self, protocol_factory: ProtocolFactory, pipe: Any
    ) -> tuple[asyncio.WriteTransport, Any]:
        """Write to `pipe` and return (transport, protocol).  As `connect_read_pipe` otherwise.

        `connection_lost` tells when the reading end is closed, except for a terminal.
        """
        return await _pipes.connect_write_pipe(self, protocol_factory, pipe)

    # --------------------------------------------------------------- processes --

    async def subprocess_exec(
        self,
        protocol_factory: ProtocolFactory,
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **options: Any,
    ) -> tuple[asyncio.SubprocessTransport, Any]:
        """Run `program` with `args` and return (transport, protocol).

        Options are subprocess.Popen's, except those for text.  Raises what Popen raises, ValueError
        for text options; cancellation kills the child and waits for it.
        """
        command = (program, *args)
        return await _subprocess.start(
            self, protocol_factory, command, stdin, stdout, stderr, options, by_shell=False
        )

    async def subprocess_shell(
        self,
        protocol_factory: ProtocolFactory,
        cmd: str | bytes,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **options: Any,
    ) -> tuple[asyncio.SubprocessTransport, Any]:
        """Run `cmd` by the shell.  As `subprocess_exec` otherwise."""
        return await _subprocess.start(
            self, protocol_factory, cmd, stdin, stdout, stderr, options, by_shell=True
        )
