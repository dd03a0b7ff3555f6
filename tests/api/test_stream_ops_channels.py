"""Streams from channels and into channels: what is sent is handed on once, each end learns of the other."""

import asyncio

import pytest

from pinloop import from_channel, scope, stream
from pinloop.channels import BrokenChannel, ClosedChannel, Receiver, channel
from tests.api.pipelines import Calls, Source, orders


@pytest.mark.parametrize("capacity", [0, 1, 5])
@orders
async def test_each_item_once_through_two_channels(capacity: int) -> None:
    """Three senders, two pipelines side by side, one receiver."""
    (tx, rx), (tx_done, rx_done) = channel(capacity), channel(capacity)
    calls = Calls()
    async with scope() as s:
        for first in 0, 100, 200:
            s.spawn(stream(range(first, first + 20)).into_channel(tx.clone()))
        tx.close()
        for end in tx_done.clone(), tx_done.clone():
            s.spawn(from_channel(rx.clone()).map(calls, 3, ordered=False).into_channel(end))
        rx.close()
        tx_done.close()
        squares = await from_channel(rx_done).collect()
    assert sorted(squares) == sorted(n * n for first in (0, 100, 200) for n in range(first, first + 20))
    assert (calls.running, calls.most <= 6) == (0, True)


@orders
async def test_a_receiver_that_has_enough_ends_the_sender() -> None:
    tx, rx = channel(2)
    source, calls = Source(), Calls()
    sending = asyncio.create_task(stream(source).map(calls, 3).into_channel(tx))
    assert await from_channel(rx).take(4).collect() == [0, 1, 4, 9]
    with pytest.raises(BrokenChannel):
        await sending
    assert (calls.running, source.closed) == (0, 1)
    with pytest.raises(ClosedChannel):
        await tx.send(1)


@orders
async def test_a_channel_that_is_kept() -> None:
    tx, rx = channel(5)
    await stream(range(3)).into_channel(tx, close=False)
    await stream(range(3, 5)).into_channel(tx)
    assert await from_channel(rx, close=False).take(2).collect() == [0, 1]
    assert await stream(rx).take(1).collect() == [2]
    assert await rx.recv() == 3
    assert await from_channel(rx).collect() == [4]
    with pytest.raises(ClosedChannel):
        await rx.recv()


@orders
async def test_cancelled_in_between_nothing_is_lost_that_was_not_taken() -> None:
    """What a stream has not pulled stays in the channel."""
    tx, rx = channel(10)
    for n in range(10):
        tx.send_nowait(n)
    tx.close()
    calls = Calls()

    async def consume(ends: Receiver[int]) -> None:
        await from_channel(ends, close=False).map(calls).for_each(lambda _: None)

    task = asyncio.create_task(consume(rx))
    await asyncio.sleep(2.5)
    task.cancel()
    await asyncio.wait([task])
    begun = calls.begun
    assert [n async for n in rx] == list(range(begun, 10))
    assert begun == 3
    rx.close()
