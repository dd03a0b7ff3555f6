#!/usr/bin/env python3
"""What a call to another process costs, and an item sent to one, beside the other ways to do it.

    python benchmarks/workers.py                                  # every cell, every kind that is installed
    python benchmarks/workers.py --cells trip,flood --kinds pinloop,futures --rounds 5

Cells: `trip`, one call after the other: the median and the 99th percentile. `flood`, 2,000 calls at once:
time per call. `map`, 20,000 items, 100 in a call where the kind can: time per item. `items`, small items sent
to a worker by a channel or queue: time per item. `blocks`, the same with 1 MiB of bytes: MiB/s. `scale`,
calls that compute for about 5 ms, on two workers: how many times the throughput of one.

Kinds: `pinloop`, its workers and channels; `futures`, a ProcessPoolExecutor and run_in_executor; `pool`, a
multiprocessing.Pool, blocking; `queue` and `pipe`, multiprocessing's, for items and blocks alone;
`aiomultiprocess`; `dask`, a LocalCluster of processes with one thread each, and an asynchronous Client. All
with two processes, by spawn, unpinned, in one program; each round takes the kinds in turn, and the best round
counts, of `trip` the median round.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pinloop

TRIPS, FLOOD, ITEMS, BLOCKS, BLOCK = 1000, 2000, 20_000, 100, 1 << 20
WORKERS, CHUNK, CAPACITY = 2, 100, 256

Call = Callable[..., Awaitable[Any]]


def plus_one(x: int) -> int:
    return x + 1


async def plus_one_later(x: int) -> int:
    return x + 1


def compute(n: int) -> int:
    total = 0
    for i in range(n):
        total += i * i
    return total


async def compute_later(n: int) -> int:
    return compute(n)


async def count(rx: pinloop.Receiver[Any]) -> int:
    seen = 0
    async with rx:
        async for _ in rx:
            seen += 1
    return seen


def count_queue(queue: Any, done: Any) -> None:
    seen = 0
    while queue.get() is not None:
        seen += 1
    done.put(seen)


def count_pipe(connection: Any) -> None:
    seen = 0
    while connection.recv() is not None:
        seen += 1
    connection.send(seen)


class Kind:
    """What is measured of one kind: seconds, or None for what it has not."""

    compute: Callable[[int], Any] = staticmethod(compute_later)

    async def call(self, fn: Callable[..., Any], x: Any) -> Any:
        raise NotImplementedError

    one: Callable[[int], Any] = staticmethod(plus_one_later)

    async def trips(self, n: int) -> list[float] | None:
        taken = []
        for i in range(n):
            began = time.perf_counter()
            await self.call(self.one, i)
            taken.append(time.perf_counter() - began)
        return taken

    async def flood(self, n: int) -> float | None:
        began = time.perf_counter()
        await asyncio.gather(*(self.call(self.one, i) for i in range(n)))
        return time.perf_counter() - began

    async def map(self, n: int) -> float | None:
        return None

    async def items(self, items: list[Any]) -> float | None:
        return None

    async def computing(self, calls: int, n: int) -> float | None:
        began = time.perf_counter()
        await asyncio.gather(*(self.call(self.compute, n) for _ in range(calls)))
        return time.perf_counter() - began


class Pinloop(Kind):
    def __init__(self, pool: pinloop.Workers) -> None:
        self.pool = pool
        self.call = pool.run

    async def map(self, n: int) -> float | None:
        began = time.perf_counter()
        assert len(await self.pool.map(plus_one, range(n), chunk=CHUNK)) == n
        return time.perf_counter() - began

    async def items(self, items: list[Any]) -> float | None:
        tx, rx = await self.pool.channel(0, CAPACITY)
        counted = self.pool[0].submit(count, rx)
        await asyncio.sleep(0)
        began = time.perf_counter()
        async with tx:
            for item in items:
                await tx.send(item)
        assert await counted == len(items)
        return time.perf_counter() - began


class Futures(Kind):
    one = staticmethod(plus_one)
    compute = staticmethod(compute)

    def __init__(self, executor: concurrent.futures.ProcessPoolExecutor) -> None:
        self.executor = executor

    async def call(self, fn: Callable[..., Any], x: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.executor, fn, x)

    async def map(self, n: int) -> float | None:
        began = time.perf_counter()
        assert len(list(self.executor.map(plus_one, range(n), chunksize=CHUNK))) == n
        return time.perf_counter() - began


class Pool(Kind):
    """Blocking: what its own callers get."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def trips(self, n: int) -> list[float] | None:
        taken = []
        for i in range(n):
            began = time.perf_counter()
            self.pool.apply(plus_one, (i,))
            taken.append(time.perf_counter() - began)
        return taken

    async def flood(self, n: int) -> float | None:
        began = time.perf_counter()
        for result in [self.pool.apply_async(plus_one, (i,)) for i in range(n)]:
            result.get()
        return time.perf_counter() - began

    async def map(self, n: int) -> float | None:
        began = time.perf_counter()
        assert len(self.pool.map(plus_one, range(n), CHUNK)) == n
        return time.perf_counter() - began

    async def computing(self, calls: int, n: int) -> float | None:
        began = time.perf_counter()
        self.pool.map(compute, [n] * calls, 1)
        return time.perf_counter() - began


class Queue(Kind):
    async def trips(self, n: int) -> list[float] | None:
        return None

    async def flood(self, n: int) -> float | None:
        return None

    async def computing(self, calls: int, n: int) -> float | None:
        return None

    async def items(self, items: list[Any]) -> float | None:
        spawn = multiprocessing.get_context("spawn")
        queue, done = spawn.Queue(CAPACITY), spawn.Queue()
        process = spawn.Process(target=count_queue, args=(queue, done))
        process.start()
        queue.put(0)
        await asyncio.sleep(0.5)  # it is there
        began = time.perf_counter()
        for item in items:
            queue.put(item)
        queue.put(None)
        assert done.get() == len(items) + 1
        taken = time.perf_counter() - began
        process.join()
        return taken


class Pipe(Queue):
    async def items(self, items: list[Any]) -> float | None:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=count_pipe, args=(theirs,))
        process.start()
        theirs.close()
        for _ in range(100):
            ours.send(0)
        await asyncio.sleep(0.5)
        began = time.perf_counter()
        for item in items:
            ours.send(item)
        ours.send(None)
        assert ours.recv() == len(items) + 100
        taken = time.perf_counter() - began
        process.join()
        return taken


class Aiomultiprocess(Kind):
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def call(self, fn: Callable[..., Any], x: Any) -> Any:
        return await self.pool.apply(fn, (x,))

    async def map(self, n: int) -> float | None:
        n //= 10  # it has no chunks
        began = time.perf_counter()
        assert len(await self.pool.map(plus_one_later, range(n))) == n
        return (time.perf_counter() - began) * 10


class Dask(Kind):
    one = staticmethod(plus_one)
    compute = staticmethod(compute)

    def __init__(self, client: Any) -> None:
        self.client = client

    async def call(self, fn: Callable[..., Any], x: Any) -> Any:
        return await self.client.submit(fn, x, pure=False)


@asynccontextmanager
async def opened(kind: str, workers: int) -> AsyncIterator[Kind]:
    if kind == "pinloop":
        async with pinloop.Workers(workers, "process", None) as pool:
            yield Pinloop(pool)
    elif kind == "futures":
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as executor:
            yield Futures(executor)
    elif kind == "pool":
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield Pool(pool)
    elif kind == "aiomultiprocess":
        import aiomultiprocess

        async with aiomultiprocess.Pool(workers, childconcurrency=64) as pool:
            yield Aiomultiprocess(pool)
    elif kind == "dask":
        from distributed import Client, LocalCluster

        async with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                asynchronous=True,
                dashboard_address=None,
            ) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            yield Dask(client)
    else:
        yield {"queue": Queue, "pipe": Pipe}[kind]()


KINDS = ("pinloop", "futures", "pool", "queue", "pipe", "aiomultiprocess", "dask")
NEEDS = {"aiomultiprocess": "aiomultiprocess", "dask": "distributed"}
CELLS = ("trip", "flood", "map", "items", "blocks", "scale")


async def measure(kind: Kind, cell: str, quick: bool) -> Any:
    few = 10 if quick else 1
    if cell == "trip":
        await kind.trips(20)
        return await kind.trips(TRIPS // few)
    if cell == "flood":
        await kind.flood(20)
        taken = await kind.flood(FLOOD // few)
        return taken and taken / (FLOOD // few)
    if cell == "map":
        taken = await kind.map(ITEMS // few)
        return taken and taken / (ITEMS // few)
    if cell == "items":
        taken = await kind.items([("item", i) for i in range(ITEMS // few)])
        return taken and taken / (ITEMS // few)
    taken = await kind.items([bytes([i]) * BLOCK for i in range(BLOCKS // few)])
    return taken and taken / (BLOCKS // few)


async def scale(name: str, rounds: int) -> float | None:
    """The throughput of two workers over that of one."""
    n = 20_000
    while True:  # about 5 ms
        began = time.perf_counter()
        compute(n)
        if time.perf_counter() - began > 0.005:
            break
        n += n // 2
    async with opened(name, 1) as one, opened(name, 2) as two:
        ratios = []
        for kind in (one, two):
            await kind.computing(8, n)
        for _ in range(rounds):
            alone, both = await one.computing(60, n), await two.computing(60, n)
            if alone is None or both is None:
                return None
            ratios.append(alone / both)
    return statistics.median(ratios)


async def main(cells: list[str], kinds: list[str], rounds: int, quick: bool) -> None:
    found: dict[tuple[str, str], list[Any]] = {}
    for _ in range(rounds):
        for name in kinds:
            async with opened(name, WORKERS) as kind:
                for cell in cells:
                    if cell != "scale":
                        got = await measure(kind, cell, quick)
                        if got is not None:
                            found.setdefault((cell, name), []).append(got)
    for cell in cells:
        for name in kinds:
            if cell == "scale":
                ratio = await scale(name, rounds)
                if ratio is not None:
                    print(f"{cell:8}{name:18}{ratio:8.2f} x")
            elif (cell, name) in found:
                print(f"{cell:8}{name:18}{shown(cell, found[cell, name])}")


def shown(cell: str, results: list[Any]) -> str:
    if cell == "trip":
        rounds = [sorted(taken) for taken in results]
        p50 = statistics.median(taken[len(taken) // 2] for taken in rounds)
        p99 = statistics.median(taken[len(taken) * 99 // 100] for taken in rounds)
        return f"{p50 * 1e6:8.1f} µs p50 {p99 * 1e6:9.1f} µs p99"
    if cell == "blocks":
        return f"{1 / min(results):8.0f} MiB/s"
    return f"{min(results) * 1e6:8.2f} µs each"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of each, to see that it works")
    chosen = parser.parse_args()
    wanted = [
        name for name in chosen.kinds.split(",") if name not in NEEDS or importlib.util.find_spec(NEEDS[name])
    ]
    pinloop.run(main(chosen.cells.split(","), wanted, chosen.rounds, chosen.quick))
