"""The native floors have no counterpart in asyncio: nothing here runs on another loop."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core import worlds
from tests.core.datagrams import LOCAL, Maker
from tests.core.support import Connect, socket_pair, tcp_pair, turn

collect_ignore_glob = ["test_*.py"] if os.environ.get("PINLOOP_TEST_LOOP") == "asyncio" else []


@pytest.fixture
def connect(loop: asyncio.AbstractEventLoop) -> Iterator[Connect]:
    """Gives a protocol a transport, whose peer is returned; all are closed after the test."""
    made: list[tuple[Any, socket.socket]] = []

    def connect(
        protocol: Any, pair: tuple[socket.socket, socket.socket] | None = None
    ) -> tuple[Any, socket.socket]:
        near, peer = pair or socket_pair()
        transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: protocol, near))
        made.append((transport, peer))
        return made[-1]

    yield connect
    for transport, peer in made:
        transport.abort()
        peer.close()
    for _ in range(3 if not loop.is_closed() else 0):
        turn(loop)


@pytest.fixture
def opened(loop: asyncio.AbstractEventLoop) -> Iterator[list[Any]]:
    """Transports to be closed after the test."""
    transports: list[Any] = []
    yield transports
    for transport in transports:
        transport.abort()
    for _ in range(3 if not loop.is_closed() else 0):
        turn(loop)


@pytest.fixture
def make(loop: asyncio.AbstractEventLoop, opened: list[Any]) -> Maker:
    """Makes datagram endpoints, closed after the test."""
    return Maker(loop, opened)


@pytest.fixture
def plain() -> Iterator[socket.socket]:
    """A blocking UDP socket, with as much room for what comes in as the kernel gives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(LOCAL)
        sock.settimeout(10)
        yield sock


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A bound Unix datagram socket, which takes few datagrams until it is read."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(Path(folder) / "full"))
        sock.setblocking(False)
        yield sock


@pytest.fixture(params=[socket_pair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, non-blocking."""
    near, far = request.param()
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.fixture(params=list(worlds.MAKERS))
def world(request: pytest.FixtureRequest) -> Iterator[worlds.World]:
    """A loop with asyncio's classes or with ours."""
    with worlds.made(request.param) as world:
        yield world
