"""Laws of channels, select and their like: order, losers, backpressure, and that nobody is starved."""

import asyncio
import gc
import math
import random
import socket
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pinloop
from pinloop import (
    BrokenChannel,
    ChannelError,
    ClosedChannel,
    EndOfChannel,
    Limiter,
    Receiver,
    WouldBlock,
    after,
    channel,
    consume_budget,
    move_on_after,
    race,
    scope,
    select,
)
from tests.api.channels import on_every_loop
from tests.api.laws import examples, law

COMPLETED_IS_RECEIVED = sys.version_info >= (3, 13)
"""Before, who is cancelled as its item has been taken is told of the cancellation instead."""


def drawn() -> random.Random:
    """The same numbers for the same seed of the order, which has no other way into a test."""
    return random.Random(17)


async def whole_budget() -> None:
    """None of the next 128 operations gives way: on loops of others these are counted by the thread."""
    gave_way = asyncio.Event()
    asyncio.get_running_loop().call_soon(gave_way.set)
    while not gave_way.is_set():
        await consume_budget()


# ---------------------------------------------------------------------- conservation, to the end --


@pytest.mark.parametrize("capacity", [0, 3])
@law(seeds=12)
async def test_two_thousand_sends_race_cancellation_select_and_close(  # noqa: C901 - a program, and its check
    capacity: int,
) -> None:
    """Plain sends, permits and selects, of which many are cancelled; then the ends are closed under them."""
    channels = [channel(capacity) for _ in range(2)]
    received: list[int] = []
    completed: set[int] = set()
    refused: set[int] = set()

    async def send(i: int) -> None:
        tx = channels[i % 2][0]
        try:
            if i % 3 == 0:
                await tx.send(i)
            elif i % 3 == 1:
                with await tx.reserve() as permit:
                    permit.send(i)
            else:
                await select(*(end.sending(i) for end, _ in channels), after(1000))
        except ChannelError:
            refused.add(i)
        else:
            completed.add(i)

    async def receive(k: int) -> None:
        rx = channels[k % 2][1]
        while True:
            try:
                if k % 3 == 0:
                    received.append(await rx.recv())
                elif k % 3 == 1:
                    received.extend(await rx.recv_many(4))
                else:
                    received.append((await select(*(end for _, end in channels)))[1])
            except asyncio.CancelledError:
                continue
            except EndOfChannel as end:
                if end.arm is not None:  # the other one may have more
                    rx = channels[1 - end.arm][1]
                    k = 0
                    continue
                return

    receivers = [asyncio.ensure_future(receive(k)) for k in range(6)]
    await asyncio.sleep(1)  # whoever is cancelled before its first step does not see it
    senders = [asyncio.ensure_future(send(i)) for i in range(2000)]
    for i in range(500):
        await asyncio.sleep(0)
        senders[i * 7919 % 2000].cancel()
        if i % 5 == 0:
            receivers[i // 5 % 6].cancel()
        if i == 300:
            channels[0][0].close()  # who waits there gets ClosedChannel
    await asyncio.gather(*senders, return_exceptions=True)
    channels[1][0].close()
    await asyncio.gather(*receivers)
    assert all(task.cancelled() or task.exception() is None for task in senders)
    assert len(received) == len(set(received))
    assert completed <= set(received)
    assert not refused & set(received)
    if COMPLETED_IS_RECEIVED:
        assert completed == set(received)
    for tx, _ in channels:
        assert tx.statistics()[1:3] == (0, 0)
        assert tx.statistics()[5:] == (0, 0)


@law(seeds=30)
async def test_the_last_receiver_goes_while_hundreds_send() -> None:
    tx, rx = channel(0)
    received: list[int] = []
    outcomes: dict[int, str] = {}

    async def send(i: int) -> None:
        try:
            await tx.send(i)
            outcomes[i] = "sent"
        except BrokenChannel:
            outcomes[i] = "broken"

    async def receive(mine: Receiver[int], count: int) -> None:
        with mine:
            for _ in range(count):
                received.append(await mine.recv())  # noqa: PERF401 (an item that has come stays)

    async with scope() as s:
        for i in range(300):
            s.spawn(send(i))
        for count in (10, 40, 70):
            s.spawn(receive(rx.clone(), count))
        rx.close()
    assert len(received) == 120
    assert {i for i, outcome in outcomes.items() if outcome == "sent"} == set(received)
    assert len(outcomes) == 300


# --------------------------------------------------------------------------- first in, first out --


@examples(40)
@given(
    capacity=st.sampled_from([0, 1, 3, math.inf]),
    senders=st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 6)), min_size=1, max_size=12),
    cancels=st.lists(st.integers(0, 6), max_size=5),
    by_select=st.booleans(),
)
@law(seeds=6, times=1)
async def test_items_come_in_the_order_in_which_their_sends_began(
    capacity: float, senders: list[tuple[int, int | None]], cancels: list[int], by_select: bool
) -> None:
    """Whoever is cancelled, at either end, and whatever comes back by that."""
    await whole_budget()
    tx, rx = channel(capacity)
    loop = asyncio.get_running_loop()
    begun: list[int] = []
    received: list[int] = []

    async def send(i: int, start: int) -> None:
        await asyncio.sleep(start)
        begun.append(i)
        await (select(tx.sending(i), after(100)) if by_select and i % 2 else tx.send(i))

    async def receive() -> None:
        while True:
            try:
                received.append((await select(rx, after(1000)))[1] if by_select else await rx.recv())
                await asyncio.sleep(0.4)
            except asyncio.CancelledError:
                continue
            except EndOfChannel:
                return

    receiver = asyncio.ensure_future(receive())
    await asyncio.sleep(0.1)
    tasks = [asyncio.ensure_future(send(i, start)) for i, (start, _) in enumerate(senders)]
    for task, (_, cancelled) in zip(tasks, senders, strict=True):
        if cancelled is not None:
            loop.call_later(cancelled, task.cancel)
    for when in cancels:
        loop.call_later(when, receiver.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    tx.close()
    await receiver
    assert received == [i for i in begun if i in set(received)]
    assert {i for i, task in enumerate(tasks) if not task.cancelled()} <= set(received)


@law(seeds=100)
async def test_who_waits_is_served_in_turn() -> None:
    """Receivers too: the item goes to who has waited for the longest time, of those who still wait."""
    await whole_budget()
    tx, rx = channel(0)
    began: list[int] = []
    served: list[int] = []

    async def receive(i: int) -> None:
        began.append(i)
        await (select(rx, after(100)) if i % 2 else rx.recv())

    tasks = {i: asyncio.ensure_future(receive(i)) for i in range(20)}
    for i, task in tasks.items():
        task.add_done_callback(lambda task, i=i: None if task.cancelled() else served.append(i))
    await asyncio.sleep(1)
    for i in (3, 4, 11):
        tasks[i].cancel()
    for i in range(17):
        tx.send_nowait(i)
        await asyncio.sleep(1)
    assert served == [i for i in began if i not in (3, 4, 11)]


# ---------------------------------------------------------------------------------------- select --


@examples(60)
@given(ready=st.lists(st.sets(st.integers(0, 4)), max_size=12))
@law(seeds=4, times=1)
async def test_a_biased_select_takes_the_first_that_is_ready(ready: list[set[int]]) -> None:
    """Under every order, and whether it waits for them or not."""
    ends = [channel(math.inf) for _ in range(5)]

    async def feed() -> None:
        for sets in ready:
            for i in sorted(sets, reverse=True):
                ends[i][0].send_nowait(i)
            await asyncio.sleep(1)

    async with scope() as s:
        s.spawn(feed())
        for _ in range(sum(map(len, ready))):
            there = [i for i, (_, rx) in enumerate(ends) if rx.statistics().buffered]
            chosen, value = await select(*(rx for _, rx in ends), biased=True)
            assert chosen == value
            if there:
                assert chosen == there[0]


@law(seeds=200)
async def test_losing_arms_leave_no_trace() -> None:
    """No place in a queue, no callback, no timer: those who come later find what there was before."""
    loop = asyncio.get_running_loop()
    (tx, rx), (full, held), (never, silent) = channel(1), channel(1), channel(0)
    await full.send("old")
    event = pinloop.Event()
    future = loop.create_future()
    callbacks = future._callbacks

    async def winner(i: int) -> None:
        await asyncio.sleep(i % 3)
        tx.send_nowait(i)

    for i in range(6):
        task = asyncio.ensure_future(winner(i))
        chosen, value = await select(
            rx, full.sending("new"), silent, never.sending("x"), event, future, after(3600), None
        )
        assert (chosen, value) == (0, i)
        await task
        for end in (rx, held, silent):
            assert end.statistics()[5:] == (0, 0)
        assert future._callbacks == callbacks
        for nobody in (lambda: never.send_nowait(1), silent.recv_nowait):
            with pytest.raises(WouldBlock):
                nobody()
    assert held.recv_nowait() == "old"
    with pytest.raises(WouldBlock):
        held.recv_nowait()
    event.set()  # there is nobody to hear of it
    future.set_result(None)
    assert await rx_of(tx, rx) == "last"
    assert loop.time() < 60  # none of the hours was waited for


async def rx_of(tx: Any, rx: Any) -> Any:
    await tx.send("last")
    return await rx.recv()


@law(seeds=200)
async def test_a_lost_arm_holds_no_lock_no_permit_and_no_place() -> None:
    """Of calls that lose a race, in all the moments at which they can."""
    lock, limiter, semaphore = pinloop.Lock(), Limiter(1), pinloop.Semaphore(1)
    tx, rx = channel(1)
    pick = drawn()

    async def one(i: int, started: asyncio.Event) -> str:
        kind = ("lock", "limiter", "semaphore", "reserve", "recv", "send")[i % 6]
        await started.wait()
        if kind == "lock":
            async with lock:
                await asyncio.sleep(pick.randrange(3))
        elif kind == "limiter":
            async with limiter:
                await asyncio.sleep(pick.randrange(3))
        elif kind == "semaphore":
            async with semaphore:
                await asyncio.sleep(pick.randrange(3))
        elif kind == "reserve":
            with await tx.reserve():
                await asyncio.sleep(pick.randrange(3))
        elif kind == "recv":
            async with move_on_after(0.5):
                await rx.recv()
        else:
            async with move_on_after(0.5):
                await tx.send(i)
        return kind

    async def start(started: asyncio.Event) -> None:
        await asyncio.sleep(1)
        started.set()

    for _ in range(3):
        started = asyncio.Event()
        starting = asyncio.ensure_future(start(started))
        await race(*(one(i, started) for i in range(12)))
        await starting
        assert not lock.locked()
        assert limiter.statistics() == (0, 1, (), 0)
        assert not semaphore.locked()
        assert rx.statistics().reserved == 0
        assert rx.statistics()[5:] == (0, 0)
        while rx.statistics().buffered:
            rx.recv_nowait()


# ---------------------------------------------------------------------------------- backpressure --


class Piece:
    """Something of which it is counted how many there are."""

    alive = most = 0

    def __init__(self) -> None:
        self.room = bytes(1000)
        Piece.alive += 1
        Piece.most = max(Piece.most, Piece.alive)

    def __del__(self) -> None:
        Piece.alive -= 1


@pytest.mark.parametrize("kind", ["send", "reserve", "select", "broadcast", "stream"])
@law(seeds=6)
async def test_memory_is_bounded_for_a_producer_a_hundred_times_faster(kind: str) -> None:
    gc.collect()
    Piece.alive = Piece.most = 0
    capacity, items = 8, 60
    tx, rx = channel(capacity)
    stx, srx = pinloop.broadcast(capacity)

    async def produce() -> None:
        with tx, stx:
            for _ in range(items):
                await asyncio.sleep(0.01)
                if kind == "reserve":
                    (await tx.reserve()).send(Piece())
                elif kind == "select":
                    await select(tx.sending(Piece()), after(1000))
                elif kind == "broadcast":
                    await stx.send(Piece())
                else:
                    await tx.send(Piece())

    seen = 0
    async with scope() as s:
        s.spawn(produce())
        if kind == "stream":
            async with pinloop.stream(rx).map(lambda piece: piece, concurrency=2).buffer(2) as pieces:
                async for _ in pieces:
                    await asyncio.sleep(1)
                    seen += 1
        else:
            async for _ in srx if kind == "broadcast" else rx:
                await asyncio.sleep(1)
                seen += 1
    assert seen == items
    del _
    # One at the consumer, one at the producer, and what streams hold: told by their numbers.
    assert Piece.most <= capacity + 3 + (2 + 2 + 2 if kind == "stream" else 0)
    assert Piece.alive == 0


# ------------------------------------------------------------------------------------ starvation --


@pytest.mark.parametrize(
    "how", ["recv", "send", "async for", "recv_many", "select", "biased select", "limiter"]
)
@on_every_loop
async def test_what_is_always_ready_starves_neither_timers_nor_sockets_nor_tasks(  # noqa: C901 - of each kind
    how: str,
) -> None:
    """While one task never has to wait, another talks through a socket, a timer fires, tasks take turns."""
    tx, rx = channel(math.inf)
    limiter = Limiter(1)
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    over = False
    fired: list[int] = []
    rounds = busy = 0

    async def talk() -> None:
        nonlocal rounds
        for _ in range(20):
            await loop.sock_sendall(left, b"x")
            assert await loop.sock_recv(right, 1) == b"x"
            rounds += 1

    async def turn() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def glutton() -> None:
        nonlocal busy
        while not over:
            busy += 1
            if how in ("send", "recv_many") or busy % 200 == 1:
                for _ in range(200):
                    tx.send_nowait(None)
            match how:
                case "recv":
                    await rx.recv()
                case "send":
                    await tx.send(None)
                    rx.recv_nowait()
                case "async for":
                    async for _ in rx:
                        break
                case "recv_many":
                    await rx.recv_many(200)
                case "limiter":
                    async with limiter:
                        pass
                case _:
                    await select(rx, after(1000), biased=how.startswith("biased"))

    eating = asyncio.ensure_future(glutton())
    loop.call_later(0.002, fired.append, 1)
    try:
        await asyncio.wait_for(asyncio.gather(talk(), turn()), 20)
        while not fired:
            await asyncio.sleep(0)
        assert not eating.done()
        assert busy > 20  # and it was not starved either
    finally:
        over = True
        await eating
        left.close()
        right.close()


# ----------------------------------------------------------------------------- closed under them --


@law(seeds=100)
async def test_closing_an_end_ends_all_that_wait_by_it_and_nobody_else() -> None:
    tx, rx = channel(0)
    clone = rx.clone()
    outcomes: dict[str, str] = {}

    async def receive(name: str, end: Receiver[int], by_select: bool) -> None:
        try:
            got = await (select(end, after(50)) if by_select else end.recv())
            outcomes[name] = f"got {got if isinstance(got, int) else got[1]}"
        except ClosedChannel:
            outcomes[name] = "closed"

    async with scope() as s:
        for i in range(4):
            s.spawn(receive(f"mine {i}", rx, i % 2 == 0))
            s.spawn(receive(f"other {i}", clone, i % 2 == 0))
        await asyncio.sleep(1)
        rx.close()
        for i in range(4):
            tx.send_nowait(i)
    assert {name for name, outcome in outcomes.items() if outcome == "closed"} == {
        f"mine {i}" for i in range(4)
    }
    assert sorted(outcome for outcome in outcomes.values() if outcome != "closed") == [
        f"got {i}" for i in range(4)
    ]
