"""Workers that end: their calls fail, they are restarted, within limits."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pinloop.workers import Restart, WorkerCrashed, WorkersClosed, WorkersFailed
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

pytestmark = pytest.mark.usefixtures("no_process_left")

ENDS = [
    (jobs.kill_yourself, (), "was killed by SIGKILL"),
    (jobs.segfault, (), "was killed by SIGSEGV"),
    (jobs.exit_hard, (7,), "exited with code 7"),
    (jobs.exit_softly, (8,), "exited with code 8"),
]


def test_calls_fail_with_how_the_worker_ended(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, restart=Restart(max=len(ENDS))) as pool:
            for job, args, end in ENDS:
                beside = pool.submit(asyncio.sleep, 100)
                with pytest.raises(WorkerCrashed) as caught:
                    await pool.run(job, *args)
                assert (caught.value.worker, caught.value.exit) == (0, end)
                assert caught.value.call == f"tests.workers.jobs.{job.__name__}"
                assert str(caught.value).startswith(f"worker 0 {end} while tests.workers.jobs.")
                with pytest.raises(WorkerCrashed, match=r"asyncio\.tasks\.sleep"):
                    await beside
                assert await pool.run(jobs.add, 1, 2) == 3
            assert pool[0].restarts == len(ENDS)

    run(main())


def test_other_workers_go_on(run: Run, told: Told) -> None:
    async def main() -> None:
        path, wait_for = told
        async with pool_of(2) as pool:
            before = pool[1].pid
            beside = pool[1].submit(jobs.touch_and_wait, path)
            await wait_for("running")
            with pytest.raises(WorkerCrashed):
                await pool[0].run(jobs.kill_yourself)
            assert not beside.done() and pool[1].pid == before
            assert await pool.run(jobs.pid) == before  # the other is not up yet
            beside.cancel()

    run(main())


def test_what_was_told_before_the_end_counts(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            calls = [pool.submit(jobs.plain, i) for i in range(50)]
            last = pool.submit(jobs.exit_hard, 3)
            assert [(await call)[0] for call in calls] == list(range(50))
            with pytest.raises(WorkerCrashed):
                await last

    run(main())


def test_idempotent_calls_are_made_again(run: Run, told: Told) -> None:
    async def main() -> None:
        path, wait_for = told
        async with pool_of(1) as pool:
            again = pool.submit(jobs.touch_and_wait, path, idempotent=True)
            once = pool.submit(asyncio.sleep, 100)
            await wait_for("running")
            pid = pool[0].pid
            assert pid is not None
            os.remove(path)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerCrashed):
                await once
            await wait_for("running")
            again.cancel()

        async with pool_of(1, restart=Restart(max=2, within=100)) as pool:
            with pytest.raises(WorkerCrashed):  # not for ever
                await pool.run(jobs.exit_hard, 3, idempotent=True)

    with pytest.raises(WorkersFailed, match="more than 2 restarts in 100 s"):
        run(main())


def test_beyond_the_limit_the_pool_fails(run: Run) -> None:
    async def main() -> None:
        async with pool_of(2, restart=Restart(max=1, within=60)) as pool:
            waiting = pool[1].submit(asyncio.sleep, 100)
            for _ in range(2):
                with pytest.raises(WorkerCrashed):
                    await pool[0].run(jobs.exit_hard, 3)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                with pytest.raises(WorkersFailed):
                    await pool.run(jobs.pid)
                raise
        assert waiting.cancelled()

    with pytest.raises(
        WorkersFailed, match="worker 0 exited with code 3; that is more than 1 restarts in 60 s"
    ):
        run(main())


def test_left_by_an_error_calls_are_cancelled(run: Run, told: Told) -> None:
    async def main() -> None:
        path, wait_for = told
        others: list[asyncio.Task[Any]] = []
        with pytest.raises(ZeroDivisionError):
            async with pool_of(1) as pool:
                submitted = pool.submit(jobs.slow_to_go, path)
                others.append(asyncio.create_task(pool.run(jobs.slow_to_go, path)))
                await wait_for("running\nrunning")
                raise ZeroDivisionError
        assert submitted.cancelled()
        with pytest.raises(WorkersClosed):
            await others[0]
        with open(path) as file:
            assert file.read().split()[2:] == ["gone", "gone"]

    run(main())


def test_left_by_its_end_calls_are_waited_for(run: Run) -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            calls = [pool.submit(jobs.add, i, i) for i in range(20)]
        assert [call.result() for call in calls] == [2 * i for i in range(20)]
        with pytest.raises(WorkersClosed, match="closed"):
            await pool.run(jobs.pid)

    run(main())


def test_cancelled_while_it_is_left(run: Run, told: Told) -> None:
    async def main() -> None:
        path, wait_for = told

        async def use() -> None:
            async with pool_of(1) as pool:
                calls.append(pool.submit(jobs.slow_to_go, path))

        calls: list[asyncio.Task[Any]] = []
        user = asyncio.create_task(use())
        await wait_for("running")
        user.cancel()
        await asyncio.wait([user])
        assert user.cancelled() and calls[0].cancelled()

    run(main())


def test_a_call_that_blocks_its_loop_is_killed_after_the_grace(run: Run, told: Told) -> None:
    async def main() -> None:
        path, wait_for = told
        with pytest.raises(ZeroDivisionError):
            async with pool_of(1, grace=0.1) as pool:
                call = pool.submit(jobs.block, path)
                await wait_for("running")
                raise ZeroDivisionError
        with pytest.raises(WorkerCrashed, match="did not end its calls in time"):
            await call

    run(main())


def test_cancelled_while_it_starts(run: Run) -> None:
    async def main() -> None:
        async def use() -> None:
            async with pool_of(2):
                raise AssertionError("it cannot be up yet")

        user = asyncio.create_task(use())
        for _ in range(3):
            await asyncio.sleep(0)
        user.cancel()
        await asyncio.wait([user])
        assert user.cancelled()

    run(main())


def test_restart_has_sound_numbers() -> None:
    with pytest.raises(ValueError, match="max"):
        Restart(max=-1)
    with pytest.raises(ValueError, match="within"):
        Restart(within=0)
