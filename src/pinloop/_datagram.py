"""Datagram endpoints: making the socket of `create_datagram_endpoint`."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from asyncio.log import logger
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _network

if TYPE_CHECKING:
    from ._endpoints import Endpoints, ProtocolFactory


# As asyncio's message has it.
_EXPECTED = "A datagram socket" if sys.version_info >= (3, 13) else "A UDP Socket"


class _Candidate(NamedTuple):
    """A socket that could be made, and the addresses to bind and connect it to."""

    family: int
    proto: int
    local: Any
    remote: Any


async def create_datagram_endpoint(
    loop: Endpoints,
    protocol_factory: ProtocolFactory,
    local_addr: Any,
    remote_addr: Any,
    *,
    family: int,
    proto: int,
    flags: int,
    reuse_port: bool | None,
    allow_broadcast: bool | None,
    sock: socket.socket | None,
) -> tuple[asyncio.DatagramTransport, Any]:
    """See Loop.create_datagram_endpoint."""
    only_address = None
    if sock is not None:
        _check_datagram_socket(sock)
        _check_no_modifiers(
            local_addr=local_addr,
            remote_addr=remote_addr,
            family=family,
            proto=proto,
            flags=flags,
            reuse_port=reuse_port,
            allow_broadcast=allow_broadcast,
        )
        _core.refuse_used_fd(loop, sock.fileno())
    else:
        candidates = await _candidates(loop, local_addr, remote_addr, family, proto, flags)
        sock, only_address = await _open_any(loop, candidates, bool(reuse_port), bool(allow_broadcast))
    waiter = loop.create_future()
    try:
        sock.setblocking(False)
        protocol = _network.make_protocol(protocol_factory)
        transport = _core.datagram_transport(loop, sock, protocol, only_address, waiter)
    except BaseException:
        sock.close()
        raise
    if loop.get_debug():
        logger.debug("Datagram endpoint %r -> %r created: %r", local_addr, remote_addr, transport)
    await _network.until_made(transport, waiter)
    return transport, protocol


def _check_datagram_socket(sock: socket.socket) -> None:
    # Raw sockets and the like are fine, as with asyncio since 3.13.
    if sock.type == socket.SOCK_STREAM:
        raise ValueError(f"{_EXPECTED} was expected, got {sock!r}")


def _check_no_modifiers(**modifiers: Any) -> None:
    given = ", ".join(f"{name}={value}" for name, value in modifiers.items() if value)
    if given:
        raise ValueError(
            f"socket modifier keyword arguments can not be used when sock is specified. ({given})"
        )


async def _candidates(
    loop: Endpoints, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
) -> list[_Candidate]:
    """The sockets to try, in the order of the addresses found."""
    if not local_addr and not remote_addr:
        if family == 0:
            raise ValueError("unexpected address family")
        return [_Candidate(family, proto, None, None)]
    if family == socket.AF_UNIX:
        for path in (local_addr, remote_addr):
            if path is not None and not isinstance(path, str):
                raise TypeError(f"string is expected, got {path!r}")
        if local_addr:
            remove_stale_socket(local_addr)
        return [_Candidate(family, proto, local_addr, remote_addr)]
    ends: list[dict[tuple[int, int], Any]] = []
    for address in (local_addr, remote_addr):
        ends.append({})
        if address is None:
            continue
        if not (isinstance(address, tuple) and len(address) == 2):
            raise TypeError(f"2-tuple is expected, got {address!r}")
        infos = await _network.resolve(
            loop, address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
        )
        for found_family, _, found_proto, _, found in infos:
            ends[-1][found_family, found_proto] = found
    local, remote = ends
    # Both ends have to be of one family.
    usable = [
        _Candidate(*key, local.get(key), remote.get(key))
        for key in dict.fromkeys([*local, *remote])
        if (key in local or not local_addr) and (key in remote or not remote_addr)
    ]
    if not usable:
        raise ValueError("can not get address information")
    return usable


async def _open_any(
    loop: Endpoints, candidates: list[_Candidate], reuse_port: bool, allow_broadcast: bool
) -> tuple[socket.socket, Any]:
    """The first socket that can be made, and its remote address; raises the first OSError if none can."""
    failures: list[OSError] = []
    try:
        for candidate in candidates:
            try:
                return await _open(loop, candidate, reuse_port, allow_broadcast), candidate.remote
            except OSError as exc:
                failures.append(exc)
        raise failures[0]
    finally:
        failures.clear()  # each holds this frame through its traceback


async def _open(
    loop: Endpoints, candidate: _Candidate, reuse_port: bool, allow_broadcast: bool
) -> socket.socket:
    sock = socket.socket(candidate.family, socket.SOCK_DGRAM, candidate.proto)
    try:
        if reuse_port:
            _set_reuse_port(sock)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setblocking(False)
        if candidate.local:
            sock.bind(candidate.local)
        # A socket connected to a broadcast address would not receive the answers to it.
        if candidate.remote and not allow_broadcast:
            await loop.sock_connect(sock, candidate.remote)
    except BaseException:
        sock.close()
        raise
    return sock


def _set_reuse_port(sock: socket.socket) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


def remove_stale_socket(path: str | bytes) -> None:
    """Take away the socket file that an ended program left at `path`; what is no socket stays."""
    if path[0] in (0, "\x00"):
        return  # abstract: there is no file
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # The folder may let us make a socket and not look at it: the bind will tell.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)
