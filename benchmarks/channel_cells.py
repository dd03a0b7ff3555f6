"""What `channels.py` measures: items through a channel, one of several, and ten at once, by each library.

A contender is an async function that does *n* operations and returns how many it did; beside it stand the
library that it is of and what runs it: asyncio on pinloop's loop, anyio on the same, or trio.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pinloop
from pinloop.bench import loops

Count = Callable[[int], Awaitable[int]]
Put = Callable[[Any], Awaitable[None]]
Get = Callable[[], Awaitable[Any]]
Pipe = tuple[Put, Get, tuple[Any, ...]]
"""How to send and to receive, and what is to be closed."""

TEN = 10


@dataclass(frozen=True)
class Contender:
    """One way to do what a row is about."""

    function: Count
    needs: str = "asyncio"
    """The module without which it is left out."""
    runs_on: str = "asyncio"

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return importlib.util.find_spec(self.needs) is not None

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Run an async function to its end, in what the contender runs on."""
        if self.runs_on == "trio":
            return importlib.import_module("trio").run(main)
        if self.runs_on == "anyio":
            options = {"loop_factory": pinloop.new_event_loop}
            return importlib.import_module("anyio").run(main, backend="asyncio", backend_options=options)
        with asyncio.Runner(loop_factory=pinloop.new_event_loop) as runner:
            return runner.run(main())  # type: ignore[arg-type]


# ---- items through a channel


def channel_pipe(capacity: float) -> Pipe:
    """pinloop's channel."""
    tx, rx = pinloop.channel(capacity)
    return tx.send, rx.recv, (tx, rx)


def queue_pipe(capacity: float, module: Any = asyncio) -> Pipe:
    """A queue of asyncio's kind: 0 is its word for no limit, and it has no rendezvous."""
    queue = module.Queue(0 if capacity == math.inf else max(1, int(capacity)))
    return queue.put, queue.get, ()


def native_pipe(capacity: float) -> Pipe:
    """pinloop's queue."""
    return queue_pipe(capacity, pinloop)


def culsans_pipe(capacity: float) -> Pipe:
    """The queue of culsans, by its asynchronous side."""
    queue = importlib.import_module("culsans").Queue(0 if capacity == math.inf else max(1, int(capacity)))
    return queue.async_put, queue.async_get, ()


def anyio_pipe(capacity: float) -> Pipe:
    """anyio's memory object streams."""
    send, receive = importlib.import_module("anyio").create_memory_object_stream(capacity)
    return send.send, receive.receive, (send, receive)


def trio_pipe(capacity: float) -> Pipe:
    """trio's memory channel."""
    send, receive = importlib.import_module("trio").open_memory_channel(capacity)
    return send.send, receive.receive, (send, receive)


async def put_many(put: Put, n: int) -> None:
    """Send *n* items."""
    for i in range(n):
        await put(i)


async def get_many(get: Get, n: int) -> None:
    """Receive *n* items."""
    for _ in range(n):
        await get()


async def in_tasks(jobs: list[tuple[Any, ...]]) -> None:
    """Each job, a function and its arguments, in a task of its own, as asyncio has them."""
    await asyncio.gather(*[asyncio.create_task(function(*words)) for function, *words in jobs])


async def in_group(jobs: list[tuple[Any, ...]]) -> None:
    """The same as anyio has it."""
    async with importlib.import_module("anyio").create_task_group() as group:
        for function, *words in jobs:
            group.start_soon(function, *words)


async def in_nursery(jobs: list[tuple[Any, ...]]) -> None:
    """The same as trio has it."""
    async with importlib.import_module("trio").open_nursery() as nursery:
        for function, *words in jobs:
            nursery.start_soon(function, *words)


def hops(
    pipe: Callable[[float], Pipe], at_once: Any, capacity: float, producers: int, consumers: int
) -> Count:
    """*n* items through one channel."""

    async def run(n: int) -> int:
        put, get, ends = pipe(capacity)
        n -= n % (producers * consumers)
        await at_once(
            [(put_many, put, n // producers)] * producers + [(get_many, get, n // consumers)] * consumers
        )
        for end in ends:
            end.close()
        return n

    return run


def through_channels(capacity: float, producers: int, consumers: int) -> dict[str, Contender]:
    """The contenders of a row."""

    def by(pipe: Callable[[float], Pipe], at_once: Any, *where: str) -> Contender:
        return Contender(hops(pipe, at_once, capacity, producers, consumers), *where)

    return {
        "pinloop": by(channel_pipe, in_tasks),
        "asyncio.Queue": by(queue_pipe, in_tasks),
        "pinloop.Queue": by(native_pipe, in_tasks),
        "culsans": by(culsans_pipe, in_tasks, "culsans"),
        "anyio": by(anyio_pipe, in_group, "anyio", "anyio"),
        "trio": by(trio_pipe, in_nursery, "trio", "trio"),
    }


# ---- one of several


def select_pinloop(arms: int) -> Count:
    """`select` over channels."""

    async def run(n: int) -> int:
        soon = asyncio.get_running_loop().call_soon
        ends = [pinloop.channel(1) for _ in range(arms)]
        receivers = [rx for _, rx in ends]
        for i in range(n):
            soon(ends[i % arms][0].send_nowait, i)
            await pinloop.select(*receivers)
        return n

    return run


def select_kept(arms: int) -> Count:
    """`asyncio.wait` over a task for each queue; those that lose are waited for again the next time."""

    async def run(n: int) -> int:
        soon = asyncio.get_running_loop().call_soon
        queues: list[asyncio.Queue[int]] = [asyncio.Queue(1) for _ in range(arms)]
        getting = {asyncio.create_task(queue.get()): queue for queue in queues}
        for i in range(n):
            soon(queues[i % arms].put_nowait, i)
            done, _ = await asyncio.wait(getting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                queue = getting.pop(task)
                task.result()
                getting[asyncio.create_task(queue.get())] = queue
        for task in getting:
            task.cancel()
        await asyncio.gather(*getting, return_exceptions=True)
        return n

    return run


def select_anew(arms: int) -> Count:
    """The same, but nothing is left of those that lose, as of the arms of `select`: cancelled and awaited."""

    async def run(n: int) -> int:
        soon = asyncio.get_running_loop().call_soon
        queues: list[asyncio.Queue[int]] = [asyncio.Queue(1) for _ in range(arms)]
        for i in range(n):
            tasks = [asyncio.create_task(queue.get()) for queue in queues]
            soon(queues[i % arms].put_nowait, i)
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            done.pop().result()
        return n

    return run


async def first_of(receivers: list[Any]) -> Any:
    """The first item that any of anyio's streams has, by a task group that is cancelled then."""
    found = None

    async def receive(stream: Any) -> None:
        nonlocal found
        found = await stream.receive()
        group.cancel_scope.cancel()

    async with importlib.import_module("anyio").create_task_group() as group:
        for stream in receivers:
            group.start_soon(receive, stream)
    return found


def select_anyio(arms: int) -> Count:
    """`first_of` over memory object streams."""

    async def run(n: int) -> int:
        soon = asyncio.get_running_loop().call_soon
        create = importlib.import_module("anyio").create_memory_object_stream
        streams = [create(1) for _ in range(arms)]
        receivers = [receive for _, receive in streams]
        for i in range(n):
            soon(streams[i % arms][0].send_nowait, i)
            await first_of(receivers)
        for pair in streams:
            for end in pair:
                end.close()
        return n

    return run


def one_of(arms: int) -> dict[str, Contender]:
    """The contenders of a row."""
    return {
        "pinloop": Contender(select_pinloop(arms)),
        "asyncio.wait (kept)": Contender(select_kept(arms)),
        "asyncio.wait (anew)": Contender(select_anew(arms)),
        "anyio task group": Contender(select_anyio(arms), "anyio", "anyio"),
    }


# ---- ten at once, beside the cells that `pinloop bench` has of it


async def yield_once() -> int:
    """A child that finishes soon."""
    await asyncio.sleep(0)
    return 42


async def forever() -> None:
    """A child that does not."""
    await asyncio.get_running_loop().create_future()


async def join_anyio(n: int) -> int:
    """An anyio task group with ten children, per child."""
    for _ in range(n // TEN):
        await in_group([(yield_once,)] * TEN)
    return n // TEN * TEN


async def race_anyio(n: int) -> int:
    """One with nine that wait for ever, which the tenth has cancelled."""

    async def win() -> None:
        await yield_once()
        group.cancel_scope.cancel()

    for _ in range(n // TEN):
        async with importlib.import_module("anyio").create_task_group() as group:
            for _ in range(TEN - 1):
                group.start_soon(forever)
            group.start_soon(win)
    return n // TEN * TEN


@dataclass(frozen=True)
class LoopCell:
    """A cell of `pinloop bench` as a contender: in a process that has no other loop in it."""

    cell: str
    loop: str = "pinloop"

    @property
    def installed(self) -> bool:
        """Whether its loop is."""
        return loops.named(self.loop).version() is not None


Rows = dict[str, tuple[str, Mapping[str, "Contender | LoopCell"]]]
"""By their names: their titles and contenders."""

HOPS: Rows = {
    f"{kind}-{label}": (f"{kind}, {text}", through_channels(capacity, producers, consumers))
    for kind, producers, consumers in (("spsc", 1, 1), ("mpsc", 4, 1), ("mpmc", 4, 4))
    for label, text, capacity in (
        ("0", "rendezvous", 0),
        ("1", "capacity 1", 1),
        ("16", "capacity 16", 16),
        ("inf", "unbounded", math.inf),
    )
}
CHOICES: Rows = {f"select-{arms}": (f"one of {arms}", one_of(arms)) for arms in (2, 8, 64)}
TENS: Rows = {
    "join-10": (
        "all of ten",
        {
            "pinloop": LoopCell("join-10-native"),
            "asyncio.gather or wait": LoopCell("join-10"),
            "asyncio.TaskGroup": LoopCell("taskgroup-10"),
            "anyio task group": Contender(join_anyio, "anyio", "anyio"),
        },
    ),
    "race-10": (
        "first of ten",
        {
            "pinloop": LoopCell("race-10-native"),
            "asyncio.gather or wait": LoopCell("race-10"),
            "anyio task group": Contender(race_anyio, "anyio", "anyio"),
        },
    ),
}
SCOPES: Rows = {
    "scope-1000": (
        "1,000 children",
        {
            "pinloop": LoopCell("scope-1000"),
            "TaskGroup on uvloop": LoopCell("taskgroup-1000", "uvloop"),
            "TaskGroup on asyncio": LoopCell("taskgroup-1000", "asyncio"),
            "TaskGroup on pinloop": LoopCell("taskgroup-1000"),
        },
    ),
}
