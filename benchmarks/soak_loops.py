#!/usr/bin/env python3
"""Make, use and close ten thousand loops, and look for what stays behind.

    python benchmarks/soak_loops.py --loop pinloop --loops 10000

Each loop serves a connection and one datagram, is called from a thread, and is closed with timers and
callbacks still waiting. Open files and resident memory are sampled along the way. Fails if they grow after
the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable

SAMPLES = 10
GROWTH_ALLOWED = 4 << 20
"""Bytes over the whole soak: at ten thousand loops 4 MiB are 400 bytes each."""

FACTORIES = ("pinloop", "asyncio")


def factory_of(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The function that makes a loop of this kind."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import pinloop

    return pinloop.new_event_loop


class Answer(asyncio.Protocol, asyncio.DatagramProtocol):
    """Echoes, and tells when its connection is gone."""

    def __init__(self, gone: asyncio.Future[None]) -> None:
        self._gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)


async def use(loop: asyncio.AbstractEventLoop) -> None:
    """A little of everything that a loop has."""
    gone, received = loop.create_future(), loop.create_future()
    near, far = socket.socketpair()
    near.setblocking(False)
    await loop.connect_accepted_socket(lambda: Answer(gone), near)
    far.send(b"x")
    udp, _ = await loop.create_datagram_endpoint(lambda: Answer(received), ("127.0.0.1", 0))
    udp.sendto(b"x", udp.get_extra_info("sockname"))
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(far.close,))
    thread.start()
    await gone
    await received
    thread.join()
    loop.call_later(3600, print)


def census() -> tuple[int, int]:
    """(open files, resident bytes)."""
    gc.collect()
    fds = len(os.listdir("/dev/fd"))
    if sys.platform != "linux":
        return fds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/statm") as statm:
        return fds, int(statm.read().split()[1]) * resource.getpagesize()


def soak(factory: Callable[[], asyncio.AbstractEventLoop], loops: int) -> bool:
    """Run the soak; whether nothing grew after the first tenth."""
    begun, first = time.monotonic(), (0, 0)
    step = max(1, loops // SAMPLES)
    for done in range(1, loops + 1):
        loop = factory()
        loop.run_until_complete(use(loop))
        loop.call_soon(print)
        loop.close()
        if done % step:
            continue
        fds, rss = census()
        first = first if first[0] else (fds, rss)
        seconds = time.monotonic() - begun
        print(f"{done:7} loops {seconds:7.1f} s  fds {fds:4}  RSS {rss / 2**20:8.2f} MiB", flush=True)
    return fds <= first[0] and rss <= first[1] + GROWTH_ALLOWED


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", choices=FACTORIES, default="pinloop")
    parser.add_argument("--loops", type=int, default=10_000)
    options = parser.parse_args()
    if soak(factory_of(options.loop), options.loops):
        return 0
    print("something grew with the number of loops", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
