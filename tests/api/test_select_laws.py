"""The laws of select, under random orders: an arm's effect happens if and only if select returns that arm."""

import asyncio
import sys

from hypothesis import given
from hypothesis import strategies as st

from pinloop import BrokenChannel, EndOfChannel, after, channel, select
from tests.api.laws import examples, law


@examples(40)
@given(
    capacities=st.lists(st.integers(0, 2), min_size=2, max_size=3),
    cancelled=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=6),
    biased=st.booleans(),
)
@law(seeds=8, times=1)
async def test_an_effect_happens_if_and_only_if_its_arm_is_returned(
    capacities: list[int], cancelled: list[tuple[int, int]], biased: bool
) -> None:
    ends = [channel(capacity) for capacity in capacities]
    loop = asyncio.get_running_loop()
    sent: list[str] = []
    received: list[str] = []

    async def sender(name: int) -> None:
        for i in range(4):
            item = f"{name}.{i}"
            items = [f"{item}.{j}" for j in range(len(ends))]
            arms = [tx.sending(one) for (tx, _), one in zip(ends, items, strict=True)]
            chosen, value = await select(*arms, None, after(3), biased=biased)
            assert value is None
            if chosen < len(items):
                sent.append(items[chosen])

    async def receiver() -> None:
        while True:
            chosen, value = await select(*(rx for _, rx in ends), biased=biased)
            assert value.endswith(f".{chosen}")
            received.append(value)
            await asyncio.sleep(0.5)

    tasks = [asyncio.ensure_future(sender(name)) for name in range(4)]
    tasks += [asyncio.ensure_future(receiver()) for _ in range(2)]
    for when, which in cancelled:
        loop.call_later(when, tasks[which].cancel)
    await asyncio.sleep(30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    left = [item for _, rx in ends for item in await drained(rx)]
    got = received + left
    assert len(got) == len(set(got))
    assert set(sent) <= set(got)
    if sys.version_info >= (3, 13):
        assert set(sent) == set(got)
    for tx, _ in ends:
        assert tx.statistics()[5:] == (0, 0)


async def drained(rx: "object") -> list[str]:
    items = []
    while rx.statistics().buffered:  # type: ignore[attr-defined]
        items.append(rx.recv_nowait())  # type: ignore[attr-defined]
    return items


@law(seeds=60)
async def test_sends_race_select_cancellation_and_close() -> None:
    ends = [channel(capacity) for capacity in (0, 1, 4)]
    received: list[int] = []
    completed: set[int] = set()

    async def send(i: int) -> None:
        if i % 2:
            await ends[i % 3][0].send(i)
        else:
            await select(*(tx.sending(i) for tx, _ in ends))
        completed.add(i)

    async def receive(k: int) -> None:
        while True:
            try:
                if k == 0:
                    received.append(await ends[0][1].recv())
                else:
                    received.append((await select(*(rx for _, rx in ends[: k + 1])))[1])
            except asyncio.CancelledError:
                continue
            except (EndOfChannel, BrokenChannel):
                return

    senders = [asyncio.ensure_future(send(i)) for i in range(300)]
    receivers = [asyncio.ensure_future(receive(k)) for k in (0, 1, 2, 2)]
    await asyncio.sleep(1)  # whoever is cancelled before its first step does not see it
    for i in range(100):
        await asyncio.sleep(0)
        senders[i * 7 % 300].cancel()
        receivers[i % 4].cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    for tx, _ in ends:
        tx.close()
    await asyncio.gather(*receivers)
    for _, rx in ends:
        received.extend(await drained(rx))  # type: ignore[arg-type]
    assert len(received) == len(set(received))
    assert completed <= set(received)
    if sys.version_info >= (3, 13):
        assert completed == set(received)
