"""Sockets as arguments of a call: the worker gets a duplicate, the caller keeps its own."""

from __future__ import annotations

import os
import socket
from typing import Any


class ShippedSocket:
    """What goes in place of a socket: which descriptor of its message is its own, and what it is of."""

    __slots__ = ("family", "index", "kind", "proto", "timeout")

    def __init__(self, index: int, family: int, kind: int, proto: int, timeout: float | None) -> None:
        self.index = index
        self.family = family
        self.kind = kind
        self.proto = proto
        self.timeout = timeout

    def __reduce__(self) -> Any:
        return ShippedSocket, (self.index, self.family, self.kind, self.proto, self.timeout)


def has_sockets(args: tuple[Any, ...]) -> bool:
    """Whether some of the arguments are sockets."""
    return any(isinstance(arg, socket.socket) for arg in args)


def pack(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int]]:
    """The arguments with the sockets among them replaced, and the descriptors to go with them.

    Raises ValueError for a socket that is closed.
    """
    packed = list(args)
    fds: list[int] = []
    for i, arg in enumerate(args):
        if isinstance(arg, socket.socket):
            if arg.fileno() < 0:
                raise ValueError(f"{arg!r} is closed")
            packed[i] = ShippedSocket(len(fds), arg.family, arg.type, arg.proto, arg.gettimeout())
            fds.append(arg.fileno())
    return tuple(packed), fds


def unpack(args: tuple[Any, ...], fds: list[int]) -> tuple[Any, ...]:
    """The arguments with the sockets. Takes the descriptors that it uses out of the list."""
    if not fds:
        return args
    given, fds[:] = list(fds), []
    opened: dict[int, socket.socket] = {}
    for arg in args:
        if type(arg) is ShippedSocket:
            sock = socket.socket(arg.family, arg.kind, arg.proto, fileno=given[arg.index])
            sock.settimeout(arg.timeout)
            opened[arg.index] = sock
    for index, fd in enumerate(given):
        if index not in opened:
            os.close(fd)
    return tuple(opened[arg.index] if type(arg) is ShippedSocket else arg for arg in args)
