"""The process that valgrind watches: runs one cell on one loop, with marks around what is to be counted.

    python callgrind_child.py LOOP CELL FEW MANY

A mark is a call of `getpriority`, at which callgrind writes down what it has counted since the one before.
Beside the scheduler cells there are those of this file, and of `floor_cells.py` where `floors.c` is compiled.
It prints how many nanoseconds of CPU each run took, for who starts it without valgrind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import sys
import time
from typing import Any, cast

from apart import cells, loops

MESSAGE = bytes(1024)
TWO_THREADS = "call-soon-threadsafe"
"""The one cell with a second thread: it does not repeat exactly, and cannot have a clock of its own."""


class PingPong(asyncio.Protocol):
    """Sends each message back until *n* have come in on this end."""

    def __init__(self, n: int, serves: bool, done: asyncio.Future[None]) -> None:
        self.left, self.serves, self.done = n, serves, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve, if that is our part."""
        # A cast and no check: not every loop's transport is an instance of asyncio's class.
        self.transport = cast("asyncio.Transport", transport)
        if self.serves:
            self.transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        """Return the ball."""
        self.left -= 1
        if self.left > 0:
            self.transport.write(data)
        elif not self.done.done():
            self.done.set_result(None)


@cells.cell("socketpair-echo", "socketpair echo, per message")
async def socketpair_echo(n: int) -> int:
    """Two Protocols on one loop, at the two ends of a socket pair."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transports = []
    for end, serves in zip(socket.socketpair(), (False, True), strict=True):
        end.setblocking(False)

        def protocol(serves: bool = serves) -> PingPong:
            return PingPong(n // 2, serves, done)

        transport, _ = await loop.connect_accepted_socket(protocol, end)
        transports.append(transport)
    await done
    for transport in transports:
        transport.close()
    return n


async def streams_echo(n: int, streams: Any) -> int:
    """Two tasks on one loop, with streams at the two ends of a socket pair."""
    loop = asyncio.get_running_loop()

    async def play(end: socket.socket, serves: bool) -> None:
        reader = streams.StreamReader()
        protocol = streams.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, end)
        writer = streams.StreamWriter(transport, protocol, reader, loop)
        if serves:
            writer.write(MESSAGE)
        for _ in range(n // 2):
            writer.write(await reader.read(65536))
            await writer.drain()
        writer.close()

    near, far = socket.socketpair()
    await asyncio.gather(play(near, serves=True), play(far, serves=False))
    return n


@cells.cell("socketpair-streams", "socketpair asyncio streams, per message")
async def socketpair_streams(n: int) -> int:
    """By asyncio's streams."""
    return await streams_echo(n, asyncio)


@cells.cell("socketpair-native-streams", "socketpair pinloop streams, per message")
async def socketpair_native_streams(n: int) -> int:
    """By pinloop's, on whatever loop."""
    import pinloop

    return await streams_echo(n, pinloop)


@cells.cell("tcp-sock-echo", "sock_recv/sendall, per message")
async def tcp_sock_echo(n: int) -> int:
    """Two tasks on one loop, at the two ends of a TCP connection."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()

    async def play(end: socket.socket, serves: bool) -> None:
        with end:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if serves:
                await loop.sock_sendall(end, MESSAGE)
            for _ in range(n // 2):
                await loop.sock_sendall(end, await loop.sock_recv(end, 65536))

    await asyncio.gather(play(near, serves=True), play(far, serves=False))
    return n


class Bouncing(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from until *n* have come in on this end."""

    def __init__(self, n: int, done: asyncio.Future[None]) -> None:
        self.left, self.done = n, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Return it."""
        self.left -= 1
        if self.left > 0:
            self.transport.sendto(data, addr)
        elif not self.done.done():
            self.done.set_result(None)


@cells.cell("udp-window", "UDP, window of 16, per datagram")
async def udp_window(n: int) -> int:
    """Two endpoints on one loop, 16 datagrams between them."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    made = [
        await loop.create_datagram_endpoint(lambda: Bouncing(n // 2, done), ("127.0.0.1", 0))
        for _ in range(2)
    ]
    near, far = (transport for transport, _ in made)
    for _ in range(16):
        near.sendto(MESSAGE, far.get_extra_info("sockname"))
    await done
    near.close()
    far.close()
    return n


def _nothing() -> None:
    pass


@cells.cell("call-soon-inbox", "call_soon_threadsafe, own thread")
async def call_soon_inbox(n: int) -> int:
    """A thousand callbacks at a time come in through the inbox; no other thread takes part."""
    loop = asyncio.get_running_loop()
    for _ in range(n // cells.BATCH):
        have_run: asyncio.Future[None] = loop.create_future()
        for _ in range(cells.BATCH - 1):
            loop.call_soon_threadsafe(_nothing)
        loop.call_soon_threadsafe(have_run.set_result, None)
        await have_run
    return n


async def _switch(n: int) -> None:
    for _ in range(n):
        await _Once()


class _Once:
    """Suspends once."""

    def __await__(self) -> Any:
        yield


@cells.cell("interpreter", "coroutine switch, no loop")
async def interpreter(n: int) -> int:
    """What the interpreter alone makes of its build: nothing of any loop is in it."""
    coroutine = _switch(n)
    for _ in range(n):
        coroutine.send(None)
    coroutine.close()
    return n


def mark() -> None:
    """Have callgrind write down what it has counted since the last mark."""
    os.getpriority(os.PRIO_PROCESS, 0)


def main(loop: str, cell: str, few: int, many: int) -> None:
    """Warm up, then run both counts, each between two marks."""
    took: list[int] = []
    with contextlib.suppress(ModuleNotFoundError):
        import floor_cells  # noqa: F401
    with asyncio.Runner(loop_factory=loops.named(loop).load()) as runner:
        function: Any = cells.CELLS[cell]
        runner.run(function(few))
        for count in (few, many):
            # A full collection costs as much as a thousand operations: none may fall into one run only.
            gc.collect()
            gc.freeze()
            mark()
            before = time.process_time_ns()
            runner.run(function(count))
            took.append(time.process_time_ns() - before)
            mark()
        print(json.dumps(took), flush=True)
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
