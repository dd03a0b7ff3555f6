#!/usr/bin/env python3
"""Instructions per operation, counted by valgrind: the figure that a noisy machine cannot blur.

    python benchmarks/callgrind.py --loop pinloop,uvloop --cells 'sleep0*'

Each cell runs twice in fresh processes, with a small and a large count; start-up, imports and warm-up are in
both, so the difference is the operations alone. System calls count as the few instructions that enter them.
Beside the scheduler cells there are `socketpair-echo` and `tcp-sock-echo`: two Protocols, or two tasks with
`sock_recv` and `sock_sendall`, that send 1 KiB to and fro; and `udp-window`: two datagram endpoints with 16
datagrams of 1 KiB under way. All are counted per message received.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from pinloop.bench import cells, loops
from pinloop.bench.errors import BenchError

FEW, MANY = 10_000, 30_000
MESSAGE = bytes(1024)


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


def run_child(loop: str, cell: str, count: int) -> None:
    """What runs under valgrind."""
    with asyncio.Runner(loop_factory=loops.named(loop).load()) as runner:
        operations: Any = cells.CELLS[cell](count)
        runner.run(operations)
        os._exit(0)


def count_instructions(loop: str, cell: str, count: int) -> int:
    """All instructions of a process that runs *count* operations. Raises `BenchError` if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, __file__]
        command += ["--child", "--loop", loop, "--cells", cell, "--count", str(count)]
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=600
        )
        found = re.search(
            r"^(?:totals|summary): (\d+)", out.read_text() if out.exists() else "", re.MULTILINE
        )
    if done.returncode or found is None:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise BenchError(f"valgrind ended with status {done.returncode}: {last}")
    return int(found[1])


def show_row(name: str, chosen: list[str]) -> bool:
    """Measure and print one cell for all loops; return whether all went well."""
    print(f"{cells.TITLES[name]:30}", end="", flush=True)
    problems = []
    for loop in chosen:
        try:
            difference = count_instructions(loop, name, MANY) - count_instructions(loop, name, FEW)
            print(f"{difference / (MANY - FEW):10.0f}", end="", flush=True)
        except (BenchError, subprocess.TimeoutExpired) as error:
            print(f"{'failed':>10}", end="", flush=True)
            problems.append(f"    {loop}: {error}")
    print(*["", *problems], sep="\n")
    return not problems


def main() -> int:
    """Parse the command line and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop", metavar="A,B,…")
    parser.add_argument("--cells", default="*", metavar="PATTERN")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments.loop, arguments.cells, arguments.count)
    if shutil.which("valgrind") is None:
        print("callgrind: valgrind is not installed (Debian: apt install valgrind)", file=sys.stderr)
        return 2
    names = [name for name in cells.CELLS if fnmatch.fnmatchcase(name, arguments.cells)]
    try:
        chosen = list(loops.select(arguments.loop.split(",")))
    except BenchError as error:
        print(f"callgrind: {error}", file=sys.stderr)
        return 2
    if not names:
        print(f"callgrind: no cell matches; known: {', '.join(cells.CELLS)}", file=sys.stderr)
        return 2
    print("instructions per operation".ljust(30) + "".join(f"{loop:>10}" for loop in chosen))
    went_well = [show_row(name, chosen) for name in names]
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
