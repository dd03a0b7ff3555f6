"""What the tests of the sock_* methods share."""

import asyncio
import socket
from typing import Any

from tests.api.support import turns

Pair = tuple[socket.socket, socket.socket]


def loop_now() -> Any:
    return asyncio.get_running_loop()


async def receive(sock: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        part = await loop_now().sock_recv(sock, 65536)
        assert part, "the end"
        got += part
    return bytes(got)


async def waiting(call: Any) -> asyncio.Task[Any]:
    """A task of `call` that waits for the kernel."""
    task: asyncio.Task[Any] = loop_now().create_task(call)
    await turns(3)
    assert not task.done()
    return task
