"""pool.metrics(): what the pool counts is what happened, and no worker keeps it waiting."""

import asyncio
import math
import os
import pickle
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from pinloop.workers import PoolMetrics, WorkerCrashed, Workers, WorkersClosed
from pinloop.workers.counts import open_pools
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

pytestmark = pytest.mark.usefixtures("no_process_left")

both = pytest.mark.parametrize("backend", ["process", "thread"])


@both
def test_calls_by_how_they_ended(run: Run, told: Told, backend: str) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(2, backend=backend) as pool:
            for i in range(5):
                await pool[0].run(jobs.add, i, i)
            for _ in range(2):
                with pytest.raises(LookupError):
                    await pool[1].run(jobs.fail, "no")
            call = pool[1].submit(jobs.touch_and_wait, path)
            await wait_for("running")
            found = await pool.metrics()
            one, two = found.workers
            assert (one.index, one.pid, two.index, two.pid) == (0, pool[0].pid, 1, pool[1].pid)
            assert (one.in_flight, one.done, one.failed, one.cancelled) == (0, 5, 0, 0)
            assert (two.in_flight, two.done, two.failed, two.cancelled) == (1, 0, 2, 0)
            call.cancel()
            await asyncio.wait([call])
            found = await pool.metrics()
            assert (found.in_flight, found.done, found.failed, found.cancelled) == (0, 5, 2, 1)
            assert (found.restarts, found.waiting) == (0, 0)
            for worker in found.workers:
                assert worker.loop is not None and worker.loop.loops == 1 and worker.loop.turns > 0
            assert found.loop.loops == 2
            assert found.loop.tasks_made == sum(
                worker.loop.tasks_made for worker in found.workers if worker.loop
            )
            # To be asked is no call.
            again = await pool.metrics()
            assert (again.done, again.in_flight) == (5, 0)
            assert pickle.loads(pickle.dumps(again)) == again

    run(main())


def test_counts_outlast_a_restart(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert await pool.run(jobs.add, 1, 2) == 3
            beside = pool.submit(jobs.pause, 100)
            with pytest.raises(WorkerCrashed):
                await pool.run(jobs.kill_yourself)
            with pytest.raises(WorkerCrashed):
                await beside
            assert await pool.run(jobs.add, 1, 2) == 3
            found = await pool.metrics()
            assert (found.done, found.failed, found.cancelled, found.restarts) == (2, 2, 0, 1)

    run(main())


def test_calls_that_wait_for_a_worker(run: Run, told: Told, tmp_path: Path) -> None:
    path, _ = told
    may_start = tmp_path / "may start"

    async def main() -> None:
        may_start.touch()
        async with pool_of(1, setup=partial(jobs.wait_for_file, path, str(may_start))) as pool:
            may_start.unlink()
            assert pool[0].pid is not None
            os.kill(pool[0].pid, signal.SIGKILL)
            while pool[0].pid is not None:
                await asyncio.sleep(0.001)
            calls = [pool.submit(jobs.add, 1, i) for i in range(3)]
            await asyncio.sleep(0)
            found = await pool.metrics()
            (worker,) = found.workers
            assert (found.waiting, found.in_flight) == (3, 0)
            assert (worker.pid, worker.loop, worker.channels) == (None, None, 0)
            may_start.touch()
            assert await asyncio.gather(*calls) == [1, 2, 3]
            assert (await pool.metrics()).waiting == 0

    run(main())


def test_a_blocked_worker_does_not_keep_it_waiting(run: Run, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(2) as pool:
            call = pool[0].submit(jobs.block, path)
            await wait_for("running")
            found = await pool.metrics(timeout=0.2)
            blocked, idle = found.workers
            assert (blocked.loop, blocked.in_flight, blocked.pid) == (None, 1, pool[0].pid)
            assert idle.loop is not None and found.loop.loops == 1
            # One that ends meanwhile is not waited for.
            began = time.monotonic()
            asking = asyncio.ensure_future(pool.metrics(timeout=1000))
            await asyncio.sleep(0.01)
            assert blocked.pid is not None
            os.kill(blocked.pid, signal.SIGKILL)
            assert (await asking).workers[0].loop is None
            assert time.monotonic() - began < 100
            with pytest.raises(WorkerCrashed):
                await call
            # Cancelled, it leaves nothing behind.
            asking = asyncio.ensure_future(pool.metrics())
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            assert (await pool.metrics(timeout=20)).workers[1].loop is not None
            assert not any(slot._asked for slot in pool._slots)

    run(main())


@both
def test_channels_and_their_credits(run: Run, told: Told, backend: str) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(1, backend=backend) as pool:
            tx, theirs = await pool.channel(0, 8)
            their_tx, rx = await pool.channel(0, 6)
            calls = [pool[0].submit(jobs.hold, end, path) for end in (theirs, their_tx)]
            await wait_for("holding\nholding")
            (worker,) = (await pool.metrics()).workers
            assert (worker.channels, worker.credits, worker.granted, worker.unsent) == (2, 4, 3, 0)
            for i in range(6):
                await tx.send(i)
            await pool[0].run(jobs.add, 1, 1)
            (worker,) = (await pool.metrics()).workers
            assert (worker.channels, worker.credits, worker.granted, worker.unsent) == (2, 0, 3, 2)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            tx.close()
            rx.close()
            await pool[0].run(jobs.add, 1, 1)
            assert (await pool.metrics()).workers[0].channels == 0

    run(main())


def test_only_of_a_pool_that_is_open(run: Run) -> None:
    async def main() -> None:
        pool = Workers(1, "thread", None)
        with pytest.raises(WorkersClosed):
            await pool.metrics()
        assert pool not in open_pools()
        async with pool:
            assert pool in open_pools()
            for bad in (-1, math.nan):
                with pytest.raises(ValueError, match="timeout must be 0 seconds or more"):
                    await pool.metrics(bad)
        with pytest.raises(WorkersClosed):
            await pool.metrics()
        assert pool not in open_pools()

    run(main())


def test_the_sum_of_nothing() -> None:
    empty = PoolMetrics()
    assert (empty.in_flight, empty.done, empty.restarts, empty.loop.loops) == (0, 0, 0, 0)
