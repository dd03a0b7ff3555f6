"""The scheduler cells: what a loop charges for callbacks, timers and tasks, without any I/O.

A cell runs about *n* operations inside a running loop and returns how many they were. Each is what a user of
asyncio would write, and none of them knows which loop it runs on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

CellFunction = Callable[[int], Awaitable[int]]

BATCH = 1000
"""How many operations are under way at once in the cells that have many."""

RING = 10_000
BRANCHES = 10

CELLS: dict[str, CellFunction] = {}
TITLES: dict[str, str] = {}


def cell(name: str, title: str) -> Callable[[CellFunction], CellFunction]:
    """Enter a function in the table of cells."""

    def enter(function: CellFunction) -> CellFunction:
        CELLS[name] = function
        TITLES[name] = title
        return function

    return enter


def _nothing() -> None:
    pass


async def _nothing_async() -> None:
    pass


def _batches(n: int) -> range:
    return range(max(1, n // BATCH))


@cell("call-soon-chain", "call_soon chain")
async def call_soon_chain(n: int) -> int:
    """Each callback schedules the next."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def step() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done
    return n


@cell("call-soon-batch", "call_soon batch")
async def call_soon_batch(n: int) -> int:
    """A thousand callbacks are scheduled, then all of them run."""
    loop = asyncio.get_running_loop()
    for _ in _batches(n):
        for _ in range(BATCH):
            loop.call_soon(_nothing)
        await asyncio.sleep(0)
    return len(_batches(n)) * BATCH


@cell("call-later-cancel", "call_later + cancel")
async def call_later_cancel(n: int) -> int:
    """A timeout that is set and, as nearly always, not needed."""
    loop = asyncio.get_running_loop()
    for _ in _batches(n):
        for _ in range(BATCH):
            loop.call_later(30, _nothing).cancel()
        await asyncio.sleep(0)
    return len(_batches(n)) * BATCH


@cell("call-later-fire", "call_later fire")
async def call_later_fire(n: int) -> int:
    """A thousand timers within a millisecond, all of which run."""
    loop = asyncio.get_running_loop()
    for _ in _batches(n):
        fired = loop.create_future()
        for i in range(1, BATCH):
            loop.call_later(i * 1e-6, _nothing)
        loop.call_later(BATCH * 1e-6, fired.set_result, None)
        await fired
    return len(_batches(n)) * BATCH


@cell("spawn-await", "spawn + await")
async def spawn_await(n: int) -> int:
    """Create a task, wait for it."""
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.create_task(_nothing_async())
    return n


@cell("gather-1000", "gather of 1000, per task")
async def gather_1000(n: int) -> int:
    """`asyncio.gather` over a thousand coroutines."""
    for _ in _batches(n):
        await asyncio.gather(*[_nothing_async() for _ in range(BATCH)])
    return len(_batches(n)) * BATCH


@cell("taskgroup-1000", "TaskGroup of 1000, per task")
async def taskgroup_1000(n: int) -> int:
    """An `asyncio.TaskGroup` with a thousand tasks."""
    for _ in _batches(n):
        async with asyncio.TaskGroup() as group:
            for _ in range(BATCH):
                group.create_task(_nothing_async())
    return len(_batches(n)) * BATCH


@cell("scope-1000", "scope of 1000, per task")
async def scope_1000(n: int) -> int:
    """A `pinloop.scope` with a thousand children, on whichever loop runs."""
    from pinloop import scope  # here: the other cells leave pinloop out of the process of another loop

    for _ in _batches(n):
        async with scope() as s:
            for _ in range(BATCH):
                s.spawn(_nothing_async())
    return len(_batches(n)) * BATCH


async def _yield_often(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


@cell("sleep0-1", "sleep(0), 1 task")
async def sleep0_1(n: int) -> int:
    """One task that yields to nobody."""
    await _yield_often(n)
    return n


@cell("sleep0-1000", "sleep(0), 1000 tasks")
async def sleep0_1000(n: int) -> int:
    """A thousand tasks that yield to one another: what is measured is the switch."""
    each = max(10, n // BATCH)
    await asyncio.gather(*[_yield_often(each) for _ in range(BATCH)])
    return each * BATCH


@cell("future-wake", "future wake")
async def future_wake(n: int) -> int:
    """A callback sets the future that a task waits for."""
    loop = asyncio.get_running_loop()
    for _ in range(n):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return n


@cell("ring-10000", "ring of 10,000 tasks, per hop")
async def ring_10000(n: int) -> int:
    """A token goes round: each task awaits a future, and then sets that of the next one.

    At least ten laps, so that making the tasks is a small part of it.
    """
    loop = asyncio.get_running_loop()
    laps = max(10, n // RING)
    seats: list[asyncio.Future[int]] = [loop.create_future() for _ in range(RING)]

    async def pass_on(seat: int, following: int) -> None:
        for _ in range(laps):
            token = await seats[seat]
            seats[seat] = loop.create_future()
            seats[following].set_result(token + 1)

    tasks = [loop.create_task(pass_on(seat, (seat + 1) % RING)) for seat in range(RING)]
    seats[0].set_result(0)
    for task in tasks:
        await task
    return await seats[0]


async def _sum_leaves(number: int, leaves: int) -> int:
    if leaves == 1:
        return number
    share = leaves // BRANCHES
    branches = [_sum_leaves(number + i * share, share) for i in range(BRANCHES)]
    return sum(await asyncio.gather(*branches))


@cell("skynet", "skynet, per task")
async def skynet(n: int) -> int:
    """A tree of tasks: each makes ten and adds up what they return, the leaves return their number.

    It has the greatest power of ten of leaves that is not above *n*, and no fewer than a thousand.
    """
    leaves = 1000
    while leaves * BRANCHES <= n:
        leaves *= BRANCHES
    if await _sum_leaves(0, leaves) != leaves * (leaves - 1) // 2:
        raise RuntimeError("the leaves were not added up")
    # The root runs in the task that is there already.
    return (leaves * BRANCHES - 1) // (BRANCHES - 1) - 1


@cell("call-soon-threadsafe", "call_soon_threadsafe")
async def call_soon_threadsafe(n: int) -> int:
    """Another thread hands over a thousand callbacks at a time, and waits until they have run."""
    loop = asyncio.get_running_loop()
    may_post = threading.Semaphore(0)
    have_run = asyncio.Event()

    def post() -> None:
        for _ in _batches(n):
            may_post.acquire()
            for _ in range(BATCH - 1):
                loop.call_soon_threadsafe(_nothing)
            loop.call_soon_threadsafe(have_run.set)

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    for _ in _batches(n):
        have_run.clear()
        may_post.release()
        await have_run.wait()
    thread.join()
    return len(_batches(n)) * BATCH
