"""What the tests of sendfile share: a file, ways to come by its bytes, parts of it."""

import asyncio
import io
import os
import socket
from typing import IO, Any

import pytest

DATA = os.urandom(4096) * 5000  # 20 MB: more than the kernel holds of a connection

Pair = tuple[socket.socket, socket.socket]


class NoFd(io.BytesIO):
    """A file that only a fallback can send."""


def in_memory(file: IO[bytes]) -> Any:
    return NoFd(file.read())


def in_memory_by_thread(file: IO[bytes]) -> Any:
    return io.BufferedReader(NoFd(file.read()))  # type: ignore[arg-type]


def as_it_is(file: IO[bytes]) -> Any:
    return file


kinds = pytest.mark.parametrize("kind", [as_it_is, in_memory, in_memory_by_thread])

parts = pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, None),
        (0, 10),
        (5_000_000, None),
        (1_000, 3_000_001),
        (0, 2 * len(DATA)),
        (len(DATA), None),
        (2 * len(DATA), 5),
    ],
)


def part(offset: int, count: int | None) -> bytes:
    """What of the file these arguments ask for."""
    return DATA[offset:] if count is None else DATA[offset : offset + count]


async def receive_all(sock: socket.socket) -> bytes:
    """What arrives up to the end."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    while data := await loop.sock_recv(sock, 1 << 18):
        got += data
    return bytes(got)
