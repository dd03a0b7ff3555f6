"""Supervision: workers that hang, swell, outlive their parent; many calls while workers are killed."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop.workers import Restart, Unpicklable, WorkerCrashed, Workers
from pinloop.workers.supervise import Restarts
from tests.conftest import Run, open_fds
from tests.workers import jobs
from tests.workers.conftest import Use, pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

PROC = os.path.isdir("/proc/self/fd")

pytestmark = pytest.mark.usefixtures("no_process_left")

# ---------------------------------------------------------------------------------------- the limit --


def test_the_limit_counts_restarts_in_a_window() -> None:
    restarts = Restarts(Restart(max=2, within=10))
    assert [restarts.allows(t) for t in (0, 1)] == [True, True]
    assert not restarts.allows(9.9)
    assert not restarts.allows(10.5)
    assert restarts.allows(20)
    assert not Restarts(Restart(max=0)).allows(0)


# -------------------------------------------------------------------------------------- heartbeat --


def test_a_worker_whose_loop_is_blocked_is_killed(run: Run, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(1, heartbeat=0.4) as pool:
            beside = pool.submit(jobs.pause, 100)
            blocked = pool.submit(jobs.block, path)
            await wait_for("running")
            for call in (blocked, beside):
                with pytest.raises(WorkerCrashed, match=r"worker 0 did not answer for 0\.4 s and was killed"):
                    await call
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())


def test_a_stopped_worker_is_killed(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, heartbeat=0.4) as pool:
            with pytest.raises(WorkerCrashed, match="did not answer"):
                await pool.run(jobs.stop_yourself)
            os.kill(await pool.run(jobs.pid), signal.SIGSTOP)  # nothing is under way there
            with pytest.raises(WorkerCrashed, match="did not answer"):
                await pool.run(jobs.pid)

    run(main())


def test_waiting_is_not_hanging(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, heartbeat=0.5) as pool:
            assert await pool.run(jobs.pause, 1.2) == 1.2
            assert pool[0].restarts == 0

    run(main())


def test_it_is_not_the_workers_fault_if_this_loop_is_blocked(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, heartbeat=0.5) as pool:
            for _ in range(2):
                call = pool.submit(jobs.pause, 0.01)
                await asyncio.sleep(0.15)
                time.sleep(1.2)
                await call
            await asyncio.sleep(0.7)
            assert pool[0].restarts == 0

    run(main())


def test_many_calls_that_compute_are_not_hanging(run: Run) -> None:
    """They come in one message, and take longer than a heartbeat; each that has ended is told."""

    async def main() -> None:
        async with pool_of(1, heartbeat=0.5) as pool:
            first = pool.submit(jobs.spend, 0.02)
            calls = [pool.submit(jobs.spend_later, 0.02) for _ in range(50)]
            calls += [pool.submit(jobs.spend, 0.02) for _ in range(50)]
            late = pool.submit(jobs.spend, 0.02)
            await first
            late.cancel()
            await asyncio.wait([late])
            assert late.cancelled() and not calls[-1].done()
            assert await pool.run(jobs.add, 1, 2) == 3
            await asyncio.gather(*calls)
            assert pool[0].restarts == 0

    run(main())


def test_a_teardown_may_take_longer_than_a_heartbeat(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, heartbeat=0.2, teardown=partial(jobs.spend, 0.6)) as pool:
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())


# ----------------------------------------------------------------------------------------- memory --


@pytest.mark.skipif(not PROC, reason="this platform does not tell how much memory a process has")
def test_a_worker_that_swells_is_killed(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, memory_limit=300 << 20) as pool:
            assert await pool.run(jobs.swell, 1 << 20) == 1 << 20
            waiting = pool.submit(jobs.pause, 100)
            with contextlib.suppress(WorkerCrashed):  # it may be found out before it has answered
                await pool.run(jobs.swell, 400 << 20)
            with pytest.raises(WorkerCrashed, match=rf"used \d+ bytes of memory, more than {300 << 20}"):
                await waiting

    run(main())


# --------------------------------------------------------------------------------------- the parent --


PARENT = """
import asyncio, os, sys, time
import pinloop
sys.path.insert(0, {root!r})
from tests.workers import fault_jobs, jobs

def forked():
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    return child

async def main():
    async with pinloop.Workers(2, "process", None, grace={grace}) as pool:
        calls = [pool[0].submit(jobs.pause, 1000), pool[1].submit({job}, *{args!r})]
        print(*[worker.pid for worker in pool], flush=True)
        {then}
        await asyncio.wait(calls)

if __name__ == "__main__":
    pinloop.run(main())
"""


def gone(pid: int) -> bool:
    """Whether the process is no more, or nothing but a zombie whose parent is slow."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def spawn_parent(
    tmp_path: Path, job: str, *args: Any, grace: float = 20, then: str = "pass"
) -> tuple[subprocess.Popen[str], list[int]]:
    script = tmp_path / "parent.py"
    root = str(Path(__file__).parents[2])
    script.write_text(PARENT.format(root=root, job=job, args=args, grace=grace, then=then))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    parent, pids = spawn_parent(tmp_path, "jobs.pause", 1000)
    with parent:
        assert len(pids) == 2
        parent.kill()
        parent.wait()
        wait_until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.parametrize("job", ["jobs.block", "fault_jobs.hold_the_gil"])
def test_one_that_runs_no_code_of_ours_ends_with_its_parent_too(tmp_path: Path, job: str) -> None:
    path = tmp_path / "told"
    parent, pids = spawn_parent(tmp_path, job, str(path), grace=0.2)
    with parent:
        wait_until(path.exists)
        parent.kill()
        parent.wait()
        wait_until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell a process of its parent's end")
def test_one_that_is_stopped_ends_with_its_parent_too(tmp_path: Path) -> None:
    parent, pids = spawn_parent(tmp_path, "jobs.stop_yourself", grace=0.2)
    with parent:
        wait_until(lambda: ") T " in Path(f"/proc/{pids[1]}/stat").read_text())
        parent.kill()
        parent.wait()
        wait_until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="a process is told of its parent's end by its pidfd"
)
def test_a_child_that_the_parent_forked_does_not_keep_them(tmp_path: Path) -> None:
    """It has the parent's ends of their links, and lives on."""
    parent, pids = spawn_parent(tmp_path, "jobs.pause", 1000, grace=0.2, then="print(forked(), flush=True)")
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            wait_until(lambda: all(gone(pid) for pid in pids))
            assert not gone(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_signal_to_the_whole_group_is_the_parents_affair(tmp_path: Path) -> None:
    parent, pids = spawn_parent(tmp_path, "jobs.pause", 1000)
    with parent:
        for pid in pids:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(pid, number)
        parent.send_signal(signal.SIGINT)  # asyncio's runner cancels the main task, and all ends in order
        assert parent.wait(20) != 0
        wait_until(lambda: all(gone(pid) for pid in pids))


# --------------------------------------------------------------------------------------- left behind --


@pytest.mark.skipif(not PROC, reason="the files of a process are not to be seen here")
def test_workers_have_no_files_but_their_own(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with open(tmp_path / "ours", "w"):
            async with pool_of(2) as pool:
                for worker in pool:
                    files = await worker.run(jobs.open_files)
                    assert not [file for file in files if "ours" in file]
                    assert sum("socket:" in file for file in files) <= 4
                    assert "socket:" not in await worker.run(jobs.files_of_a_child)

    run(main())


def test_nothing_is_left_of_pools_that_crash(run: Run) -> None:
    async def main() -> None:
        before = open_fds()
        for _ in range(2):
            async with pool_of(2) as pool:
                tx, rx = await pool.channel(0, 2)
                call = pool[0].submit(jobs.consume, rx)
                await tx.send(bytes(1 << 20))
                await asyncio.gather(pool[0].run(jobs.kill_yourself), call, return_exceptions=True)
                await pool[0].run(jobs.echo, bytes(1 << 20))
        assert open_fds() == before
        assert not [name for name in os.listdir("/dev/shm") if "pinloop" in name] if PROC else True

    run(main())


# ------------------------------------------------------------------------------------------ in bulk --


@pytest.mark.parametrize("idempotent", [False, True])
def test_each_call_ends_once_while_workers_are_killed(run: Run, idempotent: bool) -> None:
    """10,000 calls in flight; workers end themselves, and are killed from outside at any time."""
    chance = random.Random(7)

    async def main() -> None:
        ended = [0] * 10_000
        crashed = 0
        named: set[str | None] = set()

        async def call(pool: Workers, x: int) -> None:
            nonlocal crashed
            try:
                assert (
                    await pool.run(jobs.sometimes, x, 0 if idempotent else 2500, idempotent=idempotent) == x
                )
            except WorkerCrashed as error:
                named.add(error.call)
                crashed += 1
            ended[x] += 1

        async def kill(pool: Workers) -> None:
            for _ in range(4):
                await asyncio.sleep(chance.uniform(0, 0.15))
                pid = pool[chance.randrange(2)].pid
                if pid is not None:
                    with contextlib.suppress(ProcessLookupError):  # it has just ended itself
                        os.kill(pid, signal.SIGKILL)
                    while any(worker.pid == pid for worker in pool):
                        await asyncio.sleep(0.001)

        async with pool_of(2, restart=Restart(max=100, within=1000)) as pool, asyncio.timeout(50):
            async with asyncio.TaskGroup() as group:
                group.create_task(kill(pool))
                for x in range(10_000):
                    group.create_task(call(pool, x))
            assert ended == [1] * 10_000
            assert named <= {"tests.workers.jobs.sometimes"}
            assert sum(worker.restarts for worker in pool) > 0
            assert (crashed == 0) == idempotent
            found = await pool.metrics()
            assert (found.done, found.in_flight, found.waiting) == (10_000 - crashed, 0, 0)
            assert found.failed >= crashed
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())


def test_channels_while_workers_are_killed(run: Run) -> None:
    """A sender or a receiver of each channel dies at some time; nobody waits for ever."""
    chance = random.Random(3)

    async def main() -> None:
        async def exchange(pool: Workers) -> None:
            tx, theirs = await pool.channel(0, 8)
            their_tx, rx = await pool.channel(0, 8)
            call = pool[0].submit(jobs.answer, theirs, their_tx)
            try:
                for i in range(10**6):
                    await tx.send(i)
                    assert await rx.recv() == i + 1
            except (pinloop.BrokenChannel, Unpicklable):  # Unpicklable: it was not sent before the end
                pass
            await asyncio.wait([call])
            tx.close()
            rx.close()
            assert isinstance(call.exception(), Exception)

        async with pool_of(1, restart=Restart(max=100, within=1000)) as pool, asyncio.timeout(40):
            for _ in range(3):
                async with asyncio.TaskGroup() as group:
                    for _ in range(5):
                        group.create_task(exchange(pool))
                    await asyncio.sleep(chance.uniform(0, 0.1))
                    while (pid := pool[0].pid) is None:
                        await asyncio.sleep(0.001)
                    os.kill(pid, signal.SIGKILL)

    run(main())


def test_workers_that_are_up_know_their_calls(use: Use) -> None:
    async def test(pool: Workers) -> None:
        call = pool[0].submit(jobs.pause, 0.02)
        await asyncio.sleep(0)
        assert (pool[0].calls, pool[1].calls) == (1, 0)
        await call

    use(test)
