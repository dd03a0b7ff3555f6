#!/usr/bin/env python3
"""What a channel costs beside a queue, and select beside asyncio.wait: CPU ns per operation, and ratios.

    python benchmarks/channels.py                        # every cell, every kind that is installed
    python benchmarks/channels.py --cells 'spsc-*' --kinds channel,queue --loop uvloop
    valgrind --tool=callgrind python benchmarks/channels.py --cells spsc-16 --kinds channel --once 5000

Kinds: `channel` is pinloop's, `queue` asyncio.Queue, `native` pinloop.Queue; `anyio` its memory object
streams; `trio` its memory channels, on trio. Cells: spsc-0, -1, -16, -inf and mpsc-16, mpmc-16 (send and
receive of one item); select-2, -8, -64 (wait for whichever of so many has an item: `queue` stands for
asyncio.wait with a task for each). All are run in turns in one process, a round of each after the other;
the best round of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import importlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pinloop

Pipe = tuple[Callable[[Any], Awaitable[None]], Callable[[], Awaitable[Any]]]
HOPS = {
    "spsc-0": (0, 1, 1),
    "spsc-1": (1, 1, 1),
    "spsc-16": (16, 1, 1),
    "spsc-inf": (math.inf, 1, 1),
    "mpsc-16": (16, 4, 1),
    "mpmc-16": (16, 4, 4),
}
"""Capacity, producers, consumers."""
CHOICES = {"select-2": 2, "select-8": 8, "select-64": 64}


def channel_pipe(capacity: float) -> Pipe:
    tx, rx = pinloop.channel(capacity)
    return tx.send, rx.recv


def queue_pipe(capacity: float, module: Any = asyncio) -> Pipe:
    """asyncio's word for no limit is 0; it has no rendezvous."""
    queue = module.Queue(0 if capacity == math.inf else max(1, int(capacity)))
    return queue.put, queue.get


def native_pipe(capacity: float) -> Pipe:
    return queue_pipe(capacity, pinloop)


def anyio_pipe(capacity: float) -> Pipe:
    send, receive = importlib.import_module("anyio").create_memory_object_stream(capacity)
    return send.send, receive.receive


def trio_pipe(capacity: float) -> Pipe:
    send, receive = importlib.import_module("trio").open_memory_channel(capacity)
    return send.send, receive.receive


PIPES = {
    "channel": channel_pipe,
    "queue": queue_pipe,
    "native": native_pipe,
    "anyio": anyio_pipe,
    "trio": trio_pipe,
}


async def put_many(put: Callable[[Any], Awaitable[None]], n: int) -> None:
    for i in range(n):
        await put(i)


async def get_many(get: Callable[[], Awaitable[Any]], n: int) -> None:
    for _ in range(n):
        await get()


async def hops(cell: str, kind: str, n: int) -> None:
    capacity, producers, consumers = HOPS[cell]
    put, get = PIPES[kind](capacity)
    if kind == "trio":
        async with importlib.import_module("trio").open_nursery() as nursery:
            for _ in range(producers):
                nursery.start_soon(put_many, put, n // producers)
            for _ in range(consumers):
                nursery.start_soon(get_many, get, n // consumers)
        return
    tasks = [asyncio.ensure_future(put_many(put, n // producers)) for _ in range(producers)]
    tasks += [asyncio.ensure_future(get_many(get, n // consumers)) for _ in range(consumers)]
    await asyncio.gather(*tasks)


async def feed(puts: list[Callable[[Any], Awaitable[None]]], n: int) -> None:
    for i in range(n):
        await puts[i % len(puts)](i)
        await asyncio.sleep(0)


async def choices(cell: str, kind: str, n: int) -> None:
    if kind == "channel":
        ends = [pinloop.channel(1) for _ in range(CHOICES[cell])]
        feeding = asyncio.ensure_future(feed([tx.send for tx, _ in ends], n))
        receivers = [rx for _, rx in ends]
        for _ in range(n):
            await pinloop.select(*receivers)
        await asyncio.gather(feeding)
        return
    queues: list[asyncio.Queue[int]] = [asyncio.Queue(1) for _ in range(CHOICES[cell])]
    feeder = asyncio.ensure_future(feed([queue.put for queue in queues], n))
    getting = [asyncio.ensure_future(queue.get()) for queue in queues]
    received = 0
    while received < n:
        done, _ = await asyncio.wait(getting, return_when=asyncio.FIRST_COMPLETED)
        for i, task in enumerate(getting):
            if task in done:
                received += 1
                getting[i] = asyncio.ensure_future(queues[i].get())
    for task in getting:
        task.cancel()
    await asyncio.gather(*getting, feeder, return_exceptions=True)


def run_cell(cell: str, kind: str, n: int, loop: Callable[[], asyncio.AbstractEventLoop]) -> float:
    """CPU seconds."""
    function = hops if cell in HOPS else choices
    began = time.process_time()
    if kind == "trio":
        importlib.import_module("trio").run(function, cell, kind, n)
    else:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(function(cell, kind, n))
    return time.process_time() - began


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(name).new_event_loop
    return factory


def installed(kind: str) -> bool:
    try:
        importlib.import_module({"anyio": "anyio", "trio": "trio"}.get(kind, "asyncio"))
    except ImportError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", default="*")
    parser.add_argument("--kinds", default=",".join(PIPES))
    parser.add_argument("--loop", default="pinloop", help="a module with new_event_loop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--once", type=int, help="run this many operations, measure nothing: for a profiler")
    options = parser.parse_args()
    loop = loop_factory(options.loop)
    names = [name for name in [*HOPS, *CHOICES] if fnmatch.fnmatch(name, options.cells)]
    kinds = [kind for kind in options.kinds.split(",") if installed(kind)]
    runs = [(name, kind) for name in names for kind in kinds if name in HOPS or kind in ("channel", "queue")]
    if options.once:
        for name, kind in runs:
            run_cell(name, kind, options.once, loop)
        return
    best: dict[tuple[str, str], float] = {}
    for _ in range(options.rounds):
        for name, kind in runs:
            n = options.operations // (10 if name in CHOICES else 1)
            took = run_cell(name, kind, n, loop) / n * 1e9
            best[name, kind] = min(took, best.get((name, kind), math.inf))
    print(f"{'ns per operation':18}" + "".join(f"{kind:>9}" for kind in kinds) + "   queue / channel")
    for name in names:
        cells = [f"{best[name, kind]:9.0f}" if (name, kind) in best else f"{'':9}" for kind in kinds]
        ratio = best.get((name, "queue"), math.nan) / best.get((name, "channel"), math.nan)
        print(f"{name:18}" + "".join(cells) + f"   {ratio:.1f}")


if __name__ == "__main__":
    main()
