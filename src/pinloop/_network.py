"""Names and connections: getaddrinfo, happy eyeballs, and making a transport of a socket."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import itertools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import _core, _tls

if TYPE_CHECKING:
    from ._endpoints import Endpoints, ProtocolFactory

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

# ------------------------------------------------------------------ names --

_PLAIN_FLAGS = socket.AI_PASSIVE | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_ADDRCONFIG


def literal_address(
    host: object, port: object, family: int, type: int, proto: int, flags: int = 0
) -> list[AddressInfo] | None:
    """What getaddrinfo gives for an IP address and a port number; None where it has to be asked.

    It is asked for names, for scoped addresses ("fe80::1%eth0"), and for a socket type
    or protocol other than plain TCP's and UDP's.
    """
    protocols: dict[int, int] = {
        socket.SOCK_STREAM: socket.IPPROTO_TCP,
        socket.SOCK_DGRAM: socket.IPPROTO_UDP,
    }
    if type not in protocols or proto not in (0, protocols[type]) or flags & ~_PLAIN_FLAGS:
        return None
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return None
    if is_number(port):
        port = int(port)  # type: ignore[call-overload]
    if port is None or port in ("", b""):
        port = 0
    if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool):
        return None
    if not 0 <= port <= 65535:
        return None
    for candidate, tail in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        if family not in (socket.AF_UNSPEC, candidate):
            continue
        try:
            packed = socket.inet_pton(candidate, host)
        except (OSError, ValueError):
            continue
        address = (socket.inet_ntop(candidate, packed), port, *tail)
        return [(candidate, socket.SocketKind(type), protocols[type], "", address)]
    return None


def is_literal(host: object) -> bool:
    """Whether `host` is an IP address, which no lookup is needed for."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)  # type: ignore[arg-type]
        except (OSError, TypeError, ValueError):
            continue
        return True
    return False


def is_number(port: object) -> bool:
    """Whether `port` is a number, as int, str or bytes."""
    if isinstance(port, (str, bytes)):
        return port.isascii() and port.isdigit()
    return isinstance(port, int) and not isinstance(port, bool)


async def getaddrinfo(
    loop: Endpoints, host: Any, port: Any, family: int, type: int, proto: int, flags: int
) -> list[Any]:
    """See Loop.getaddrinfo."""
    found = literal_address(host, port, family, type, proto, flags)
    if found is not None:
        return found
    if is_literal(host) and (port is None or is_number(port)):
        # Too unusual to work out here, but still nothing that would ask a name server.
        return socket.getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
    lookup = (host, port, family, type, proto, flags)
    return await loop.run_in_executor(None, socket.getaddrinfo, *lookup)


async def getnameinfo(loop: Endpoints, sockaddr: Any, flags: int) -> tuple[str, str]:
    """See Loop.getnameinfo."""
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    if flags & numeric == numeric:
        return socket.getnameinfo(sockaddr, flags)
    return await loop.run_in_executor(None, socket.getnameinfo, sockaddr, flags)


async def resolve(
    loop: Endpoints, address: Sequence[Any], *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[AddressInfo]:
    """The socket addresses of (host, port), or of (host, port, flow info, scope id).

    Raises OSError if there are none, OverflowError for a port that there cannot be.
    """
    host, port = address[:2]
    if isinstance(port, int) and not 0 <= port <= 65535 and is_literal(host):
        # getaddrinfo would take the lower 16 bits, and that is another port.
        raise OverflowError(f"port must be 0-65535, not {port}")
    found = literal_address(host, port, family, type, proto, flags)
    if found is not None:
        # An IPv6 address is told by its scope as well: a link-local one means nothing without.
        (info,) = found
        if info[0] == socket.AF_INET6:
            return [(*info[:4], info[4][:2] + tuple(address[2:]) + info[4][len(address) :])]
        return found
    infos = await loop.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
    if not infos:
        raise OSError(f"getaddrinfo({host!r}) returned empty list")
    return infos


# ------------------------------------------------------------- connecting --

_QUEUE_DELAY = 0.001  # seconds before a Unix socket is tried again whose listener's queue is full
_QUEUE_DELAY_MAX = 0.05


async def connect_socket(loop: Endpoints, sock: socket.socket, address: Any) -> None:
    """Connect a non-blocking socket.  Raises OSError naming the address."""
    delay = _QUEUE_DELAY
    while True:
        try:
            sock.connect(address)
            return
        except (BlockingIOError, InterruptedError) as exc:
            if sock.family != socket.AF_UNIX or exc.errno != errno.EAGAIN:
                break
        # The listener's queue is full, and no event will tell when it is not.
        await asyncio.sleep(delay)
        delay = min(2 * delay, _QUEUE_DELAY_MAX)
    await loop._sock_connected(sock)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, f"Connect call failed {address}")


async def sock_connect(loop: Endpoints, sock: socket.socket, address: Any) -> None:
    """See Loop.sock_connect."""
    _core.refuse_tls_socket(sock)
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        infos = await resolve(loop, address, family=sock.family, type=sock.type, proto=sock.proto)
        address = infos[0][4]
    await connect_socket(loop, sock, address)


async def connect_one(
    loop: Endpoints, info: AddressInfo, local: Sequence[AddressInfo] | None, failures: list[Exception]
) -> socket.socket:
    """A connected socket.  `failures` gets those of local addresses that were tried before one would do."""
    family, type_, proto, _, address = info
    sock = socket.socket(family, type_, proto)
    try:
        sock.setblocking(False)
        if local is not None:
            _bind_local(sock, family, local, failures)
        await loop.sock_connect(sock, address)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            sock.close()
        raise
    return sock


def _bind_local(
    sock: socket.socket, family: int, local: Sequence[AddressInfo], failures: list[Exception]
) -> None:
    mine: list[OSError] = []
    for local_family, _, _, _, address in local:
        if local_family != family:
            continue
        try:
            sock.bind(address)
        except OSError as exc:
            text = f"error while attempting to bind on address {address!r}: {str(exc).lower()}"
            mine.append(OSError(exc.errno, text))
        else:
            failures.extend(mine)
            return
    if mine:
        failures.extend(mine[:-1])
        raise mine[-1]
    raise OSError(f"no matching local address with family={family!r} found")


def interleave_families(infos: Sequence[AddressInfo], first_count: int = 1) -> list[AddressInfo]:
    """Alternate between address families, `first_count` of the first one leading (RFC 8305, section 4)."""
    by_family: dict[int, list[AddressInfo]] = collections.defaultdict(list)
    for info in infos:
        by_family[info[0]].append(info)
    groups = list(by_family.values())
    lead = groups[0][: first_count - 1] if first_count > 1 else []
    if lead:
        groups[0] = groups[0][first_count - 1 :]
    rounds = itertools.zip_longest(*groups)
    return lead + [info for one_round in rounds for info in one_round if info is not None]


async def _connect_in_turn(
    attempts: Iterable[Callable[[], Any]],
) -> tuple[socket.socket | None, list[Exception]]:
    failures: list[Exception] = []
    for attempt in attempts:
        try:
            return await attempt(), failures
        except OSError as exc:
            failures.append(exc)
    return None, failures


async def _connect_staggered(
    loop: Endpoints, attempts: Sequence[Callable[[], Any]], delay: float
) -> tuple[socket.socket | None, list[Exception]]:
    """Start an attempt every `delay` seconds, or as soon as one fails; the first to connect wins.

    The losers are cancelled and awaited, and a loser that had connected is closed
    (RFC 8305, section 5).
    """
    waiting = list(attempts)
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[Exception] = []
    winner: socket.socket | None = None
    try:
        try:
            while winner is None and (waiting or running):
                if waiting:
                    running.add(loop.create_task(waiting.pop(0)()))
                done, _ = await asyncio.wait(
                    running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    failure = task.exception()
                    if isinstance(failure, OSError):
                        failures.append(failure)
                    elif failure is not None:
                        raise failure
                    elif winner is None:
                        winner = task.result()
                    else:
                        continue  # connected too, and left among those to be ended
                    running.discard(task)
        finally:
            await _end_losers(running)
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    return winner, failures


async def _end_losers(losers: set[asyncio.Task[socket.socket]]) -> None:
    for task in losers:
        task.cancel()
        # Closed by callback: a cancellation may end the wait below before they are done.
        task.add_done_callback(_close_result)
    if losers:
        await asyncio.wait(losers)


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _no_address_answered(failures: list[Exception], all_errors: bool) -> Exception:
    if all_errors:
        return ExceptionGroup("create_connection failed", failures)
    if len({str(failure) for failure in failures}) == 1:
        return failures[0]
    return OSError(f"Multiple exceptions: {', '.join(str(failure) for failure in failures)}")


async def _connect_any(
    loop: Endpoints,
    infos: list[AddressInfo],
    local: list[AddressInfo] | None,
    delay: float | None,
    all_errors: bool,
) -> socket.socket:
    passed_over: list[Exception] = []
    attempts = [lambda info=info: connect_one(loop, info, local, passed_over) for info in infos]
    if delay is None or len(attempts) == 1:
        sock, failures = await _connect_in_turn(attempts)
    else:
        sock, failures = await _connect_staggered(loop, attempts, delay)
    if sock is None:
        try:
            raise _no_address_answered(passed_over + failures, all_errors)
        finally:
            failures.clear()  # each holds this frame through its traceback
    return sock


async def create_connection(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    host: Any,
    port: Any,
    *,
    ssl: Any,
    family: int,
    proto: int,
    flags: int,
    sock: socket.socket | None,
    local_addr: Any,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
    happy_eyeballs_delay: float | None,
    interleave: int | None,
    all_errors: bool,
) -> tuple[asyncio.Transport, Any]:
    """See Loop.create_connection."""
    tls, server_hostname = _tls.client_config(
        ssl, host, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
    )
    if sock is not None:
        _core.refuse_tls_socket(sock)
        if host is not None or port is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        check_stream_socket(sock)
    elif host is None and port is None:
        raise ValueError("host and port was not specified and no sock specified")
    else:
        infos = await resolve(
            loop, (host, port), family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags
        )
        local = None
        if local_addr is not None:
            local = await resolve(
                loop, local_addr, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags
            )
        if interleave is None:
            interleave = 1 if happy_eyeballs_delay is not None else 0
        if interleave:
            infos = interleave_families(infos, interleave)
        sock = await _connect_any(loop, infos, local, happy_eyeballs_delay, all_errors)
    return await adopt_socket(loop, sock, protocol_factory, tls, server_hostname=server_hostname)


async def connect_accepted_socket(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    sock: socket.socket,
    *,
    ssl: Any,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> tuple[asyncio.Transport, Any]:
    """See Loop.connect_accepted_socket."""
    check_stream_socket(sock)
    _core.refuse_tls_socket(sock)
    if ssl is True:
        raise ValueError("the server's side of TLS needs an SSLContext with a certificate, not ssl=True")
    tls = _tls.server_config(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    return await adopt_socket(loop, sock, protocol_factory, tls, server_side=True)


async def adopt_socket(
    loop: Endpoints,
    sock: socket.socket,
    protocol_factory: ProtocolFactory,
    tls: _tls.TlsConfig | None = None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
) -> tuple[asyncio.Transport, Any]:
    """Hand a connected socket to a transport; connection_made has been called on return.

    With `tls` that is after the handshake, and the transport returned is the encrypted one.
    """
    _core.refuse_used_fd(loop, sock.fileno())
    try:
        sock.setblocking(False)
        set_nodelay(sock)
        protocol = make_protocol(protocol_factory)
        waiter = loop.create_future()
        if tls is None:
            transport = _core.stream_transport(loop, sock, protocol, waiter)
        else:
            transport, records = _core.tls_transport(
                loop, protocol, tls, server_hostname, server_side, waiter, announces=True
            )
            _core.stream_transport(loop, sock, records, None)
    except BaseException:
        sock.close()
        raise
    try:
        await until_made(transport, waiter)
    finally:
        del waiter  # it may hold an exception, whose traceback holds this frame
    return transport, protocol


def make_protocol(protocol_factory: ProtocolFactory) -> Any:
    """A protocol.  Raises AttributeError for what is none, which else a later callback would find out."""
    protocol = protocol_factory()
    _ = protocol.connection_made
    return protocol


async def until_made(transport: Any, waiter: asyncio.Future[None]) -> None:
    """Wait for `waiter`, which a new transport completes; if that fails or is cancelled, close it."""
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    finally:
        del waiter  # as in the caller: no cycle with the exception that it may hold


# ----------------------------------------------------------------- checks --


def set_nodelay(sock: socket.socket) -> None:
    """Send small segments at once (RFC 896's delay off); a listener hands it down to what it accepts."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def check_stream_socket(sock: socket.socket) -> None:
    """Raise ValueError unless `sock` is a stream socket."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
