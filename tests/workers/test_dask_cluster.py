"""Workers that are Dask's: a cluster of others', its scheduler and its workers in processes of their own."""

import asyncio
import multiprocessing.resource_tracker
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop.workers import Restart, Worker, WorkerCrashed, WorkerError, Workers, WorkersFailed
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.clusters import ROOT, cluster_of
from tests.workers.conftest import needs_dask

pytestmark = needs_dask

Told = tuple[str, Callable[[str], Awaitable[None]]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    multiprocessing.resource_tracker.ensure_running()
    with cluster_of(2, tmp_path_factory.mktemp("dask")) as address:
        yield address


def on(address: str, n: int | None = None, **options: Any) -> Workers:
    return Workers(n, "dask", address=address, **options)


async def no_thread_but_its_own(worker: Worker) -> None:
    """Wait until no other pool has a thread where this worker is."""
    async with asyncio.timeout(20):
        while await worker.run(report_threads) != [f"pinloop-worker-{worker.index}"]:
            await asyncio.sleep(0.01)


def test_all_workers_of_the_cluster_are_used(run: Run, address: str) -> None:
    async def main() -> None:
        async with on(address, 2):
            pass  # so that both are there
        async with on(address) as pool:
            assert len(pool) == 2
            assert [worker.cpus for worker in pool] == [None, None]
            assert len(set(await asyncio.gather(*(worker.run(jobs.pid) for worker in pool)))) == 2
            squares = [x async for x in pool.map(jobs.square_slowly, range(200), ordered=False)]
            assert sorted(squares) == [x * x for x in range(200)]

    run(main())


def test_one_is_killed_midway(run: Run, address: str, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with on(address, 2, restart=Restart(100)) as pool:
            pid = pool.for_key("a key").pid
            call = pool.for_key("a key").submit(jobs.touch_and_wait, path)
            results = pool.map(partial(jobs.crash_once, path + "2"), range(50), idempotent=True)
            assert await results == list(range(50))  # one of them ended its process
            await wait_for("running")
            victim = pool.for_key("a key").pid
            if victim == pid and victim is not None:
                os.kill(victim, signal.SIGKILL)
            with pytest.raises(
                WorkerCrashed, match=r"\(tcp://127.*, pid \d+\) was lost while .*touch_and_wait"
            ):
                await call
            assert await pool.for_key("a key").run(jobs.pid) != pid

    run(main())


def report_threads() -> list[str]:
    import threading

    return sorted(one.name for one in threading.enumerate() if one.name.startswith("pinloop-worker"))


def test_nothing_is_left_in_a_dask_worker(run: Run, address: str, told: Told) -> None:
    path, wait_for = told
    rounds = 3

    async def fail_in_a_pool(watcher: Workers) -> None:
        Path(path).write_text("")
        with pytest.raises(ZeroDivisionError):
            async with on(
                address, 2, setup=jobs.open_plainly, teardown=partial(jobs.mark_close, path)
            ) as pool:
                assert [len(await worker.run(report_threads)) for worker in watcher] == [2, 2]
                call = pool[0].submit(jobs.touch_and_wait, path)
                await wait_for("running")
                raise ZeroDivisionError
        assert call.cancelled()
        await wait_for("cancelled\nclosed plainly")
        for worker in watcher:
            await no_thread_but_its_own(worker)

    async def main() -> None:
        async with on(address, 2) as watcher:
            await fail_in_a_pool(watcher)
            files = [len(await worker.run(jobs.open_files)) for worker in watcher]
            for _ in range(rounds):
                await fail_in_a_pool(watcher)
            for worker, before in zip(watcher, files, strict=True):
                async with asyncio.timeout(20):  # fewer may be new: Dask keeps connections of its own
                    while len(await worker.run(jobs.open_files)) >= before + rounds:
                        await asyncio.sleep(0.01)

    run(main())


PROGRAM = """
import asyncio, sys
import pinloop
from pinloop import Workers
from tests.workers import jobs
from tests.workers.clusters import ROOT, cluster_of

async def main():
    async with Workers(1, "dask", address=sys.argv[1]) as pool:
        await pool.run(jobs.touch_and_wait, sys.argv[2])

pinloop.run(main())
"""


def test_when_the_program_is_killed_its_calls_are_cancelled(run: Run, address: str, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, address, path], cwd=ROOT)
        try:
            await wait_for("running")
        finally:
            program.kill()
            program.wait()
        await wait_for("cancelled")

    run(main())


def shift_clocks(seconds: float) -> None:
    """As if this process were on another machine, whose clock began to count at another time."""
    from pinloop.workers import callee, comm

    callee.monotonic = comm.monotonic = lambda: time.monotonic() + seconds  # type: ignore[assignment]


@pytest.mark.parametrize("seconds", [1e6, -1e6])
def test_deadlines_are_right_on_another_machine(run: Run, address: str, seconds: float) -> None:
    async def main() -> None:
        async with on(address, 2) as pool:
            await pool[0].run(shift_clocks, seconds)
            try:
                async with pinloop.fail_after(30), pinloop.scope():
                    left = await pool[0].run(jobs.remaining)
                assert left is not None and 25 < left < 31
                with pytest.raises(TimeoutError):
                    async with pinloop.fail_after(0.1):
                        await pool[0].run(jobs.pause, 60)
            finally:
                await pool[0].run(shift_clocks, 0)

    run(main())


def test_what_is_sent_is_bounded_while_a_worker_is_busy(run: Run, address: str, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with on(address, 1) as pool:
            busy = pool.submit(jobs.wait_for_file, path, path + ".go")
            await wait_for("running")
            block = os.urandom(200_000)
            calls = [pool.submit(jobs.echo, block) for _ in range(50)]
            link = pool._slots[0].life.link  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            assert link.congested
            assert link.posted < 3_000_000
            jobs.report(path + ".go", "go")
            for call in asyncio.as_completed(calls):
                assert await call == block
            assert not link.congested
            await busy

    run(main())


def test_one_that_blocks_is_given_up(run: Run, address: str, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with on(address, 1, grace=0.1) as pool:
                call = pool.submit(jobs.wait_for_file, path, path + ".go")
                await wait_for("running")
                raise ZeroDivisionError
        with pytest.raises(WorkerCrashed, match="did not end its calls in time"):
            await call
        jobs.report(path + ".go", "go")
        async with on(address, 2) as pool:
            for worker in pool:
                await no_thread_but_its_own(worker)

    run(main())


def test_one_that_is_stopped_is_given_up_for_another(run: Run, address: str) -> None:
    """Its call is cancelled by nobody, and ends all the same."""

    async def main() -> None:
        async with on(address, 1, heartbeat=0.5) as pool:
            pid = await pool.run(jobs.pid)
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(
                    WorkerCrashed, match=r"did not answer for 0\.5 s and was given up while .*pid"
                ):
                    await pool.run(jobs.pid)
                assert await pool.run(jobs.pid) != pid
            finally:
                os.kill(pid, signal.SIGCONT)

    run(main())


def test_more_workers_than_there_are(run: Run, address: str) -> None:
    async def main() -> None:
        with pytest.raises(
            WorkerError, match=r"no Dask cluster with 3 workers was found within 1\.5 s at tcp://"
        ):
            async with on(address, 3, start_timeout=1.5):
                pass

    run(main())


def test_no_scheduler(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(WorkerError, match=r"127\.0\.0\.1:1"):
            async with on("tcp://127.0.0.1:1", start_timeout=0.5):
                pass

    run(main())


def test_another_version_is_refused(run: Run, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pinloop.workers import dask_worker

    monkeypatch.setattr(dask_worker, "kind", lambda: ["99.0", [3, 11], "little"])

    async def main() -> None:
        with pytest.raises(WorkerError, match=r"for pinloop, Python and byte order, and the pool \['99\.0'"):
            async with on(address, 1):
                pass

    run(main())


def test_cancelled_while_it_starts(run: Run, address: str) -> None:
    async def main() -> None:
        for delay in (0, 0.01, 0.05, 0.1):

            async def use() -> None:
                async with on(address, 2, setup=jobs.setup_hangs):
                    raise AssertionError("it cannot be up")

            user = asyncio.create_task(use())
            await asyncio.sleep(delay)
            user.cancel()
            await asyncio.wait([user])
            assert user.cancelled()

    run(main())


def test_when_no_worker_is_left_the_pool_fails(run: Run, tmp_path: Path) -> None:
    async def main(address: str) -> None:
        with pytest.raises(WorkersFailed, match="no Dask worker was free for worker 0"):
            async with on(address, 1, start_timeout=10) as pool:
                pid = await pool.run(jobs.pid)
                pool._backend._timeout = 0.5  # type: ignore[attr-defined]
                os.kill(pid, signal.SIGKILL)
                await pool.run(jobs.pid, idempotent=True)

    with cluster_of(1, tmp_path, "--no-nanny") as address:
        run(main(address))
