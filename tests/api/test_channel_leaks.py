"""What channels and select are made of is gone when they are: no call, no waiter, no end is left behind."""

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pinloop import Event, Limiter, Lock, Queue, after, channel, join, priority, select
from tests.api.channels import on_every_loop
from tests.conftest import Run

NAMES = "Channel ChannelCall Sender Receiver Permit Sending SelectCall ArmWake After Item"
OURS = set(NAMES.split())


class Item:
    """What is sent: in a cycle, so that the collector has to find its way through channels too."""

    def __init__(self, around: object = None) -> None:
        self.around = around


def alive() -> Counter[str]:
    gc.collect()
    return Counter(name for each in gc.get_objects() if (name := type(each).__name__) in OURS)


async def use_everything() -> None:
    for make in (lambda: channel(2), lambda: channel(0), lambda: priority(2, key=id)):
        tx, rx = make()
        event = Event()
        receivers = [asyncio.ensure_future(rx.recv()) for _ in range(3)]
        chosen = asyncio.ensure_future(select(rx, event, after(50), asyncio.Future(), tx.sending(Item(tx))))
        await asyncio.sleep(0)
        receivers[1].cancel()
        for _ in range(4):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tx.send(Item(rx)), 0.01)
        await asyncio.gather(*receivers, return_exceptions=True)
        chosen.cancel()
        await asyncio.gather(chosen, return_exceptions=True)
        senders = [asyncio.ensure_future(tx.send(Item(tx))) for _ in range(5)]
        reserving = asyncio.ensure_future(tx.reserve())
        await asyncio.sleep(0)
        rx.close()
        await asyncio.gather(*senders, reserving, return_exceptions=True)
        tx.close()


@on_every_loop
async def test_nothing_is_left_behind() -> None:
    await use_everything()
    before = alive()
    for _ in range(10):
        await use_everything()
    assert alive() == before


@on_every_loop
async def test_channels_in_cycles_are_collected() -> None:
    before = alive()
    for _ in range(5):
        tx, rx = channel(9)
        tx.send_nowait(Item((tx, rx)))  # the channel holds an item that holds its ends
        await tx.send(Item(rx.recv))
        del tx, rx
    assert alive() == before


WAYS = ["recv", "send", "reserve", "select", "select-event", "join", "queue", "lock", "limiter", "event"]


@pytest.mark.parametrize("waits", WAYS)
@on_every_loop
async def test_a_task_that_waits_is_kept_by_what_it_waits_for(waits: str) -> None:
    """As asyncio's queues and locks do it: nobody else may hold the task."""
    tx, rx = channel(0)
    event, queue, lock, limiter = Event(), Queue[int](), Lock(), Limiter(1)
    await lock.acquire()
    await limiter.acquire()
    operations: dict[str, Callable[[], Awaitable[Any]]] = {
        "recv": rx.recv,
        "send": lambda: tx.send(1),
        "reserve": tx.reserve,
        "select": lambda: select(rx),
        "select-event": lambda: select(event),
        "join": lambda: join(rx.recv()),
        "queue": queue.get,
        "lock": lock.acquire,
        "limiter": limiter.acquire,
        "event": event.wait,
    }
    ended: list[object] = []

    async def wait() -> None:
        try:
            await operations[waits]()
            ended.append("done")
        finally:
            ended.append("over")

    asyncio.ensure_future(wait())
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert ended == []
    if waits in ("send", "reserve"):
        receiver = asyncio.ensure_future(rx.recv())
    elif waits in ("recv", "select", "join"):
        tx.send_nowait(1)
    event.set()
    queue.put_nowait(1)
    lock.release()
    limiter.release()
    for _ in range(5):
        await asyncio.sleep(0)
    assert ended == ["done", "over"]
    tx.close()
    if waits in ("send", "reserve"):
        await asyncio.wait([receiver])
        assert (receiver.exception() is None) == (waits == "send")


@pytest.mark.parametrize("waits", ["recv", "send", "select", "queue", "event"])
@on_every_loop
async def test_a_task_goes_with_what_it_waits_for(waits: str) -> None:
    """What nobody can reach any more is collected: the task is told to be destroyed, and closed."""
    before = alive()
    ended: list[str] = []
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))

    async def wait() -> None:
        tx, rx = channel(0)
        event, queue = Event(), Queue[int]()
        operations: dict[str, Callable[[], Awaitable[Any]]] = {
            "recv": rx.recv,
            "send": lambda: tx.send(1),
            "select": lambda: select(rx, event),
            "queue": queue.get,
            "event": event.wait,
        }
        try:
            await operations[waits]()
        finally:
            ended.append(waits)

    asyncio.ensure_future(wait())
    for _ in range(3):
        await asyncio.sleep(0)
    assert alive() == before
    assert ended == [waits]
    assert told == ["Task was destroyed but it is pending!"]


@pytest.mark.parametrize("waits", ["recv", "send", "select"])
def test_a_call_that_is_closed_leaves_its_queue(waits: str) -> None:
    async def main() -> None:
        tx, rx = channel(0)
        call = {"recv": rx.recv, "send": lambda: tx.send(1), "select": lambda: select(rx)}[waits]()
        call.send(None)
        if not sum(rx.statistics()[5:]):  # the thread's budget was used up: it gave way first
            call.send(None)
        assert sum(rx.statistics()[5:]) == 1
        call.close()
        assert sum(rx.statistics()[5:]) == 0

    asyncio.run(main())


class Thing:
    """What a weak reference can be taken of."""


@pytest.mark.parametrize("waits", [False, True], ids=["ready", "waits"])
def test_an_item_that_was_received_is_not_kept(run: Run, waits: bool) -> None:
    async def main() -> None:
        tx, rx = channel(1)
        for _ in range(3):  # the call, and what it ends by, are used again
            thing = Thing()
            seen = weakref.ref(thing)
            if waits:
                asyncio.get_running_loop().call_soon(tx.send_nowait, thing)
                del thing
                got = await rx.recv()
            else:
                await tx.send(thing)
                del thing
                got = await rx.recv()
            assert got is seen()
            del got
            await asyncio.sleep(0)  # the callback has gone too
            gc.collect()
            assert seen() is None
        tx.close()
        rx.close()

    run(main())


def test_a_stop_that_somebody_holds_stays_as_it_is(run: Run) -> None:
    async def main() -> None:
        tx, rx = channel(4)
        stops = []
        for item in ("a", ("b", 1), "c"):
            await tx.send(item)
            call = rx.recv()
            with pytest.raises(StopIteration) as caught:
                call.__await__().__next__()
            stops.append(caught.value)
            del call, caught
            await tx.send(None)
            assert await rx.recv() is None
        assert [stop.value for stop in stops] == ["a", ("b", 1), "c"]
        tx.close()
        rx.close()

    run(main())
