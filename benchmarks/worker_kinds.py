"""The contenders of `workers.py`: each has functions called in other processes, or items sent, in its way."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.util
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pinloop

CHUNK, CAPACITY = 100, 256
PAIRS, PIECE = 20, 64

Function = Callable[..., Any]

# ---- what the other processes do


def plus_one(x: int) -> int:
    return x + 1


async def plus_one_later(x: int) -> int:
    return x + 1


def plus_one_each(xs: list[int]) -> list[int]:
    return [plus_one(x) for x in xs]


async def plus_one_each_later(xs: list[int]) -> list[int]:
    return plus_one_each(xs)


def compute(n: int) -> int:
    total = 0
    for i in range(n):
        total += i * i
    return total


async def compute_later(n: int) -> int:
    return compute(n)


def nap(seconds: float) -> None:
    time.sleep(seconds)


async def nap_later(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def count(rx: pinloop.Receiver[Any], ready: pinloop.Sender[None]) -> int:
    seen = 0
    async with rx, ready:
        await ready.send(None)
        async for _ in rx:
            seen += 1
    return seen


def count_queue(queue: Any, done: Any) -> None:
    done.put(None)
    seen = 0
    while queue.get() is not None:
        seen += 1
    done.put(seen)


def count_pipe(connection: Any) -> None:
    connection.send(None)
    seen = 0
    while connection.recv() is not None:
        seen += 1
    connection.send(seen)


def do_shares(connection: Any) -> None:
    """Do a function with each of some arguments, whenever they come."""
    connection.send(None)
    while (share := connection.recv()) is not None:
        fn, args = share
        for arg in args:
            fn(arg)
        connection.send(None)


async def echo(trips: int) -> None:
    """Send bytes to and fro through socket pairs."""

    async def bounce(sock: socket.socket, first: bool) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(trips // PAIRS):
            if first:
                await loop.sock_sendall(sock, b"x" * PIECE)
            data = await loop.sock_recv(sock, PIECE)
            if not first:
                await loop.sock_sendall(sock, data)

    pairs = [socket.socketpair() for _ in range(PAIRS)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.setblocking(False)
    await asyncio.gather(*(bounce(sock, first) for a, b in pairs for sock, first in ((a, True), (b, False))))
    for sock in (sock for pair in pairs for sock in pair):
        sock.close()


# ---- the kinds


class Kind:
    """One way to have it done. What it cannot do raises NotImplementedError."""

    one: Function = staticmethod(plus_one)
    each: Function = staticmethod(plus_one_each)
    computes: Function = staticmethod(compute)
    naps: Function = staticmethod(nap)

    async def warm(self, workers: int) -> None:
        """Have all workers started: some start when they are needed, or go on starting for a while."""
        await self.many(self.naps, [0.2] * workers * 2)

    async def call(self, fn: Function, *args: Any) -> Any:
        raise NotImplementedError

    async def trips(self, n: int) -> list[float]:
        """The seconds of each of so many calls, one after the other."""
        taken = []
        for i in range(n):
            began = time.perf_counter()
            await self.call(self.one, i)
            taken.append(time.perf_counter() - began)
        return taken

    async def many(self, fn: Function, args: list[Any]) -> None:
        """Calls, all at once."""
        await asyncio.gather(*(self.call(fn, arg) for arg in args))

    async def map(self, n: int) -> None:
        """Items, a hundred in a call."""
        chunks = [list(range(start, min(start + CHUNK, n))) for start in range(0, n, CHUNK)]
        await self.many(self.each, chunks)

    async def items(self, items: list[Any]) -> float:
        """The seconds that it takes to send these to one process."""
        raise NotImplementedError


class Pinloop(Kind):
    one = staticmethod(plus_one_later)
    each = staticmethod(plus_one_each_later)
    computes = staticmethod(compute_later)
    naps = staticmethod(nap_later)

    def __init__(self, pool: pinloop.Workers) -> None:
        self.pool = pool

    async def call(self, fn: Function, *args: Any) -> Any:
        return await self.pool.run(fn, *args)

    async def map(self, n: int) -> None:
        assert len(await self.pool.map(plus_one, range(n), chunk=CHUNK)) == n

    async def items(self, items: list[Any]) -> float:
        tx, rx = await self.pool.channel(0, CAPACITY)
        there, ready = await self.pool.channel(0, 1)
        counted = self.pool[0].submit(count, rx, there)
        await ready.recv()
        began = time.perf_counter()
        async with tx:
            for item in items:
                await tx.send(item)
        assert await counted == len(items)
        ready.close()
        return time.perf_counter() - began


class Executor(Kind):
    def __init__(self, executor: concurrent.futures.ProcessPoolExecutor) -> None:
        self.executor = executor

    async def call(self, fn: Function, *args: Any) -> Any:
        return self.executor.submit(fn, *args).result()

    async def many(self, fn: Function, args: list[Any]) -> None:
        for future in [self.executor.submit(fn, arg) for arg in args]:
            future.result()

    async def map(self, n: int) -> None:
        assert len(list(self.executor.map(plus_one, range(n), chunksize=CHUNK))) == n


class ExecutorInAsyncio(Kind):
    def __init__(self, executor: concurrent.futures.ProcessPoolExecutor) -> None:
        self.executor = executor

    async def call(self, fn: Function, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.executor, fn, *args)


class Pool(Kind):
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def call(self, fn: Function, *args: Any) -> Any:
        return self.pool.apply(fn, args)

    async def many(self, fn: Function, args: list[Any]) -> None:
        for result in [self.pool.apply_async(fn, (arg,)) for arg in args]:
            result.get()

    async def map(self, n: int) -> None:
        assert len(self.pool.map(plus_one, range(n), CHUNK)) == n


class Aiomultiprocess(Kind):
    one = staticmethod(plus_one_later)
    each = staticmethod(plus_one_each_later)
    computes = staticmethod(compute_later)
    naps = staticmethod(nap_later)

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def call(self, fn: Function, *args: Any) -> Any:
        return await self.pool.apply(fn, args)

    async def many(self, fn: Function, args: list[Any]) -> None:
        assert len(await self.pool.map(fn, args)) == len(args)


class Dask(Kind):
    def __init__(self, client: Any) -> None:
        self.client = client

    async def call(self, fn: Function, *args: Any) -> Any:
        return await self.client.submit(fn, *args, pure=False)

    async def many(self, fn: Function, args: list[Any]) -> None:
        assert len(await self.client.gather(self.client.map(fn, args, pure=False))) == len(args)


class Shares(Kind):
    """No calls: each process is given its share of the work, all at once, and says when it has done it."""

    def __init__(self, connections: list[Any]) -> None:
        self.connections = connections

    async def many(self, fn: Function, args: list[Any]) -> None:
        count = len(self.connections)
        for i, connection in enumerate(self.connections):
            connection.send((fn, args[i::count]))
        for connection in self.connections:
            connection.recv()


class Sender(Kind):
    """For items alone."""

    async def warm(self, workers: int) -> None:
        pass


class Queue(Sender):
    async def items(self, items: list[Any]) -> float:
        spawn = multiprocessing.get_context("spawn")
        queue, done = spawn.Queue(CAPACITY), spawn.Queue()
        process = spawn.Process(target=count_queue, args=(queue, done))
        process.start()
        done.get()  # it is there
        began = time.perf_counter()
        for item in items:
            queue.put(item)
        queue.put(None)
        assert done.get() == len(items)
        taken = time.perf_counter() - began
        process.join()
        return taken


class Pipe(Sender):
    async def items(self, items: list[Any]) -> float:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=count_pipe, args=(theirs,))
        process.start()
        theirs.close()
        ours.recv()
        began = time.perf_counter()
        for item in items:
            ours.send(item)
        ours.send(None)
        assert ours.recv() == len(items)
        taken = time.perf_counter() - began
        process.join()
        ours.close()
        return taken


# ---- opening them


@asynccontextmanager
async def _pinloop(workers: int) -> AsyncIterator[Kind]:
    async with pinloop.Workers(workers, "process", None) as pool:
        yield Pinloop(pool)


@asynccontextmanager
async def _threads(workers: int) -> AsyncIterator[Kind]:
    async with pinloop.Workers(workers, "thread", None) as pool:
        yield Pinloop(pool)


def _executor(kind: Callable[[Any], Kind]) -> Any:
    @asynccontextmanager
    async def opened(workers: int) -> AsyncIterator[Kind]:
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as executor:
            yield kind(executor)

    return opened


@asynccontextmanager
async def _pool(workers: int) -> AsyncIterator[Kind]:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield Pool(pool)


@asynccontextmanager
async def _shares(workers: int) -> AsyncIterator[Kind]:
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(workers)]
    processes = [spawn.Process(target=do_shares, args=(theirs,)) for _, theirs in pipes]
    for process in processes:
        process.start()
    for ours, _ in pipes:
        ours.recv()
    yield Shares([ours for ours, _ in pipes])
    for ours, _ in pipes:
        ours.send(None)
    for process in processes:
        process.join()
    for pair in pipes:
        for connection in pair:
            connection.close()


@asynccontextmanager
async def _aiomultiprocess(workers: int) -> AsyncIterator[Kind]:
    import aiomultiprocess

    async with aiomultiprocess.Pool(workers, childconcurrency=64) as pool:
        yield Aiomultiprocess(pool)


@asynccontextmanager
async def _dask(workers: int) -> AsyncIterator[Kind]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        asynchronous=True,
        dashboard_address=":0",
    )
    async with cluster, Client(cluster, asynchronous=True) as client:
        yield Dask(client)


def _items(kind: Callable[[], Kind]) -> Any:
    @asynccontextmanager
    async def opened(workers: int) -> AsyncIterator[Kind]:
        yield kind()

    return opened


OPEN: dict[str, Any] = {
    "pinloop": _pinloop,
    "Executor": _executor(Executor),
    "Executor in asyncio": _executor(ExecutorInAsyncio),
    "Pool": _pool,
    "aiomultiprocess": _aiomultiprocess,
    "Dask": _dask,
    "Queue": _items(Queue),
    "Pipe": _items(Pipe),
    "threads": _threads,
    "no calls": _shares,
}
"""What opens a kind with so many workers."""

NEEDS = {"aiomultiprocess": "aiomultiprocess", "Dask": "distributed"}


def installed(kind: str) -> bool:
    return kind not in NEEDS or importlib.util.find_spec(NEEDS[kind]) is not None
