"""The laws of channels, on random programs under random orders."""

import asyncio
import math
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pinloop import BrokenChannel, ClosedChannel, EndOfChannel, channel
from tests.api.laws import examples, law

capacities = st.sampled_from([0, 1, 2, 7, math.inf])
moments = st.integers(0, 6)


@examples(60)
@given(
    capacity=capacities,
    senders=st.lists(st.tuples(moments, st.integers(0, 8), st.none() | moments), min_size=1, max_size=5),
    receivers=st.lists(st.tuples(moments, st.none() | moments), min_size=1, max_size=4),
    with_permits=st.booleans(),
)
@law(seeds=6, times=1)
async def test_each_item_is_received_once_or_its_send_raised(  # noqa: C901 - a program, and its check
    capacity: float,
    senders: list[tuple[int, int, int | None]],
    receivers: list[tuple[int, int | None]],
    with_permits: bool,
) -> None:
    tx, rx = channel(capacity)
    sent: list[tuple[int, int]] = []
    failed: list[tuple[int, int]] = []
    received: list[list[Any]] = []

    async def produce(number: int, start: int, count: int) -> None:
        mine = tx.clone()
        with mine:
            await asyncio.sleep(start)
            for i in range(count):
                item = (number, i)
                try:
                    if with_permits and i % 2:
                        (await mine.reserve()).send(item)
                    else:
                        await mine.send(item)
                except (asyncio.CancelledError, BrokenChannel):
                    failed.append(item)
                    raise
                sent.append(item)

    async def consume(start: int) -> None:
        got: list[Any] = []
        received.append(got)
        mine = rx.clone()
        with mine:
            await asyncio.sleep(start)
            async for item in mine:
                got.append(item)
                if len(got) % 3 == 0:
                    await asyncio.sleep(1)

    tasks = []
    loop = asyncio.get_running_loop()
    for number, (start, count, cancelled) in enumerate(senders):
        task = asyncio.ensure_future(produce(number, start, count))
        tasks.append(task)
        if cancelled is not None:
            loop.call_later(cancelled, task.cancel)
    for start, cancelled in receivers:
        task = asyncio.ensure_future(consume(start))
        tasks.append(task)
        if cancelled is not None:
            loop.call_later(cancelled, task.cancel)
    await asyncio.sleep(0)
    tx.close()
    tasks.append(asyncio.ensure_future(consume(9)))  # what is left over
    await asyncio.sleep(20)
    rx.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, (asyncio.CancelledError, BrokenChannel, ClosedChannel))
    everything = [item for got in received for item in got]
    assert len(everything) == len(set(everything))
    assert set(sent) <= set(everything)
    assert set(everything) <= set(sent) | set(failed)
    for got in received:
        for number in range(len(senders)):
            of_one = [i for n, i in got if n == number]
            assert of_one == sorted(of_one) or any(cancelled is not None for _, cancelled in receivers)
    assert tx.statistics()[2:] == (0, 0, 0, 0, 0)


@examples(40)
@given(capacity=st.integers(0, 5), items=st.integers(1, 200))
@law(seeds=4, times=1)
async def test_backpressure_bounds_what_is_in_the_channel(capacity: int, items: int) -> None:
    tx, rx = channel(capacity)
    most = 0

    async def produce() -> None:
        nonlocal most
        with tx:
            for i in range(items):
                await tx.send(i)
                most = max(most, tx.statistics().buffered)

    producer = asyncio.ensure_future(produce())
    got = []
    async for item in rx:
        got.append(item)
        await asyncio.sleep(1)
    await producer
    assert got == list(range(items))
    assert most <= capacity


@law(seeds=16)
async def test_two_thousand_sends_race_cancellation_and_close() -> None:
    tx, rx = channel(3)
    received: list[int] = []

    async def receive() -> None:
        while True:
            try:
                received.append(await rx.recv())
            except asyncio.CancelledError:
                continue
            except EndOfChannel:
                return

    receivers = [asyncio.ensure_future(receive()) for _ in range(5)]
    await asyncio.sleep(1)  # whoever is cancelled before its first step does not see it
    completed: set[int] = set()

    async def send(i: int) -> None:
        await tx.send(i)
        completed.add(i)

    senders = [asyncio.ensure_future(send(i)) for i in range(2000)]
    for i in range(400):
        await asyncio.sleep(0)
        senders[(i * 7919) % 2000].cancel()
        if i % 3 == 0:
            receivers[i % 5].cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    tx.close()
    await asyncio.gather(*receivers)
    assert len(received) == len(set(received))
    assert completed <= set(received)
    if sys.version_info >= (3, 13):
        assert completed == set(received)
