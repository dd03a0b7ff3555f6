"""The fixtures of these tests beside those of tests/conftest.py."""

import asyncio
import functools
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

import pytest

import pinloop
from tests.api.laws import LAW_LOOPS, TIMES, loop_for, orders_run
from tests.api.sendfile import DATA
from tests.api.support import only_pinloop, tcp_pair

OF_THE_LAYER = ("test_scope", "test_combine", "test_limiter", "test_stream_ops")
"""Modules whose tests run on asyncio's loop too: what they test is promised on any loop."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TIMES != 1:
        counts = ", ".join(f"{count} on {where}'s loop" for where, count in orders_run.items())
        terminalreporter.write_line(f"laws: orders and examples run: {counts}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if (
        "loop_factory" in metafunc.fixturenames
        and module.startswith(OF_THE_LAYER)
        and only_pinloop.mark not in metafunc.definition.own_markers
    ):
        factories = [functools.partial(loop_for, where, None) for where in LAW_LOOPS]
        metafunc.parametrize("loop_factory", factories, ids=LAW_LOOPS)


@pytest.fixture(params=[socket.socketpair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking sockets."""
    sockets = request.param()
    for sock in sockets:
        sock.setblocking(False)
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of more than a connection holds; see tests/api/sendfile.py."""
    found = tmp_path_factory.mktemp("sendfile") / "data"
    found.write_bytes(DATA)
    return found


@pytest.fixture
def file(path: Path) -> Iterator[IO[bytes]]:
    """The same, opened."""
    with path.open("rb") as opened:
        yield opened


@pytest.fixture(params=[asyncio, pinloop], ids=["asyncios", "pinloops"])
def streams(request: pytest.FixtureRequest) -> ModuleType:
    """The module whose streams are tested."""
    return request.param
