"""The scheduler cells of queues, locks and timeouts: asyncio's classes, and pinloop's on whatever loop.

Each cell is here twice: NAME with asyncio's classes, as every program has them, and NAME-native with those of
the same names that pinloop has, which any loop can run. The second kind has a table of its own.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from .cells import CELLS, TITLES

NATIVE = "-native"
CROWD = 10
"""How many tasks want the same lock or semaphore."""
PERMITS = 3

SyncCell = Callable[[int, Any], Awaitable[int]]


def _native() -> Any:
    # Not before it is asked for: no other cell's process has anything of pinloop's but this package.
    import pinloop

    return pinloop


def both(name: str, title: str) -> Callable[[SyncCell], SyncCell]:
    """Enter a function in the table of cells, with asyncio's classes and with pinloop's."""

    def enter(function: SyncCell) -> SyncCell:
        @functools.wraps(function)
        async def native(n: int) -> int:
            return await function(n, _native())

        @functools.wraps(function)
        async def plain(n: int) -> int:
            return await function(n, asyncio)

        CELLS[name], TITLES[name] = plain, title
        CELLS[name + NATIVE], TITLES[name + NATIVE] = native, f"{title}, pinloop's"
        return function

    return enter


async def _put_many(queue: asyncio.Queue[int], n: int) -> None:
    for i in range(n):
        await queue.put(i)


@both("queue-16", "Queue(16) put+get")
async def queue_16(n: int, sync: Any) -> int:
    """One producer, one consumer, a queue of 16."""
    queue = sync.Queue(16)
    producer = asyncio.create_task(_put_many(queue, n))
    for _ in range(n):
        await queue.get()
    await producer
    return n


async def _send_back(incoming: asyncio.Queue[int], outgoing: asyncio.Queue[int], n: int) -> None:
    for _ in range(n):
        await outgoing.put(await incoming.get())


@both("queue-1-ping-pong", "Queue(1) ping-pong, per hop")
async def queue_1_ping_pong(n: int, sync: Any) -> int:
    """Two tasks and two queues of one: every hop is a switch of tasks."""
    ping, pong = sync.Queue(1), sync.Queue(1)
    other = asyncio.create_task(_send_back(ping, pong, n // 2))
    for i in range(n // 2):
        await ping.put(i)
        await pong.get()
    await other
    return n // 2 * 2


async def _take_turns(lock: Any, n: int) -> None:
    for _ in range(n):
        async with lock:
            await asyncio.sleep(0)


@both("lock-free", "Lock that nobody else wants")
async def lock_free(n: int, sync: Any) -> int:
    """A block that takes a lock which is free."""
    lock = sync.Lock()
    for _ in range(n):
        async with lock:
            pass
    return n


@both("lock-10", "Lock, 10 tasks by turns")
async def lock_10(n: int, sync: Any) -> int:
    """Ten tasks that want the same lock and yield while they have it: each but the first has to wait."""
    lock = sync.Lock()
    await asyncio.gather(*[_take_turns(lock, n // CROWD) for _ in range(CROWD)])
    return n // CROWD * CROWD


@both("semaphore-10", "Semaphore(3), 10 tasks by turns")
async def semaphore_10(n: int, sync: Any) -> int:
    """The same with a semaphore that lets three in."""
    semaphore = sync.Semaphore(PERMITS)
    await asyncio.gather(*[_take_turns(semaphore, n // CROWD) for _ in range(CROWD)])
    return n // CROWD * CROWD


async def _answer(request: Any, reply: Any, n: int) -> None:
    for _ in range(n):
        await request.wait()
        request.clear()
        reply.set()


@both("event-ping-pong", "Event ping-pong, per hop")
async def event_ping_pong(n: int, sync: Any) -> int:
    """Two tasks that set each other's event: every hop is a switch of tasks."""
    request, reply = sync.Event(), sync.Event()
    other = asyncio.create_task(_answer(request, reply, n // 2))
    for _ in range(n // 2):
        request.set()
        await reply.wait()
        reply.clear()
    await other
    return n // 2 * 2


@both("timeout", "timeout around a block")
async def timeout(n: int, sync: Any) -> int:
    """A block that suspends once, under a time limit that it does not reach."""
    for _ in range(n):
        async with sync.timeout(30):
            await asyncio.sleep(0)
    return n
