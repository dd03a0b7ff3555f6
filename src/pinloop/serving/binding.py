"""The listening sockets of a service. They are bound in the parent, and stay its own.

Why there: a queue of connections that wait to be accepted belongs to a listening socket, and is lost with the
last descriptor of it. A worker that makes its own socket takes its queue along when it ends, and with
SO_REUSEPORT the kernel goes on putting connections there until the very last moment (`tcp_migrate_req`, which
moves them, is off by default and of Linux 5.14). To empty the queue before closing leaves a gap between the
two. So the parent keeps one descriptor of each, and a worker's successor gets the same socket: there is no
moment without a queue, neither when a worker is replaced nor when it is killed; then what waits in it waits
for the worker that is started instead.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

REUSEPORT, SHARED, ACCEPTOR = "reuseport", "shared", "acceptor"
BALANCES = (REUSEPORT, SHARED, ACCEPTOR)

Address = tuple[str, int] | str
"""Where a service listens: a host and its port, or the path of a Unix socket."""

TRIES = 20  # for a port that is free on each of several addresses


def reuseport_option() -> int | None:
    """The socket option by which the kernel spreads connections over listeners; None where there is none.

    SO_REUSEPORT of macOS and the BSDs gives them all to one; FreeBSD has another option for it.
    """
    name = "SO_REUSEPORT" if sys.platform.startswith("linux") else "SO_REUSEPORT_LB"
    option: int | None = getattr(socket, name, None)
    return option


class Listeners:
    """The listening sockets of a service: for each worker its own, and the Unix socket's file."""

    def __init__(self) -> None:
        self.of_worker: list[list[socket.socket]] = []
        """Those that each worker accepts from; the same ones for all, unless the kernel balances."""
        self.addresses: tuple[Address, ...] = ()
        self._all: list[socket.socket] = []
        self._file: tuple[str, int] | None = None

    def close(self) -> None:
        """Close all, and remove the socket file unless somebody replaced it."""
        for sock in self._all:
            sock.close()
        self._all.clear()
        self.of_worker = []
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                if os.stat(file[0]).st_ino == file[1]:
                    os.unlink(file[0])


def open_listeners(
    host: str | Sequence[str] | None,
    port: int | None,
    unix: str | os.PathLike[str] | None,
    workers: int,
    balance: str,
    backlog: int,
) -> Listeners:
    """Bind and listen. Raises OSError that names the address; nothing stays open then."""
    listeners = Listeners()
    count = workers if balance == REUSEPORT else 1
    with ExitStack() as undo:
        undo.callback(listeners.close)
        found: list[list[socket.socket]] = []  # for each address
        if port is not None:
            found = _open_tcp(_infos(host, port), port, count, listeners._all)
        addresses: list[Address] = [sockets[0].getsockname()[:2] for sockets in found]
        if unix is not None:
            path = os.fspath(unix)
            sock = _open_unix(path, listeners._all)
            if not path.startswith("\0"):
                listeners._file = path, os.stat(path).st_ino
            found.append([sock] * count)
            addresses.append(path)
        for sock in listeners._all:
            sock.setblocking(False)
            try:
                sock.listen(backlog)
            except OSError as error:
                raise _problem(error, sock.getsockname()) from None
        undo.pop_all()
    listeners.of_worker = [[sockets[i % count] for sockets in found] for i in range(workers)]
    listeners.addresses = tuple(addresses)
    return listeners


def _infos(host: str | Sequence[str] | None, port: int) -> list[tuple[Any, ...]]:
    hosts = [host] if host is None or isinstance(host, str) else list(host)
    found: dict[tuple[Any, ...], None] = {}
    for each in hosts:
        try:
            infos = socket.getaddrinfo(each or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise OSError(
                error.errno, f"cannot listen on {name_of(each or '*', port)}: {error.strerror}"
            ) from None
        found.update(dict.fromkeys(infos))
    return list(found)


def _open_tcp(
    infos: list[tuple[Any, ...]], port: int, count: int, opened: list[socket.socket]
) -> list[list[socket.socket]]:
    """For each address `count` sockets, all with one port."""
    for attempt in range(TRIES):
        before = len(opened)
        try:
            chosen, found = port, []
            for family, _, proto, _, address in infos:
                sockets = _open_address(family, proto, (address[0], chosen, *address[2:]), count, opened)
                if sockets:
                    found.append(sockets)
                    chosen = sockets[0].getsockname()[1]
        except OSError as error:
            # The port that the first address was given may be taken on the next.
            if port != 0 or error.errno != errno.EADDRINUSE or attempt == TRIES - 1:
                raise
            for sock in opened[before:]:
                sock.close()
            del opened[before:]
        else:
            if not found:
                raise OSError(errno.EAFNOSUPPORT, f"cannot listen on any of {[info[4] for info in infos]}")
            return found
    raise AssertionError("the last attempt returns or raises")


def _open_address(
    family: int, proto: int, address: tuple[Any, ...], count: int, opened: list[socket.socket]
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for i in range(count):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM, proto)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:  # getaddrinfo knows it, and the kernel was built without
                return []
            raise
        opened.append(sock)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else "::" would take the IPv4 port too, which has a socket of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        option = reuseport_option() if count > 1 else None
        # The first is bound without the option: with it, a port on which another service of this user
        # listens by the same option would be shared with that, silently.
        if option is not None and i > 0:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            sock.bind(address if i == 0 else sockets[0].getsockname())
        except OSError as error:
            raise _problem(error, address) from None
        if option is not None and i == 0:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
    return sockets


def _open_unix(path: str, opened: list[socket.socket]) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError("this platform has no Unix sockets")
    if not path.startswith("\0"):
        _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.append(sock)
    try:
        sock.bind(path)
    except OSError as error:
        raise _problem(error, path) from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens at: a service that was killed left it."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # what is no socket stays, and the bind tells of it
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(path)
    except ConnectionRefusedError:
        with suppress(FileNotFoundError):
            os.unlink(path)
    except OSError:
        return


def _problem(error: OSError, address: Any) -> OSError:
    where = name_of(*address[:2]) if isinstance(address, tuple) else repr(address)
    return OSError(error.errno, f"cannot listen on {where}: {(error.strerror or str(error)).lower()}")


def name_of(host: str, port: int) -> str:
    """An address as one writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(address: Address, scheme: str) -> str:
    """An address as a URL."""
    if isinstance(address, str):
        return f"unix:{address}"
    return f"{scheme}://{name_of(*address)}"


def distinct(sockets: Iterable[Iterable[socket.socket]]) -> list[socket.socket]:
    """Each socket once."""
    return list({sock.fileno(): sock for group in sockets for sock in group}.values())
