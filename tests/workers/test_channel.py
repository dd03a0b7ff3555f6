"""Channels between the pool and a worker keep the laws of local ones."""

import asyncio
import math
import pickle
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import pinloop
from pinloop import BrokenChannel, ClosedChannel, EndOfChannel, WouldBlock
from pinloop.workers import Unpicklable, WorkerCrashed, Workers, shared
from pinloop.workers.shared import KEPT_EACH, KEPT_MOST, SHARE, anonymous_file
from tests.conftest import Run
from tests.workers import fault_jobs, jobs
from tests.workers.conftest import Use, pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

CAPACITIES = [0, 1, 2, 3, 64, math.inf]


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_to_a_worker(use: Use, capacity: float) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, capacity)
        got = pool[0].submit(jobs.consume, rx)
        async with tx:
            for i in range(500):
                await tx.send(i)
        assert await got == list(range(500))
        assert rx.closed

    use(test)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_from_a_worker(use: Use, capacity: float) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool[1].channel(capacity)
        sent = pool[1].submit(jobs.produce, tx, range(500))
        assert [i async for i in rx] == list(range(500))
        assert await sent == "produced"
        with pytest.raises(EndOfChannel):
            await rx.recv()

    use(test)


@pytest.mark.parametrize("capacity", [0, 1, 16])
def test_there_and_back(use: Use, capacity: int) -> None:
    async def test(pool: Workers) -> None:
        tx, theirs = await pool.channel(0, capacity)
        their_tx, rx = await pool.channel(0, capacity)
        call = pool[0].submit(jobs.answer, theirs, their_tx)
        for i in range(50):
            await tx.send(i)
            assert await rx.recv() == i + 1
        tx.close()
        await call
        with pytest.raises(EndOfChannel):
            await rx.recv()

    use(test)


@pytest.mark.parametrize("capacity", [0, 1, 2, 5, 10])
def test_no_more_than_its_capacity_is_sent_ahead(use: Use, told: Told, capacity: int) -> None:
    path, wait_for = told

    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, capacity)
        call = pool[0].submit(jobs.hold, rx, path)
        await wait_for("holding")
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while True:
                await tx.send(sent)
                sent += 1

        filling = asyncio.ensure_future(fill())
        while sent < capacity:
            await asyncio.sleep(0.001)
        await pool[0].run(jobs.pid)  # all that could come back from there has
        await asyncio.sleep(0.01)
        assert sent == capacity
        with pytest.raises(WouldBlock):
            tx.send_nowait("more")
        filling.cancel()
        await asyncio.wait([filling])
        tx.close()
        call.cancel()
        await asyncio.wait([call])

    use(test)


@pytest.mark.parametrize("capacity", [2, 8])
def test_its_capacity_lasts(use: Use, told: Told, capacity: int) -> None:
    """Credits that come while a sender waits for its next item are not lost."""
    path, wait_for = told

    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, capacity)
        call = pool[0].submit(fault_jobs.recv_then_hold, rx, 40, path)
        for i in range(40):
            await tx.send(i)
            if i % 3 == 0:
                await pool[0].run(jobs.pid)
        await wait_for("holding")
        async with asyncio.timeout(10):
            for i in range(capacity):
                await tx.send(i)
        tx.close()
        call.cancel()
        await asyncio.wait([call])

    use(test)


def test_what_was_sent_before_the_end_was_shipped(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 8)
        for i in range(4):
            tx.send_nowait(i)
        tx.close()
        assert await pool[0].run(jobs.consume, rx) == [0, 1, 2, 3]

    use(test)


def test_clones_and_several_senders(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 4)
        call = pool[0].submit(jobs.consume, rx)

        async def send(end: pinloop.Sender[Any], base: int) -> None:
            async with end:
                for i in range(100):
                    await end.send(base + i)

        async with asyncio.TaskGroup() as group:
            for base in (0, 1000, 2000):
                group.create_task(send(tx.clone(), base))
            tx.close()
        got = await call
        assert sorted(got) == sorted(base + i for base in (0, 1000, 2000) for i in range(100))
        for base in (0, 1000, 2000):
            assert [i for i in got if base <= i < base + 100] == list(range(base, base + 100))

    use(test)


def test_select_on_both_sides(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx1, rx1 = await pool.channel(0, 2)
        tx2, rx2 = await pool.channel(0, 2)
        call = pool[0].submit(jobs.select_from, rx1, rx2)
        for i in range(4):
            await pinloop.select((tx1, tx2)[i % 2].sending(i))
        assert sorted(await call) == [(0, 0), (0, 2), (1, 1), (1, 3)]
        back, rx = await pool.channel(0, 2)
        done = pool[0].submit(jobs.produce, back, "ab")
        assert await pinloop.select(rx, pinloop.after(20)) == (0, "a")
        assert await pinloop.select(rx, pinloop.after(20)) == (0, "b")
        await done
        for end in (tx1, tx2, rx):
            end.close()

    use(test)


def test_senders_learn_that_the_receiver_is_closed(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 4)
        call = pool[0].submit(jobs.consume, rx, 3)
        with pytest.raises(BrokenChannel, match="all receivers are closed"):
            for i in range(10**6):
                await tx.send(i)
        assert await call == [0, 1, 2]
        back, rx = await pool.channel(0, 4)
        sending = pool[0].submit(jobs.send_until_broken, back)
        assert [await rx.recv() for _ in range(10)] == list(range(10))
        rx.close()
        sent, why = await sending
        assert sent >= 10 and why == "all receivers are closed"

    use(test)


def test_an_idle_sender_learns_it_too(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 1)
        waiting = asyncio.ensure_future(tx.reserve())
        await pool[0].run(jobs.ignore_second, rx, None)
        (await waiting).release()
        while tx.statistics().receivers:
            await asyncio.sleep(0.001)
        with pytest.raises(BrokenChannel):
            tx.send_nowait(1)

    use(test)


def test_a_cancelled_receive_takes_nothing(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(1, 2)
        call = pool[1].submit(jobs.produce, tx, range(200))
        got = []
        while True:
            waiting = asyncio.ensure_future(rx.recv())
            await asyncio.sleep(0)
            waiting.cancel()
            try:
                got.append(await waiting)
            except asyncio.CancelledError:
                try:
                    got.append(await rx.recv())
                except EndOfChannel:
                    break
            except EndOfChannel:
                break
        assert got == list(range(200))
        await call

    use(test)


def test_large_items(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 4)
        their_tx, back = await pool.channel(0, 4)
        call = pool[0].submit(jobs.consume, rx)
        blocks = [bytes([i]) * size for i, size in enumerate((10, 200_000, 1_000_000, 70_000))]
        for block in blocks:
            await tx.send(block)
        tx.close()
        assert await call == blocks
        sending = pool[0].submit(jobs.produce, their_tx, blocks)
        assert [block async for block in back] == blocks
        await sending

    use(test)


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize("size", [SHARE, 1 << 20, KEPT_MOST + 1])
def test_large_items_both_ways_at_once(use: Use, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Neither side waits for the other for ever, and one that is ahead waits for memory to come back."""
    made: list[int] = []

    def counted(size: int) -> int:
        made.append(size)
        return anonymous_file(size)

    monkeypatch.setattr(shared, "anonymous_file", counted)

    async def test(pool: Workers) -> None:
        tx, theirs = await pool.channel(0, math.inf)
        their_tx, rx = await pool.channel(0, math.inf)
        call = pool[0].submit(jobs.send_back, theirs, their_tx)
        blocks = [bytes([i]) * size for i in range(3 * KEPT_EACH)]
        for block in blocks:
            await tx.send(block)
        tx.close()
        assert [block async for block in rx] == blocks
        await call

    use(test)
    assert len(made) <= (KEPT_EACH if size <= KEPT_MOST else 3 * KEPT_EACH)


# ---------------------------------------------------------------------------------------- shipping --


@pytest.mark.usefixtures("pickling")
def test_only_the_right_ends_travel_and_once(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 1)
        with pytest.raises(Unpicklable, match=r"cannot be sent: only an end that pool\.channel\(\) gave"):
            await pool[0].run(jobs.consume, rx.clone())
        with pytest.raises(Unpicklable, match="and once"):
            await pool[0].run(jobs.ignore_second, rx, rx)
        with pytest.raises(Unpicklable, match="and once"):
            await pool[0].run(jobs.ignore_second, rx, tx)
        with pytest.raises(
            Unpicklable, match=r"Receiver.*(cannot be sent|cannot pickle)|cannot pickle.*Receiver"
        ):
            await pool[1].run(jobs.consume, rx)
        # A call that cannot be sent takes nothing away.
        with pytest.raises(Unpicklable, match=r"argument 2 .*lock"):
            await pool[0].run(jobs.ignore_second, rx, threading.Lock())
        assert not rx.closed
        call = pool[0].submit(jobs.consume, rx)
        await asyncio.sleep(0)
        await tx.send("x")
        with pytest.raises(Unpicklable):
            await pool[0].run(jobs.consume, rx)
        with pytest.raises(ClosedChannel):
            await rx.recv()
        tx.close()
        assert await call == ["x"]
        with pytest.raises(TypeError):
            pickle.dumps(tx)

    use(test)


def test_bad_arguments(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(ValueError, match="capacity"):
            await pool.channel(0, -1)
        with pytest.raises(TypeError):
            await pool.channel(0, "1")  # type: ignore[arg-type]
        with pytest.raises(IndexError):
            await pool.channel(2, 1)

    use(test)


# ------------------------------------------------------------------------------------------ faults --


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize("capacity", [8, math.inf])
def test_an_item_that_cannot_be_pickled_is_refused(use: Use, capacity: float) -> None:
    """By the `send` of it, in all its forms; the channel stays whole."""

    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, capacity)
        call = pool[0].submit(jobs.consume, rx)
        bad = {"deep": [threading.Lock()]}
        refused = r"an item of a channel between a pool and its worker: cannot pickle '_thread\.lock'"
        await tx.send(["good"])
        with pytest.raises(Unpicklable, match=refused):
            await tx.send(bad)
        with pytest.raises(Unpicklable, match=refused):
            tx.send_nowait(bad)
        with await tx.reserve() as permit:
            with pytest.raises(Unpicklable, match=refused):
                permit.send(bad)
            permit.send(("by", "permit"))
        with pytest.raises(Unpicklable, match=refused):
            await pinloop.select(tx.sending(bad))
        await pinloop.select(tx.sending(bytearray(b"chosen")))
        await tx.send("last")
        tx.close()
        assert await call == [["good"], ("by", "permit"), bytearray(b"chosen"), "last"]

    use(test)


@pytest.mark.usefixtures("pickling")
def test_so_it_is_by_a_sender_in_a_worker(use: Use) -> None:
    async def test(pool: Workers) -> None:
        tx, rx = await pool.channel(0, 4)
        call = pool[0].submit(fault_jobs.send_bad_ones, tx)
        assert [item async for item in rx] == [1, [2]]
        assert await call == ["Unpicklable", "Unpicklable"]

    use(test)


def test_one_that_was_changed_after_it_was_sent_breaks_the_channel(
    run: Run, loop_errors: list[Any], told: Told
) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            tx, rx = await pool.channel(0, 8)
            call = pool[0].submit(jobs.recv_until_broken, rx)
            await tx.send(1)
            item: list[Any] = []
            await tx.send(item)
            item.append(threading.Lock())
            got, why = await call
            assert got == [1] and why.startswith("BrokenChannel: an item could not be sent: cannot pickle")
            with pytest.raises(BrokenChannel, match="an item could not be sent"):
                await tx.send(2)
            assert await pool.run(jobs.add, 1, 1) == 2

    run(main())
    assert [type(context["exception"]) for context in loop_errors] == [Unpicklable]
    loop_errors.clear()


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_a_channel_whose_worker_ends_before_it_has_an_end_is_broken(run: Run, backend: str) -> None:
    async def main() -> None:
        async with pool_of(1, backend=backend) as pool:
            tx, rx = await pool.channel(0, 1)
            closed, _ = await pool.channel(0, 1)
            closed.close()
            receiving = asyncio.ensure_future(rx.recv())
            await asyncio.sleep(0)
            for slot in pool._slots:
                assert slot.life is not None
                slot.life.kill()
            with pytest.raises(BrokenChannel):
                await receiving
            with pytest.raises(BrokenChannel):
                await tx.send(1)
            if backend == "process":
                with pytest.raises(Unpicklable, match=r"cannot be sent|cannot pickle"):
                    await pool.run(jobs.consume, rx)

    run(main())


def test_an_item_that_cannot_be_unpickled_breaks_it_too(run: Run, loop_errors: list[Any]) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            tx, rx = await pool.channel(0, 8)
            call = pool[0].submit(jobs.produce, tx, [])
            await call
            tx, rx = await pool.channel(0, 8)
            consumer = pool[0].submit(jobs.recv_until_broken, rx)
            await tx.send(jobs.Explosive())
            got, why = await consumer
            assert got == [] and "it went off" in why
            while tx.statistics().receivers:
                await asyncio.sleep(0.001)
            with pytest.raises(BrokenChannel, match="it went off"):
                await tx.send(1)

    run(main())


def test_a_worker_that_dies_breaks_its_channels(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            tx, theirs = await pool.channel(0, 4)
            their_tx, rx = await pool.channel(0, 4)
            _, unsent_rx = await pool.channel(0, 4)
            holding = pool[0].submit(asyncio.sleep, 100)
            consumer = pool[0].submit(jobs.recv_one, theirs)
            producer = pool[0].submit(jobs.produce_then, their_tx, range(3), jobs.kill_yourself)
            for i in range(3):
                assert await rx.recv() == i
            with pytest.raises(BrokenChannel, match="worker 0 was killed by SIGKILL"):
                await rx.recv()  # not the end: something may be missing
            with pytest.raises(BrokenChannel, match="worker 0 was killed by SIGKILL"):
                while True:
                    await tx.send(1)
            with pytest.raises(Unpicklable):
                await pool[0].run(jobs.consume, unsent_rx)
            for call in (holding, consumer, producer):
                with pytest.raises(WorkerCrashed):
                    await call
            # The next life has channels of its own.
            tx, theirs = await pool.channel(0, 4)
            tx.send_nowait("new")
            tx.close()
            assert await pool[0].run(jobs.consume, theirs) == ["new"]

    run(main())


def test_senders_that_wait_when_the_worker_dies(run: Run, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(1) as pool:
            tx, rx = await pool.channel(0, 2)
            call = pool[0].submit(jobs.hold, rx, path)
            await wait_for("holding")
            waiting = [asyncio.ensure_future(tx.send(i)) for i in range(20)]
            await asyncio.sleep(0.01)
            await asyncio.gather(pool[0].run(jobs.kill_yourself), call, return_exceptions=True)
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert [end for end in ends if end is not None and type(end) is not BrokenChannel] == []
            assert sum(end is None for end in ends) == 2

    run(main())


def test_channels_end_with_the_pool(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            tx, rx = await pool.channel(0, 2)
            their_tx, their_rx = await pool.channel(0, 2)
            call = pool[0].submit(jobs.answer, rx, their_tx)
            await tx.send(1)
            assert await their_rx.recv() == 2
            call.cancel()
        with pytest.raises(BrokenChannel):
            await tx.send(1)
        with pytest.raises((BrokenChannel, EndOfChannel)):
            await their_rx.recv()

    run(main())
