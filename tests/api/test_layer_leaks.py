"""What all of this layer leaves behind when it has been used, in whatever way it ended: nothing."""

import asyncio
import contextlib
import gc
import itertools
import socket
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import pinloop
from pinloop import (
    ChannelError,
    Limiter,
    after,
    broadcast,
    channel,
    fail_after,
    join,
    move_on_after,
    oneshot,
    priority,
    race,
    race_ok,
    readable,
    scope,
    select,
    stream,
    try_join,
    watch,
    writable,
)
from tests.api.channels import on_every_loop
from tests.conftest import open_fds

Use = Callable[[], Awaitable[None]]


async def forever(*_: object) -> Any:
    await asyncio.Event().wait()


async def value(number: Any) -> Any:
    await asyncio.sleep(0)
    return number


async def fail(error: Exception) -> Any:
    await asyncio.sleep(0)
    raise error


async def channels() -> None:
    for tx, rx in (channel(2), channel(0), priority(2)):
        tasks = [asyncio.ensure_future(rx.recv()) for _ in range(3)]
        tasks += [asyncio.ensure_future(tx.send(i)) for i in range(7)]
        tasks += [asyncio.ensure_future(tx.reserve()), asyncio.ensure_future(rx.recv_many(2))]
        await asyncio.sleep(0)
        for task in tasks[1::3]:
            task.cancel()
        await asyncio.sleep(0)
        rx.clone().close()
        rx.close()
        tx.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kinds_of_channels() -> None:
    shown, watching = watch(1)
    told, hearing = broadcast(2)
    once, waited_for = oneshot()
    tasks = [asyncio.ensure_future(each) for each in (watching.changed(), hearing.recv(), waited_for.recv())]
    await asyncio.sleep(0)
    tasks[0].cancel()
    shown.send(2)
    await told.send(3)
    once.close()
    told.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def selects() -> None:
    (tx, rx), (full, held) = channel(1), channel(0)
    event = pinloop.Event()
    future = asyncio.get_running_loop().create_future()
    left, right = socket.socketpair()
    with left, right:

        def choosing() -> Awaitable[Any]:
            return select(rx, full.sending(1), event, future, after(100), readable(left))

        tasks = [asyncio.ensure_future(choosing()) for _ in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tx.send_nowait(1)
        right.send(b"x")
        assert held.recv_nowait() == 1
        event.set()
        await asyncio.wait(tasks)
        await select(None, writable(left), biased=True)
    with contextlib.suppress(ChannelError):
        rx.close()
        await select(tx.sending(1))


async def joins_and_races() -> None:
    for combine in (join, try_join, race, race_ok):
        await combine(value(1), value(2))
        with contextlib.suppress(KeyError, ExceptionGroup):
            await combine(fail(KeyError(1)), value(2))
        for late in (0, 1, 2):
            task = asyncio.ensure_future(combine(forever(), value(forever)))
            for _ in range(late):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])


async def scopes() -> None:
    async with scope(limit=2) as s:
        tasks = [s.spawn(value(i)) for i in range(5)]
        tasks[3].cancel()
    async with move_on_after(0.001) as s:
        s.spawn(forever())
        async with scope(shield=True) as inner:
            inner.spawn(value(1))
        await forever()
    with contextlib.suppress(TimeoutError):
        async with fail_after(0):
            await forever()
    with contextlib.suppress(ExceptionGroup):
        async with scope() as s:
            s.spawn(fail(KeyError()))
            await s.start(ready)
            await forever()


async def ready(*, task_status: pinloop.TaskStatus) -> None:
    task_status.started()
    await forever()


async def streams() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(20):
            await asyncio.sleep(0)
            yield number

    async def odd(number: int) -> int:
        await asyncio.sleep(0)
        if number == 9:
            raise KeyError(number)
        return number

    for most in (0, 3, 30):
        seen = 0
        with contextlib.suppress(KeyError, ExceptionGroup):
            other = stream(numbers).chunks(3, within=1)
            async with stream(numbers).map(odd, concurrency=3).buffer(2).merge(other) as items:
                async for _ in items:
                    seen += 1
                    if seen > most:
                        break


async def limiters() -> None:
    limiter, semaphore = Limiter(1), pinloop.Semaphore(1)

    async def work() -> None:
        async with limiter, semaphore:
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(work()) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


USES: dict[str, Use] = {
    use.__name__: use
    for use in (channels, kinds_of_channels, selects, joins_and_races, scopes, streams, limiters)
}


def objects() -> Counter[str]:
    """How many there are of each type, but for cancelled timers: loops drop those by the hundred."""
    gc.collect()
    everything = (type(each).__qualname__ for each in gc.get_objects() if not of_a_cancelled_timer(each))
    return Counter(everything)


def of_a_cancelled_timer(each: Any) -> bool:
    """One, or where it was made, as debug mode keeps it."""
    if isinstance(each, (traceback.FrameSummary, traceback.StackSummary)):
        return True
    return type(each).__qualname__ == "TimerHandle" and each.cancelled()


@pytest.mark.parametrize("use", USES)
@on_every_loop
async def test_no_object_task_or_descriptor_is_left(use: str) -> None:
    for _ in range(5):  # what is made once: caches, spare calls
        await USES[use]()
    fds = open_fds()
    before = objects()
    rounds = 40
    for _ in range(rounds):
        await USES[use]()
    await asyncio.sleep(0)
    grown = objects()
    assert open_fds() == fds
    assert asyncio.all_tasks() == {asyncio.current_task()}
    grown.subtract(before)
    assert not {name: count for name, count in grown.items() if count >= rounds}


@pytest.mark.parametrize("use", USES)
@on_every_loop
async def test_no_memory_is_left(use: str) -> None:
    """Neither blocks that the collector does not see, as C code may take them, nor lists that grow."""
    blocks: list[int] = []
    sizes: list[int] = []
    rounds = 25
    for _ in range(10):  # asyncio's loop drops cancelled timers by the hundred: at least once in these
        for _ in range(rounds):
            await USES[use]()
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        sizes.append(sum(map(sys.getsizeof, gc.get_objects())))
    # What each use left would be so many more each time; a cache, or a heap of timers, grows now and then.
    assert min(after - before for before, after in itertools.pairwise(blocks)) < rounds
    assert min(after - before for before, after in itertools.pairwise(sizes)) < rounds * 50
