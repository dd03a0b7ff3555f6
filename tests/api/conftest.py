"""The fixtures of these tests beside those of tests/conftest.py."""

import gc
import socket
from collections.abc import Iterator

import pytest

from tests.api.support import tcp_pair


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> Iterator[None]:
    """Keeps the collector from going through all imported modules two or three times a test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=[socket.socketpair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking sockets."""
    sockets = request.param()
    for sock in sockets:
        sock.setblocking(False)
    yield sockets
    for sock in sockets:
        sock.close()
