"""Channels: what goes in comes out, in order, at the receivers' pace; how they end."""

import asyncio
import gc
import math
import sys
import weakref
from typing import Any

import pytest

import pinloop
from pinloop import BrokenChannel, ClosedChannel, EndOfChannel, Sender, WouldBlock, channel
from tests.api.channels import on_every_loop, waiting

CAPACITIES = (0, 1, 3, math.inf)


@pytest.mark.parametrize("capacity", CAPACITIES)
@on_every_loop
async def test_items_come_out_in_order(capacity: float) -> None:
    tx, rx = channel(capacity)

    async def produce() -> None:
        async with tx:
            for i in range(500):
                await tx.send(i)

    producer = asyncio.ensure_future(produce())
    assert [item async for item in rx] == list(range(500))
    await producer
    with pytest.raises(EndOfChannel):
        await rx.recv()


@on_every_loop
async def test_whatever_the_item_is_it_arrives() -> None:
    tx, rx = channel(1)
    for item in (None, (), ("a", "b"), StopIteration(3), StopIteration, ValueError("no"), [1], False):
        await tx.send(item)
        assert await rx.recv() is item


@on_every_loop
async def test_an_item_is_let_go_of_at_once() -> None:
    class Item:
        pass

    tx, rx = channel(1)
    for parked in (False, True):
        taker = await waiting(rx.recv()) if parked else None
        item = Item()
        gone = weakref.ref(item)
        await tx.send(item)
        del item
        received = await rx.recv() if taker is None else await taker
        assert gone() is received
        del taker, received
        if parked:
            await asyncio.sleep(0)
            gc.collect()
        assert gone() is None


@on_every_loop
async def test_a_sender_waits_until_there_is_room() -> None:
    tx, rx = channel(2)
    tx.send_nowait(1)
    await tx.send(2)
    with pytest.raises(WouldBlock):
        tx.send_nowait(3)
    sender = await waiting(tx.send(3))
    assert tx.statistics() == (2, 2, 0, 1, 1, 1, 0)
    assert await rx.recv() == 1
    assert tx.statistics() == (2, 2, 0, 1, 1, 0, 0)  # moved in when there was room
    with pytest.raises(WouldBlock):
        tx.send_nowait(4)
    await sender
    assert [rx.recv_nowait(), rx.recv_nowait()] == [2, 3]
    with pytest.raises(WouldBlock):
        rx.recv_nowait()


@on_every_loop
async def test_a_rendezvous_gives_an_item_from_hand_to_hand() -> None:
    tx, rx = channel(0)
    with pytest.raises(WouldBlock):
        tx.send_nowait(1)
    with pytest.raises(WouldBlock):
        rx.recv_nowait()
    sender = await waiting(tx.send(1))
    assert rx.recv_nowait() == 1
    await sender
    receiver = await waiting(rx.recv())
    tx.send_nowait(2)
    with pytest.raises(WouldBlock):
        tx.send_nowait(3)
    assert await receiver == 2
    assert rx.statistics() == (0, 0, 0, 1, 1, 0, 0)


@on_every_loop
async def test_who_waits_longest_is_first() -> None:
    tx, rx = channel(0)
    receivers = [await waiting(rx.recv()) for _ in range(4)]
    for i in range(4):
        tx.send_nowait(i)
    assert [await receiver for receiver in receivers] == [0, 1, 2, 3]
    senders = [await waiting(tx.send(i)) for i in range(4)]
    assert [rx.recv_nowait() for _ in senders] == [0, 1, 2, 3]
    await asyncio.gather(*senders)


@on_every_loop
async def test_an_unbounded_channel_takes_anything() -> None:
    tx, rx = channel(math.inf)
    for i in range(10_000):
        tx.send_nowait(i)
    assert tx.statistics()[:2] == (math.inf, 10_000)
    assert [rx.recv_nowait() for _ in range(10_000)] == list(range(10_000))


@on_every_loop
async def test_many_items_at_once() -> None:
    tx, rx = channel(3)
    for i in range(3):
        tx.send_nowait(i)
    sender = await waiting(tx.send(3))
    assert await rx.recv_many(10) == [0, 1, 2, 3]
    await sender
    receiver = await waiting(rx.recv_many(2))
    for i in range(3):
        tx.send_nowait(i)
    assert await receiver == [0, 1]
    assert await rx.recv_many(5) == [2]
    tx.close()
    with pytest.raises(EndOfChannel):
        await rx.recv_many(1)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="n must be 1 or more"):
            rx.recv_many(wrong)
    with pytest.raises(TypeError):
        rx.recv_many(1.5)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ permits --


@on_every_loop
async def test_a_permit_keeps_a_place() -> None:
    tx, rx = channel(2)
    permit = await tx.reserve()
    tx.send_nowait("first")
    with pytest.raises(WouldBlock):
        tx.send_nowait("no place")
    with pytest.raises(WouldBlock):
        tx.reserve_nowait()
    assert tx.statistics() == (2, 1, 1, 1, 1, 0, 0)
    sender = await waiting(tx.send("third"))
    permit.send("second")
    assert not sender.done()
    assert [await rx.recv() for _ in range(3)] == ["first", "second", "third"]
    await sender
    with pytest.raises(RuntimeError, match="used or released"):
        permit.send("again")


@on_every_loop
async def test_a_permit_given_back_lets_others_in() -> None:
    tx, rx = channel(1)
    for give_back in ("release", "with", "drop"):
        permit = tx.reserve_nowait()
        sender = await waiting(tx.send(give_back))
        if give_back == "release":
            permit.release()
            permit.release()
        elif give_back == "with":
            with permit:
                pass
        else:
            del permit
            gc.collect()
        await sender
        assert await rx.recv() == give_back


@on_every_loop
async def test_permits_of_a_rendezvous() -> None:
    tx, rx = channel(0)
    with pytest.raises(WouldBlock):
        tx.reserve_nowait()
    reserving = await waiting(tx.reserve())
    receiver = await waiting(rx.recv())
    permit = await reserving
    with pytest.raises(WouldBlock):
        tx.send_nowait("it is promised")
    permit.send(1)
    assert await receiver == 1


@on_every_loop
async def test_a_permit_keeps_the_channel_open() -> None:
    tx, rx = channel(1)
    permit = tx.reserve_nowait()
    receiver = await waiting(rx.recv())
    tx.close()
    await asyncio.sleep(0)
    assert not receiver.done()
    permit.send("last")
    assert await receiver == "last"
    with pytest.raises(EndOfChannel):
        await rx.recv()
    tx, rx = channel(1)
    permit = tx.reserve_nowait()
    receiver = await waiting(rx.recv())
    tx.close()
    permit.release()
    with pytest.raises(EndOfChannel):
        await receiver
    tx, rx = channel(1)
    permit = tx.reserve_nowait()
    rx.close()
    with pytest.raises(BrokenChannel):
        permit.send(1)


# --------------------------------------------------------------------------------------- ends --


@on_every_loop
async def test_receivers_drain_the_channel_and_then_it_ends() -> None:
    tx, rx = channel(5)
    other = tx.clone()
    tx.send_nowait(1)
    other.send_nowait(2)
    tx.close()
    assert await rx.recv() == 1
    other.send_nowait(3)
    other.close()
    assert [item async for item in rx] == [2, 3]
    with pytest.raises(EndOfChannel):
        rx.recv_nowait()


@on_every_loop
async def test_those_who_wait_hear_of_the_end() -> None:
    tx, rx = channel(0)
    receivers = [await waiting(rx.recv()), await waiting(rx.recv_many(2))]

    async def iterate() -> list[Any]:
        return [item async for item in rx]

    iterating = await waiting(iterate())
    tx.close()
    for receiver in receivers:
        with pytest.raises(EndOfChannel):
            await receiver
    assert await iterating == []


@on_every_loop
async def test_without_receivers_senders_fail() -> None:
    tx, rx = channel(1)
    other = rx.clone()
    tx.send_nowait("lost")
    senders = [await waiting(tx.send(1)), await waiting(tx.reserve())]
    rx.close()
    await asyncio.sleep(0)
    assert not any(sender.done() for sender in senders)
    other.close()
    for sender in senders:
        with pytest.raises(BrokenChannel):
            await sender
    for attempt in (tx.send_nowait, tx.send):
        with pytest.raises(BrokenChannel):
            await attempt(1)  # type: ignore[misc]
    with pytest.raises(BrokenChannel):
        await tx.reserve()
    assert tx.statistics()[1] == 0


@on_every_loop
async def test_closing_an_end_wakes_those_who_wait_by_it() -> None:
    tx, rx = channel(0)
    other = rx.clone()
    mine, others = await waiting(rx.recv()), await waiting(other.recv())
    rx.close()
    rx.close()
    with pytest.raises(ClosedChannel):
        await mine
    tx.send_nowait(1)
    assert await others == 1
    assert rx.closed
    assert not other.closed
    for use in (rx.recv, lambda: rx.recv_many(3), rx.__anext__):
        with pytest.raises(ClosedChannel):
            await use()
    for refused in (rx.recv_nowait, rx.clone):
        with pytest.raises(ClosedChannel):
            refused()
    sender = await waiting(tx.send(2))
    tx.close()
    with pytest.raises(ClosedChannel):
        await sender
    with pytest.raises(ClosedChannel):
        await tx.send(3)
    with pytest.raises(ClosedChannel):
        tx.send_nowait(3)


@on_every_loop
async def test_ends_are_context_managers() -> None:
    tx, rx = channel(1)
    async with tx as same, rx as same_rx:
        assert (same, same_rx) == (tx, rx)
    assert tx.closed
    assert rx.closed
    tx, rx = channel(1)
    with tx, rx:
        pass
    assert tx.closed
    assert rx.closed


@on_every_loop
async def test_an_end_dropped_open_is_told_of_and_closed() -> None:
    tx, rx = channel(0)
    receiver = await waiting(rx.recv())
    with pytest.warns(ResourceWarning, match="was dropped without being closed"):
        del tx
    with pytest.raises(EndOfChannel):
        await receiver
    tx, rx = channel(0)
    sender = await waiting(tx.send(1))
    with pytest.warns(ResourceWarning, match="was dropped without being closed"):
        del rx
    with pytest.raises(BrokenChannel):
        await sender


@on_every_loop
async def test_an_end_dropped_while_nobody_waits_says_nothing() -> None:
    tx, rx = channel(3)
    tx.send_nowait(1)
    del tx
    gc.collect()
    assert [item async for item in rx] == [1]


# -------------------------------------------------------------------------------- cancellation --


@on_every_loop
async def test_cancelled_before_it_has_an_item_it_has_taken_none() -> None:
    tx, rx = channel(0)
    first, second = await waiting(rx.recv()), await waiting(rx.recv())
    first.cancel()
    tx.send_nowait(1)  # before the cancelled one has run
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert rx.statistics()[5:] == (0, 0)


@on_every_loop
async def test_cancelled_after_it_has_an_item_it_goes_to_the_next() -> None:
    tx, rx = channel(0)
    first, second = await waiting(rx.recv()), await waiting(rx.recv())
    tx.send_nowait(1)
    first.cancel()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


@on_every_loop
async def test_cancelled_after_it_has_an_item_it_goes_back_to_the_head() -> None:
    for many in (False, True):
        tx, rx = channel(4)
        receiver = await waiting(rx.recv_many(3) if many else rx.recv())
        for i in range(3):
            tx.send_nowait(i)
        receiver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiver
        assert [rx.recv_nowait() for _ in range(3)] == [0, 1, 2]


@on_every_loop
async def test_items_that_come_back_are_in_order() -> None:
    tx, rx = channel(9)
    receivers = [await waiting(rx.recv()) for _ in range(4)]
    for i in range(6):
        tx.send_nowait(i)
    for receiver in receivers:
        receiver.cancel()
    for receiver in receivers:
        with pytest.raises(asyncio.CancelledError):
            await receiver
    assert await rx.recv_many(3) == [0, 1, 2]
    tx.send_nowait(6)
    assert await rx.recv_many(9) == [3, 4, 5, 6]


@on_every_loop
async def test_a_cancelled_sender_has_sent_nothing() -> None:
    tx, rx = channel(1)
    tx.send_nowait(0)
    first, second = await waiting(tx.send(1)), await waiting(tx.send(2))
    first.cancel()
    assert rx.recv_nowait() == 0
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert rx.recv_nowait() == 2
    with pytest.raises(WouldBlock):
        rx.recv_nowait()


@on_every_loop
async def test_a_sender_cancelled_after_its_item_went_in_takes_it_out() -> None:
    tx, rx = channel(1)
    tx.send_nowait(0)
    first, second = await waiting(tx.send(1)), await waiting(tx.send(2))
    assert rx.recv_nowait() == 0  # the first's item is in now
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert rx.recv_nowait() == 2


@on_every_loop
async def test_a_send_that_happened_is_not_unmade_by_a_cancellation() -> None:
    tx, rx = channel(0)
    after: list[str] = []

    async def send() -> None:
        await tx.send(1)
        after.append("sent")
        await asyncio.sleep(10)
        after.append("slept")

    task = await waiting(send())
    assert rx.recv_nowait() == 1
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    late = sys.version_info >= (3, 13)
    assert after == (["sent"] if late else [])
    assert task.cancelling() == 1


@on_every_loop
async def test_a_permit_that_its_owner_does_not_live_to_see_is_given_back() -> None:
    tx, rx = channel(1)
    permit = tx.reserve_nowait()
    reserving = await waiting(tx.reserve())
    permit.release()
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    assert tx.statistics() == (1, 0, 0, 1, 1, 0, 0)
    tx.send_nowait(1)
    assert rx.recv_nowait() == 1


@on_every_loop
async def test_in_a_cancelled_scope_every_await_raises() -> None:
    tx, rx = channel(5)
    tx.send_nowait(1)
    async with pinloop.scope() as s:
        s.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)  # the one that the task is told by
        for attempt in (lambda: tx.send(2), rx.recv, tx.reserve, rx.recv):
            with pytest.raises(asyncio.CancelledError):
                await attempt()  # type: ignore[operator]
        async with pinloop.scope(shield=True):
            await tx.send(3)
    assert [await rx.recv(), await rx.recv()] == [1, 3]


@on_every_loop
async def test_what_is_always_ready_lets_others_run() -> None:
    tx, rx = channel(math.inf)
    ran = 0

    async def count() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    counter = asyncio.ensure_future(count())
    for i in range(2000):
        await tx.send(i)
    for i in range(2000):
        assert await rx.recv() == i
    assert ran >= 4000 // 129 - 1
    counter.cancel()


# -------------------------------------------------------------------------------------- misuse --


@pytest.mark.parametrize("wrong", [-1, -0.5, math.nan, -math.inf])
def test_a_capacity_that_cannot_be(wrong: float) -> None:
    with pytest.raises(ValueError, match="capacity must be 0 or more"):
        channel(wrong)


@pytest.mark.parametrize("wrong", [None, "1", 1.5, []])
def test_a_capacity_that_is_no_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"capacity must be an integer or math\.inf"):
        channel(wrong)


@on_every_loop
async def test_another_loop_and_another_thread_are_refused() -> None:
    tx, rx = channel(1)
    await tx.send(1)

    async def use() -> None:
        await rx.recv()

    def elsewhere() -> None:
        asyncio.run(use())

    with pytest.raises(RuntimeError, match="different event loop"):
        await asyncio.to_thread(elsewhere)
    for call in (rx.recv_nowait, lambda: tx.send_nowait(1), tx.close, tx.clone, tx.reserve_nowait):
        with pytest.raises(RuntimeError, match="another thread"):
            await asyncio.to_thread(call)
    assert rx.recv_nowait() == 1


def test_ends_can_be_filled_and_closed_without_a_loop() -> None:
    tx, rx = channel(2)
    tx.send_nowait(1)
    assert rx.recv_nowait() == 1
    tx.close()
    with pytest.raises(EndOfChannel):
        rx.recv_nowait()


def test_a_call_that_nobody_awaits_is_told_of() -> None:
    tx, rx = channel(1)
    with pytest.warns(RuntimeWarning, match=r"'Sender\.send' was never awaited"):
        tx.send(1)
    with pytest.warns(RuntimeWarning, match=r"'Receiver\.recv' was never awaited"):
        rx.recv()
    assert rx.statistics()[1] == 0


@on_every_loop
async def test_a_call_is_awaited_once() -> None:
    tx, rx = channel(1)
    call = tx.send(1)
    await call
    with pytest.raises(RuntimeError, match="already awaited"):
        await call
    assert rx.recv_nowait() == 1
    again = tx.send(2)
    assert again is not call  # who holds on to a call keeps it
    await again


def test_the_ends_are_made_by_channel_only() -> None:
    for kind in (Sender, pinloop.Receiver, pinloop.Permit):
        with pytest.raises(TypeError):
            kind()


def test_names_that_tell() -> None:
    tx, rx = channel(3)
    assert repr(tx).startswith("<Sender open of <channel at ")
    assert "capacity=3 held=0" in repr(rx)
    rx.close()
    assert repr(rx).startswith("<Receiver closed of ")
    assert repr(tx.statistics()).startswith("ChannelStatistics(capacity=3, buffered=0, ")
