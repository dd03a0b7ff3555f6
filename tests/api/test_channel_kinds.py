"""oneshot, watch, broadcast and priority; ends for threads."""

import asyncio
import gc
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pinloop import (
    BrokenChannel,
    ClosedChannel,
    EndOfChannel,
    Lagged,
    WouldBlock,
    broadcast,
    channel,
    from_thread,
    oneshot,
    priority,
    select,
    to_thread,
    watch,
)
from tests.api.channels import on_every_loop, waiting
from tests.api.laws import law

# ---------------------------------------------------------------------------------------- oneshot --


@on_every_loop
async def test_a_oneshot_carries_one_value() -> None:
    tx, rx = oneshot()
    task = await waiting(rx.recv())
    tx.send("value")
    assert await task == "value"
    with pytest.raises(EndOfChannel):
        await rx.recv()
    with pytest.raises(ClosedChannel, match="one value"):
        tx.send("second")


@on_every_loop
async def test_a_oneshot_without_a_value() -> None:
    tx, rx = oneshot()
    task = await waiting(rx.recv())
    tx.close()
    with pytest.raises(EndOfChannel):
        await task
    tx, rx = oneshot()
    rx.close()
    with pytest.raises(BrokenChannel):
        tx.send(1)


@on_every_loop
async def test_a_oneshot_has_one_receiver() -> None:
    tx, rx = oneshot()
    with pytest.raises(RuntimeError, match="one receiver"):
        rx.clone()
    task = await waiting(rx.recv())
    with pytest.raises(RuntimeError, match="another task waits for this oneshot"):
        await rx.recv()
    with pytest.raises(RuntimeError, match="another task waits for this oneshot"):
        await select(rx)
    tx.send(1)
    assert await task == 1
    tx, rx = oneshot()
    choosing = await waiting(select(rx))
    tx.send(2)
    assert await choosing == (0, 2)


# ------------------------------------------------------------------------------------------ watch --


@on_every_loop
async def test_a_watch_shows_the_latest_value() -> None:
    tx, rx = watch("first")
    assert rx.value == "first"
    other = rx.clone()
    task = await waiting(rx.changed())
    tx.send("second")
    tx.send("third")
    assert await task == "third"
    tx.send("fourth")
    assert await rx.changed() == "fourth"
    assert await other.changed() == "fourth"
    waits = await waiting(other.changed())
    late = tx.subscribe()
    assert late.value == "fourth"
    assert await select(late.changes, rx.changes, asyncio.ensure_future(asyncio.sleep(0))) == (2, None)
    tx.close()
    for ended in (waits, rx.changed(), late.changed()):
        with pytest.raises(EndOfChannel):
            await ended
    with pytest.raises(ClosedChannel):
        tx.send("fifth")
    assert rx.value == "fourth"


@on_every_loop
async def test_a_watch_by_async_for() -> None:
    tx, rx = watch(0)
    seen: list[int] = []

    async def look() -> None:
        async for value in rx:
            seen.append(value)  # noqa: PERF401 - one at a time

    task = await waiting(look())
    for value in (1, 2):
        tx.send(value)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    tx.send(3)
    tx.close()  # the last value is seen all the same
    await task
    assert seen == [1, 2, 3]


@on_every_loop
async def test_a_watch_whose_ends_go() -> None:
    tx, rx = watch(0)
    kept = tx.subscribe()
    rx.close()
    with pytest.raises(ClosedChannel):
        await rx.changed()
    tx.send(1)
    task = asyncio.ensure_future(kept.changed())
    assert await task == 1
    task = await waiting(kept.changed())
    del tx
    gc.collect()
    with pytest.raises(EndOfChannel):
        await task


@on_every_loop
async def test_a_cancelled_watcher_has_seen_nothing() -> None:
    tx, rx = watch(0)
    task = await waiting(rx.changed())
    tx.send(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rx.changed() == 1


# -------------------------------------------------------------------------------------- broadcast --


@on_every_loop
async def test_a_broadcast_goes_to_all() -> None:
    tx, rx = broadcast(2)
    other = tx.subscribe()
    assert await tx.send(1) == 2
    late = rx.clone()
    assert tx.send_nowait(2) == 3
    assert [await rx.recv(), await rx.recv()] == [1, 2]
    with pytest.raises(WouldBlock):
        tx.send_nowait(3)
    sender = await waiting(tx.send(3))
    with pytest.raises(WouldBlock):
        rx.recv_nowait()  # to all at once, or to nobody
    assert await other.recv() == 1
    assert await sender == 3
    tx.close()
    assert [item async for item in rx] == [3]
    assert [item async for item in other] == [2, 3]
    assert [item async for item in late] == [2, 3]
    with pytest.raises(ClosedChannel):
        await tx.send(4)
    with pytest.raises(ClosedChannel):
        rx.clone()


@on_every_loop
async def test_a_receiver_that_leaves_is_not_waited_for() -> None:
    tx, rx = broadcast(1)
    slow, dropped = tx.subscribe(), tx.subscribe()
    await tx.send(1)
    sender = await waiting(tx.send(2))
    assert [await rx.recv(), await dropped.recv()] == [1, 1]
    slow.close()
    assert await sender == 2
    del dropped
    gc.collect()
    assert [await rx.recv(), await tx.send(3), await rx.recv()] == [2, 1, 3]
    assert tx.receivers == 1


@on_every_loop
async def test_a_cancelled_broadcast_was_sent_to_nobody() -> None:
    tx, rx = broadcast(1)
    slow = tx.subscribe()
    await tx.send(1)
    assert await rx.recv() == 1
    sender = await waiting(tx.send(2))
    sender.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender
    assert await slow.recv() == 1
    assert await tx.send(3) == 2
    assert [await rx.recv(), await slow.recv()] == [3, 3]


@on_every_loop
async def test_laggards_are_told_what_they_missed() -> None:
    tx, rx = broadcast(2, overflow="lag")
    quick = tx.subscribe()
    got = []
    for i in range(5):
        await tx.send(i)
        got.append(await quick.recv())
    assert got == [0, 1, 2, 3, 4]
    with pytest.raises(Lagged, match="3 items were dropped") as caught:
        await rx.recv()
    assert caught.value.missed == 3
    assert [await rx.recv(), rx.recv_nowait()] == [3, 4]
    assert await select(quick.items, asyncio.ensure_future(asyncio.sleep(0))) == (1, None)


@law(seeds=100)
async def test_all_receivers_see_the_same_order() -> None:
    tx, rx = broadcast(2)
    receivers = [rx, tx.subscribe(), tx.subscribe()]

    async def send(name: str) -> None:
        for i in range(6):
            await tx.send(f"{name}{i}")

    async def receive(mine: Any) -> list[str]:
        return [item async for item in mine]

    receiving = [asyncio.ensure_future(receive(mine)) for mine in receivers]
    await asyncio.gather(send("a"), send("b"), send("c"))
    tx.close()
    seen = await asyncio.gather(*receiving)
    assert seen[0] == seen[1] == seen[2]
    assert sorted(seen[0]) == [f"{name}{i}" for name in "abc" for i in range(6)]


@pytest.mark.parametrize("wrong", [0, -1, math.nan])
def test_a_broadcast_needs_room(wrong: Any) -> None:
    with pytest.raises(ValueError, match="capacity must be 1 or more"):
        broadcast(wrong)


def test_a_broadcast_is_bounded() -> None:
    with pytest.raises(TypeError, match="capacity must be an integer, not float"):
        broadcast(math.inf)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'block' or 'lag', not 'drop'"):
        broadcast(1, overflow="drop")


@on_every_loop
async def test_another_thread_is_refused_and_changes_nothing() -> None:
    shown, watching = watch(1)
    told, hearing = broadcast(4)
    once, waited_for = oneshot()
    tasks = [await waiting(each) for each in (watching.changed(), hearing.recv(), waited_for.recv())]
    misuses: list[Callable[[], object]] = [
        lambda: shown.send(2),
        shown.subscribe,
        shown.close,
        watching.clone,
        watching.close,
        lambda: told.send_nowait(2),
        told.subscribe,
        told.close,
        hearing.recv_nowait,
        hearing.clone,
        hearing.close,
        lambda: once.send(2),
        once.close,
    ]
    for misuse in misuses:
        with pytest.raises(RuntimeError, match="another thread"):
            await asyncio.to_thread(misuse)
    assert (shown.value, told.receivers) == (1, 1)
    shown.send(3)
    assert await told.send(4) == 1
    once.send(5)
    assert await asyncio.gather(*tasks) == [3, 4, 5]


@on_every_loop
async def test_a_watch_whose_sender_another_thread_lets_go_of_ends() -> None:
    held = [watch(1)]
    watching = held[0][1]
    task = await waiting(watching.changed())
    await asyncio.to_thread(held.clear)
    with pytest.raises(EndOfChannel):
        await task


# --------------------------------------------------------------------------------------- priority --


@on_every_loop
async def test_the_lowest_comes_first_and_equals_in_order() -> None:
    tx, rx = priority(math.inf, key=lambda item: item[0])
    for item in ((2, "a"), (1, "b"), (2, "c"), (0, "d"), (1, "e")):
        await tx.send(item)
    assert await rx.recv_many(9) == [(0, "d"), (1, "b"), (1, "e"), (2, "a"), (2, "c")]
    tx, rx = priority(2)
    tx.send_nowait(5)
    tx.send_nowait(3)
    sender = await waiting(tx.send(1))
    assert await rx.recv() == 3
    await sender
    assert await select(rx) == (0, 1)
    assert rx.recv_nowait() == 5


@on_every_loop
async def test_items_that_cannot_be_compared_are_refused_to_their_sender() -> None:
    tx, rx = priority(2)
    await tx.send(1)
    with pytest.raises(TypeError, match="not supported"):
        await tx.send("one")
    await tx.send(2)
    sender = await waiting(tx.send("one"))
    assert await rx.recv() == 1
    with pytest.raises(TypeError, match="not supported"):
        await sender
    assert rx.recv_nowait() == 2
    with pytest.raises(WouldBlock):
        rx.recv_nowait()


@on_every_loop
async def test_a_cancelled_receiver_gives_its_item_back_in_order() -> None:
    tx, rx = priority(9)
    task = await waiting(rx.recv())
    tx.send_nowait(2)
    tx.send_nowait(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rx.recv_many(3) == [1, 2]


@on_every_loop
async def test_a_cancelled_sender_takes_its_item_out_of_the_order() -> None:
    tx, rx = priority(1)
    tx.send_nowait(0)
    sender = await waiting(tx.send(1))
    assert rx.recv_nowait() == 0
    sender.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender
    assert rx.statistics().buffered == 0


# ---------------------------------------------------------------------------------------- threads --


@on_every_loop
async def test_items_from_a_thread() -> None:
    tx, rx = channel(2)
    sender = from_thread(tx)

    def work() -> None:
        with sender:
            for i in range(50):
                sender.send(i)

    thread = asyncio.ensure_future(asyncio.to_thread(work))
    assert [item async for item in rx] == list(range(50))
    await thread
    with pytest.raises(ClosedChannel):
        await asyncio.to_thread(sender.send, 1)


@on_every_loop
async def test_items_to_threads() -> None:
    tx, rx = channel(0)
    receiver = to_thread(rx)
    threads = [asyncio.ensure_future(asyncio.to_thread(list, receiver)) for _ in range(3)]  # type: ignore[arg-type]
    for i in range(60):
        await tx.send(i)
    tx.close()
    received = await asyncio.gather(*threads)
    assert sorted(item for items in received for item in items) == list(range(60))
    for items in received:
        assert items == sorted(items)


@on_every_loop
async def test_a_thread_waits_no_longer_than_it_said() -> None:
    tx, rx = channel(0)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        await asyncio.to_thread(to_thread(rx).recv, 0.01)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(from_thread(tx).send, 1, 0.01)
    assert rx.statistics()[5:] == (0, 0)
    with pytest.raises(WouldBlock):
        rx.recv_nowait()
    rx.close()
    with pytest.raises(BrokenChannel):
        await asyncio.to_thread(from_thread(tx).send, 1)


@on_every_loop
async def test_an_end_for_threads_does_not_block_a_loop() -> None:
    tx, rx = channel(1)
    for call in (lambda: from_thread(tx).send(1), to_thread(rx).recv):
        with pytest.raises(RuntimeError, match="would block the event loop"):
            call()  # type: ignore[no-untyped-call]
    to_thread(rx).close()
    assert rx.closed


def test_a_thread_that_outlives_the_loop_is_told() -> None:
    found: list[Any] = []
    ends: list[Any] = []

    async def main() -> None:
        tx, rx = channel(0)
        ends.extend((tx, to_thread(rx)))
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(began.set)
            try:
                ends[1].recv()
            except ClosedChannel as error:
                found.append(error)

        thread = threading.Thread(target=work)
        ends.append(thread)
        thread.start()
        await began.wait()
        while not tx.statistics().waiting_receivers:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    ends[2].join(20)
    assert "the event loop ended" in str(found[0])
    with pytest.raises(ClosedChannel, match="is closed"):
        ends[1].recv()
