"""What the tests of the sock_* floors share."""

import asyncio
import socket
from typing import Any

from tests.core.support import (
    run_until,
    turn,
)

Loop = Any  # with the methods that asyncio's type does not have
Pair = tuple[socket.socket, socket.socket]


def start(loop: Loop, call: Any) -> asyncio.Task[Any]:
    """A task of `call` that has got as far as it can without the kernel."""
    task: asyncio.Task[Any] = loop.create_task(call)
    turn(loop)
    return task


def finish(loop: Loop, task: asyncio.Task[Any]) -> Any:
    run_until(loop, task.done)
    return task.result()


def cancel(loop: Loop, task: asyncio.Task[Any]) -> None:
    task.cancel()
    run_until(loop, task.done)
    assert task.cancelled()


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more; how much it took."""
    size = 0
    try:
        while True:
            size += sock.send(bytes(65536))
    except BlockingIOError:
        return size


class Duck:
    """Has a socket's methods, as wrappers have, and no weak references."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
