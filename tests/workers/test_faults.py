"""Faults: each call ends exactly once, in a result or an error; nothing hangs, and nothing is left behind."""

import asyncio
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pinloop import BrokenChannel
from pinloop.workers import Restart, Unpicklable, WorkerCrashed, WorkerError, Workers, WorkersFailed
from tests.conftest import Run
from tests.workers import fault_jobs, jobs
from tests.workers.conftest import Use, pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

pytestmark = pytest.mark.usefixtures("no_process_left", "nothing_left")

both = pytest.mark.parametrize("backend", ["process", "thread"])


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails the test if it leaves shared memory with a name, or a worker's thread."""
    shared = "/dev/shm"
    before = set(os.listdir(shared)) if os.path.isdir(shared) else set()
    threads = set(threading.enumerate())
    yield
    after = set(os.listdir(shared)) if os.path.isdir(shared) else set()
    assert not [name for name in after - before if "pinloop" in name]
    assert not [one for one in set(threading.enumerate()) - threads if one.name.startswith("pinloop")]


# ---------------------------------------------------------------------------- what cannot be pickled --


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize(
    ("job", "args", "error", "message"),
    [
        (fault_jobs.raise_unspeakable, (), Unpicklable, "Unspeakable: <its text cannot be had: LookupError>"),
        (fault_jobs.raise_changeling, (str,), Unpicklable, "Changeling: changeling .* an object of str"),
        (fault_jobs.raise_changeling, (StopIteration,), Unpicklable, "an object of StopIteration"),
        (fault_jobs.raise_changeling, (fault_jobs.be_wicked,), Unpicklable, "unpickled: be it so"),
        (fault_jobs.unsendable, (), Unpicklable, "result of .*unsendable cannot be sent by worker .*so"),
        (fault_jobs.unreceivable, (), Unpicklable, "result of .*unreceivable came .* unpickled: be it so"),
        (jobs.echo, (fault_jobs.Unreceivable(),), Unpicklable, "arguments of a call came .*: be it so"),
        (jobs.echo, (fault_jobs.Unsendable(),), fault_jobs.Wicked, "be it so"),
        (fault_jobs.cancelled_unspeakably, (), asyncio.CancelledError, "its text cannot be had"),
    ],
)
def test_whatever_pickling_does_the_call_ends(
    use: Use, job: Any, args: tuple[Any, ...], error: type[BaseException], message: str
) -> None:
    async def test(pool: Workers) -> None:
        async with asyncio.timeout(20):
            with pytest.raises(error, match=message):
                await pool.run(job, *args)
            assert await pool.run(jobs.add, 1, 2) == 3

    use(test)


def test_an_exception_that_unpickles_only_there(use: Use, pickling: None, monkeypatch: Any) -> None:
    """What the worker could make of it, this process cannot."""

    async def test(pool: Workers) -> None:
        monkeypatch.setattr(fault_jobs, "born", str, raising=False)
        async with asyncio.timeout(20):
            with pytest.raises(WorkerError, match="became an object of str"):
                await pool.run(fault_jobs.raise_foundling)

    use(test)


# ------------------------------------------------------------------------------------ how workers end --


def test_a_worker_that_closes_all_its_files(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, grace=0.2) as pool, asyncio.timeout(20):
            beside = pool.submit(jobs.pause, 1000)
            with pytest.raises(WorkerCrashed):
                await pool.run(fault_jobs.close_all_files)
            with pytest.raises(WorkerCrashed):
                await beside
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())


@pytest.mark.parametrize("by_error", [False, True])
def test_a_stopped_worker_does_not_keep_the_pool(run: Run, by_error: bool) -> None:
    async def main() -> None:
        async with pool_of(2, grace=0.2) as pool:
            assert pool[0].pid is not None
            os.kill(pool[0].pid, signal.SIGSTOP)
            if by_error:
                call = pool[0].submit(jobs.pid)
                try:
                    raise ZeroDivisionError
                finally:
                    asyncio.get_running_loop().call_soon(calls.append, call)

    calls: list[asyncio.Task[int]] = []
    if by_error:
        with pytest.raises(ZeroDivisionError):
            run(main())
        assert calls[0].cancelled() or isinstance(calls[0].exception(), WorkerError)
    else:
        with pytest.raises(WorkerCrashed, match=r"did not stop within 0\.2 s and was killed"):
            run(main())


def test_a_cancelled_call_ends_with_its_worker(run: Run, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(1) as pool:
            call = pool.submit(jobs.block, path)
            await wait_for("running")
            call.cancel()  # it cannot be: it waits on
            await asyncio.sleep(0.01)
            assert not call.done() and pool[0].pid is not None
            os.kill(pool[0].pid, signal.SIGKILL)
            with pytest.raises(WorkerCrashed, match=r"SIGKILL while tests\.workers\.jobs\.block"):
                await call

    run(main())


def test_a_worker_that_dies_in_its_teardown(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, teardown=jobs.kill_yourself) as pool:
            assert await pool.run(jobs.add, 1, 2) == 3

    with pytest.raises(WorkerCrashed, match="was killed by SIGKILL while it was being stopped"):
        run(main())


def test_one_that_dies_while_it_is_restarted_is_restarted_again(run: Run, told: Told) -> None:
    path, _ = told

    async def main(times: int) -> None:
        setup = partial(fault_jobs.killed_at_first, path, times)
        async with pool_of(1, setup=setup, restart=Restart(max=3, within=100)) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.run(jobs.kill_yourself)
            assert await pool.run(jobs.add, 1, 2) == 3
            assert pool[0].restarts == 3

    run(main(2))
    os.remove(path)
    with pytest.raises(WorkersFailed, match="SIGKILL before it was ready; that is more than 3 restarts"):
        run(main(3))


def test_one_that_always_dies_in_its_restart_is_given_up(run: Run, told: Told) -> None:
    """However long it takes to: here the limit in time is as good as none."""
    path, _ = told

    async def main() -> None:
        setup = partial(fault_jobs.killed_at_first, path, 1000)
        async with pool_of(1, setup=setup, restart=Restart(max=2, within=1e-9)) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.run(jobs.kill_yourself)
            with pytest.raises(WorkersFailed):
                await pool.run(jobs.add, 1, 2)
            await asyncio.sleep(100)

    with pytest.raises(
        WorkersFailed, match=r"worker 0 could not be restarted: .* SIGKILL before it was ready"
    ):
        run(main())
    with open(path) as file:
        assert len(file.readlines()) == 1 + 3


# ----------------------------------------------------------------------------------------- channels --


def end_of(backend: str) -> tuple[Any, ...]:
    """A call that ends the worker."""
    return (jobs.kill_yourself,) if backend == "process" else (jobs.exit_softly, 3)


@both
def test_a_worker_that_dies_with_credits(run: Run, told: Told, backend: str) -> None:
    """It may send four items, and we it as many: neither comes to anything, and nobody waits."""
    path, wait_for = told

    async def main() -> None:
        async with pool_of(1, backend=backend) as pool, asyncio.timeout(20):
            tx, theirs = await pool.channel(0, 8)
            their_tx, rx = await pool.channel(0, 8)
            calls = [pool[0].submit(jobs.hold, end, path) for end in (theirs, their_tx)]
            await wait_for("holding\nholding")
            receiving = asyncio.ensure_future(rx.recv())
            for i in range(4):
                await tx.send(i)
            await asyncio.gather(pool[0].run(*end_of(backend)), *calls, return_exceptions=True)
            with pytest.raises(BrokenChannel, match="worker 0 was"):
                await receiving
            with pytest.raises(BrokenChannel, match="worker 0 was"):
                await tx.send(5)
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())


@both
def test_a_full_channel_does_not_keep_the_pool(run: Run, told: Told, backend: str) -> None:
    path, wait_for = told

    async def main() -> None:
        sending: list[asyncio.Future[None]] = []
        with pytest.raises(ZeroDivisionError):
            async with pool_of(1, backend=backend) as pool:
                tx, rx = await pool.channel(0, 2)
                call = pool[0].submit(jobs.hold, rx, path)
                await wait_for("holding")
                sending.extend(asyncio.ensure_future(tx.send(i)) for i in range(10))
                await asyncio.wait(sending[:2])
                raise ZeroDivisionError
        ends = await asyncio.wait_for(asyncio.gather(*sending, return_exceptions=True), 20)
        assert [type(end) for end in ends] == [type(None)] * 2 + [BrokenChannel] * 8
        assert call.cancelled()

    run(main())


# ------------------------------------------------------------------------------------------ in bulk --


def test_large_messages_while_workers_are_killed(run: Run) -> None:
    """Shared memory under way in both directions is given back."""
    chance = random.Random(5)
    block = os.urandom(3 << 20)

    async def main() -> None:
        ends: list[str] = []

        async def call(pool: Workers) -> None:
            try:
                assert await pool.run(jobs.echo, block) == block
                ends.append("result")
            except WorkerCrashed:
                ends.append("crash")

        async with pool_of(1, restart=Restart(max=100, within=1000)) as pool, asyncio.timeout(50):
            for _ in range(4):
                async with asyncio.TaskGroup() as group:
                    for _ in range(12):
                        group.create_task(call(pool))
                    await asyncio.sleep(chance.uniform(0, 0.05))
                    if pool[0].pid is not None:
                        os.kill(pool[0].pid, signal.SIGKILL)
            assert len(ends) == 48 and "crash" in ends
            assert await pool.run(jobs.echo, block) == block

    run(main())


def test_each_call_ends_once_while_threads_end(run: Run) -> None:
    """10,000 calls in flight; some end their worker."""

    async def main() -> None:
        ended = [0] * 10_000
        crashed = 0
        named: set[str | None] = set()

        async def call(pool: Workers, x: int) -> None:
            nonlocal crashed
            try:
                assert await pool.run(fault_jobs.exit_sometimes, x, 2500) == x
            except WorkerCrashed as error:
                named.add(error.call)
                crashed += 1
            ended[x] += 1

        restart = Restart(max=100, within=1000)
        async with pool_of(2, backend="thread", restart=restart) as pool, asyncio.timeout(50):
            await asyncio.gather(*(call(pool, x) for x in range(10_000)))
            assert ended == [1] * 10_000
            assert named == {"tests.workers.fault_jobs.exit_sometimes"}
            assert crashed >= 1 and sum(worker.restarts for worker in pool) >= 1
            found = await pool.metrics()
            assert (found.done, found.failed, found.cancelled) == (10_000 - crashed, crashed, 0)
            assert await pool.run(jobs.add, 1, 2) == 3

    run(main())


@both
def test_no_workers_at_all(backend: str) -> None:
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"a pool has at least one worker, not {n}"):
            Workers(n, backend)
    with pytest.raises(ValueError, match="worker"):
        Workers(None, backend, [])
