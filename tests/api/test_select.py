"""select: exactly one of several operations, and no trace of the others."""

import asyncio
import contextlib
import gc
import math
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import pinloop
from pinloop import (
    BrokenChannel,
    ClosedChannel,
    EndOfChannel,
    WouldBlock,
    after,
    channel,
    readable,
    select,
    select_nowait,
    writable,
)
from tests.api.channels import on_every_loop, waiting


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


def idle(*ends: Any) -> bool:
    """Whether nobody waits at these channels any more."""
    return all(end.statistics()[5:] == (0, 0) for end in ends)


@on_every_loop
async def test_what_is_ready_is_done_at_once() -> None:
    tx, rx = channel(1)
    empty_tx, empty = channel(1)
    assert await select(empty, tx.sending("item")) == (1, None)
    assert await select(empty, rx) == (1, "item")
    event = pinloop.Event()
    event.set()
    assert await select(empty, None, event) == (2, True)
    done = asyncio.get_running_loop().create_future()
    done.set_result(5)
    assert await select(done, empty) == (0, 5)
    assert await select(empty, after(0)) == (1, None)
    with socket_pair() as (left, right):
        assert await select(readable(left), writable(left)) == (1, left.fileno())
        right.send(b"x")
        assert await select(empty, readable(left)) == (1, left.fileno())
    assert idle(tx, empty_tx)


@on_every_loop
async def test_a_receiver_that_waits_gets_the_item() -> None:
    (tx, rx), (other_tx, other) = channel(0), channel(0)
    task = await waiting(select(other, rx, after(100)))
    tx.send_nowait("here")
    assert idle(rx, other)  # at once, not only when the task runs
    with pytest.raises(WouldBlock):
        other_tx.send_nowait("nobody waits here any more")
    assert await task == (1, "here")


@on_every_loop
async def test_a_sender_that_waits_hands_its_item_over() -> None:
    (tx, rx), (_other_tx, other) = channel(0), channel(0)
    task = await waiting(select(other, tx.sending("mine")))
    assert rx.recv_nowait() == "mine"
    assert idle(rx, other)
    assert await task == (1, None)
    task = await waiting(select(tx.sending("not sent"), other))
    _other_tx.send_nowait(1)
    with pytest.raises(WouldBlock):
        rx.recv_nowait()
    assert await task == (1, 1)


@on_every_loop
async def test_two_selects_meet() -> None:
    tx, rx = channel(0)
    _tx, never = channel(0)
    sending = await waiting(select(never, tx.sending("x")))
    assert await select(rx, never) == (0, "x")
    assert await sending == (1, None)
    assert idle(rx, never)


@on_every_loop
async def test_it_does_not_send_to_itself() -> None:
    tx, rx = channel(0)
    task = await waiting(select(rx, tx.sending("to whom?")))
    assert await rx.recv() == "to whom?"
    assert await task == (1, None)
    task = await waiting(select(rx, tx.sending("not this one")))
    tx.send_nowait("somebody else's")
    assert await task == (0, "somebody else's")
    first = await waiting(select(rx, tx.sending("a")))
    second = asyncio.ensure_future(select(rx, tx.sending("b")))  # they meet
    outcomes = {await first, await second}
    assert outcomes in ({(1, None), (0, "a")}, {(1, None), (0, "b")})
    assert idle(rx)


@on_every_loop
async def test_tasks_and_futures_are_observed_and_never_cancelled() -> None:
    _tx, never = channel(0)
    gate = asyncio.Event()

    async def work() -> str:
        await gate.wait()
        return "worked"

    task = asyncio.ensure_future(work())
    assert await select(never, task, after(0.001)) == (2, None)
    assert not task.cancelled()
    assert not task.done()
    choosing = await waiting(select(task, never))
    gate.set()
    assert await choosing == (0, "worked")
    assert not getattr(task, "_callbacks", None)

    async def fail() -> None:
        raise KeyError("in the task")

    with pytest.raises(KeyError, match="in the task"):
        await select(never, asyncio.ensure_future(fail()))
    assert idle(never)


@on_every_loop
async def test_a_future_that_loses_is_left_as_it_was() -> None:
    tx, rx = channel(1)
    future = asyncio.get_running_loop().create_future()
    task = await waiting(select(rx, future))
    tx.send_nowait(1)
    assert await task == (0, 1)
    assert not future._callbacks
    future.set_result(2)
    assert await select(future) == (0, 2)


@on_every_loop
async def test_events() -> None:
    _tx, never = channel(0)
    event, other = pinloop.Event(), pinloop.Event()
    tasks = [await waiting(select(never, other, event)) for _ in range(2)]
    waiter = await waiting(event.wait())
    event.set()
    event.clear()
    assert [await task for task in tasks] == [(2, True), (2, True)]
    assert await waiter
    assert idle(never)


@on_every_loop
async def test_a_time_is_a_limit() -> None:
    _tx, never = channel(0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await select(never, after(0.02)) == (1, None)
    assert loop.time() - began >= 0.019
    assert idle(never)


@on_every_loop
async def test_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    tx, never = channel(0)
    with socket_pair() as (left, right):
        task = await waiting(select(never, readable(left)))
        right.send(b"x")
        assert await task == (1, left.fileno())
        assert left.recv(10) == b"x"
        task = await waiting(select(readable(left), never))
        tx.send_nowait("the other")
        assert await task == (1, "the other")
        with contextlib.suppress(BlockingIOError):
            while True:
                left.send(bytes(65536))
        task = await waiting(select(writable(left)))
        with contextlib.suppress(BlockingIOError):
            while True:
                right.recv(65536)
        assert await task == (0, left.fileno())
        # Somebody else's registration of the same number is left alone.
        seen: list[bytes] = []
        loop = asyncio.get_running_loop()
        loop.add_reader(left, lambda: seen.append(left.recv(10)))
        task = await waiting(select(readable(left), never))
        right.send(b"y")
        await task
        while not seen:
            await asyncio.sleep(0)
        assert loop.remove_reader(left)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


@on_every_loop
async def test_errors_tell_which_operation_it_was() -> None:
    (tx, rx), (_tx, never) = channel(0), channel(0)
    task = await waiting(select(never, rx))
    tx.close()
    with pytest.raises(EndOfChannel) as caught:
        await task
    assert caught.value.arm == 1
    with pytest.raises(EndOfChannel) as caught:
        await select(rx, never)
    assert caught.value.arm == 0
    rx.close()
    with pytest.raises(ClosedChannel):
        await select(never, rx)
    tx, rx = channel(0)
    task = await waiting(select(never, tx.sending(1)))
    rx.close()
    with pytest.raises(BrokenChannel) as broken:
        await task
    assert broken.value.arm == 1
    task = await waiting(select(never))
    never.close()
    with pytest.raises(ClosedChannel):
        await task


# -------------------------------------------------------------------------------------- the order --


@on_every_loop
async def test_biased_goes_from_the_top() -> None:
    ends = [channel(math.inf) for _ in range(4)]
    for tx, _ in ends:
        for i in range(3):
            tx.send_nowait(i)
    order = [(await select(*(rx for _, rx in ends), biased=True))[0] for _ in range(12)]
    assert order == sorted(order)
    assert Counter(order) == {0: 3, 1: 3, 2: 3, 3: 3}


@pytest.mark.parametrize("ready", [(0, 1), (0, 1, 2, 3), (1, 5)])
@on_every_loop
async def test_it_is_fair_by_the_chi_squared_test(ready: tuple[int, ...]) -> None:
    ends = [channel(math.inf) for _ in range(6)]
    draws = 3000
    for i in ready:
        for _ in range(draws):
            ends[i][0].send_nowait(None)
    counts: Counter[int] = Counter()
    for _ in range(draws):
        counts[(await select(*(rx for _, rx in ends)))[0]] += 1
    assert set(counts) == set(ready)
    expected = draws / len(ready)
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < {2: 15.1, 4: 21.1}[len(ready)]  # p = 0.0001


# ----------------------------------------------------------------------------------- cancellation --


@on_every_loop
async def test_cancelled_while_it_waits_it_leaves_no_trace() -> None:
    (tx, rx), (other_tx, other) = channel(0), channel(0)
    future = asyncio.get_running_loop().create_future()
    event = pinloop.Event()
    with socket_pair() as (left, _right):
        task = await waiting(select(rx, other_tx.sending(1), future, event, after(100), readable(left), None))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert idle(rx, other)
    assert not future.cancelled()
    assert not future._callbacks
    event.set()
    with pytest.raises(WouldBlock):
        tx.send_nowait(1)


@on_every_loop
async def test_cancelled_after_it_was_given_an_item_that_goes_back() -> None:
    (tx, rx), (_tx, never) = channel(2), channel(0)
    task = await waiting(select(never, rx))
    tx.send_nowait("first")
    tx.send_nowait("second")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [rx.recv_nowait(), rx.recv_nowait()] == ["first", "second"]


@on_every_loop
async def test_cancelled_after_its_item_went_in_it_takes_it_out() -> None:
    (tx, rx), (_tx, never) = channel(1), channel(0)
    tx.send_nowait(0)
    task = await waiting(select(never, tx.sending(1)))
    assert rx.recv_nowait() == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(WouldBlock):
        rx.recv_nowait()


@on_every_loop
async def test_what_has_happened_is_told_before_the_cancellation() -> None:
    (tx, rx), (_tx, never) = channel(0), channel(0)
    told: list[Any] = []

    async def choose() -> None:
        told.append(await select(never, tx.sending(1)))
        await asyncio.sleep(10)

    task = await waiting(choose())
    assert rx.recv_nowait() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ([(1, None)] if sys.version_info >= (3, 13) else [])


@on_every_loop
async def test_in_a_cancelled_scope_it_raises() -> None:
    tx, rx = channel(1)
    tx.send_nowait(1)
    async with pinloop.scope() as s:
        s.cancel()
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                await select(rx)
    assert rx.recv_nowait() == 1


@on_every_loop
async def test_many_selects_on_one_channel_take_turns() -> None:
    (tx, rx), (_tx, never) = channel(0), channel(0)
    tasks = [await waiting(select(rx, never)) for _ in range(5)]
    for i in range(5):
        tx.send_nowait(i)
    assert [await task for task in tasks] == [(0, i) for i in range(5)]
    assert idle(rx, never)


@on_every_loop
async def test_an_always_ready_channel_does_not_starve_a_timer() -> None:
    tx, rx = channel(math.inf)
    fired: list[float] = []
    loop = asyncio.get_running_loop()
    loop.call_later(0.005, lambda: fired.append(loop.time()))
    began = loop.time()
    while not fired:
        tx.send_nowait(1)
        await select(rx, biased=True)
        assert loop.time() - began < 10


# ------------------------------------------------------------------------------------- not waiting --


@on_every_loop
async def test_select_nowait() -> None:
    (tx, rx), (_tx, never) = channel(1), channel(0)
    with pytest.raises(WouldBlock):
        select_nowait(rx, never, after(1))
    assert select_nowait(never, tx.sending(1)) == (1, None)
    assert select_nowait(rx, never) == (0, 1)
    assert select_nowait(tx.sending(1), after(0), biased=True) == (0, None)
    assert idle(rx, never)


# ------------------------------------------------------------------------------------------ misuse --


@on_every_loop
async def test_what_it_does_not_take_is_told_by_name() -> None:
    tx, rx = channel(1)

    async def coroutine() -> None:
        pass

    for wrong, advice in (
        (coroutine(), r"race\(\)"),
        (rx.recv(), "the receiver itself"),
        (tx.send(1), r"tx\.sending\(item\)"),
        (tx, r"tx\.sending\(item\)"),
        (asyncio.Event(), r"pinloop\.Event"),
        (3, "a receiver"),
    ):
        with pytest.raises(TypeError, match=advice):
            select(rx, wrong)
    gc.collect()
    for nothing in ((), (None,), (None, None)):
        with pytest.raises(ValueError, match="at least one operation"):
            select(*nothing)
    for delay in (-1, math.nan):
        with pytest.raises(ValueError, match="delay must be 0 or more"):
            after(delay)
    with pytest.raises(TypeError):
        after("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        readable(-1)


@on_every_loop
async def test_what_is_of_another_loop_is_refused() -> None:
    tx, rx = channel(1)
    await tx.send(1)
    future = asyncio.get_running_loop().create_future()

    def elsewhere() -> None:
        async def choose(op: Any) -> None:
            await select(op)

        for op in (rx, tx.sending(1), future):
            with pytest.raises(RuntimeError, match=r"different event loop|another event loop"):
                asyncio.run(choose(op))
        with pytest.raises(RuntimeError, match="another thread"):
            select_nowait(rx)

    await asyncio.to_thread(elsewhere)
    assert await select(rx) == (0, 1)
