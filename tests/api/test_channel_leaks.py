"""What channels and select are made of is gone when they are: no call, no waiter, no end is left behind."""

import asyncio
import contextlib
import gc
from collections import Counter

import pytest

from pinloop import Event, after, channel, priority, select
from tests.api.channels import on_every_loop

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


@pytest.mark.parametrize("waits", ["recv", "send", "select"])
def test_a_task_dropped_while_it_waits_leaves_its_queue(waits: str) -> None:
    """By hand, as a task that is destroyed pending does it: the coroutine goes, and its call with it."""

    async def main() -> None:
        tx, rx = channel(0)
        call = {"recv": rx.recv, "send": lambda: tx.send(1), "select": lambda: select(rx)}[waits]()
        call.send(None)
        assert sum(rx.statistics()[5:]) == 1
        del call
        assert sum(rx.statistics()[5:]) == 0

    asyncio.run(main())
