"""The sockets that the servers are started on."""

from __future__ import annotations

import socket

BACKLOG = 4096
UDP_ROOM = 208 * 1024
"""The receive buffer of a UDP server in bytes, as large as Linux grants to all. The C floor has it too."""


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


def bind_datagrams() -> socket.socket:
    """A nonblocking UDP socket on a free port of 127.0.0.1."""
    endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_ROOM)
    endpoint.bind(("127.0.0.1", 0))
    endpoint.setblocking(False)
    return endpoint
