"""Workers that are Dask's: a cluster of the pool's own."""

import asyncio
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest

import pinloop
from pinloop.workers import Unpicklable, WorkerCrashed, Workers
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import needs_dask, pool_of

pytestmark = needs_dask


@pytest.fixture(scope="module", autouse=True)
def tracker() -> None:
    """multiprocessing's process that Dask's have it start: it stays until this one ends."""
    multiprocessing.resource_tracker.ensure_running()


Told = tuple[str, Callable[[str], Awaitable[None]]]


def test_calls_in_a_cluster_of_its_own(run: Run) -> None:
    """And when the pool is left, the processes have ended."""

    async def main() -> list[int | None]:
        async with pool_of(2, backend="dask", setup=jobs.open_something) as pool:
            assert repr(pool) == "<Workers open n=2 backend=dask>"
            assert await pool.map(jobs.square_slowly, range(10)) == [x * x for x in range(10)]
            assert await asyncio.gather(*(worker.run(jobs.pid) for worker in pool)) == [w.pid for w in pool]
            assert await pool[1].run(jobs.name_of_loop) == "pinloop._loop"
            current = await pool[1].run(jobs.worker)
            assert (current.index, current.backend, current.state) == (1, "dask", "a connection")
            # The loop is kept, and its thread.
            assert len({await pool[0].run(jobs.where) for _ in range(3)}) == 1
            return [worker.pid for worker in pool]

    for pid in run(main()):
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_has_no_name_goes_by_value(run: Run) -> None:
    async def main() -> None:
        factor = 3
        async with pool_of(1, backend="dask") as pool:
            assert await pool.map(lambda x: x * factor, range(4)) == [0, 3, 6, 9]

            class Own(Exception):
                pass

            async def fail() -> None:
                raise Own("here")

            with pytest.raises(Own, match="here"):
                await pool.run(fail)
            with pytest.raises(Own, match="here"):
                await pool.map(lambda _: fail(), range(4), chunk=2)
            with pytest.raises(Unpicklable, match=r"argument 1 of a call of .*<lambda> cannot be sent"):
                await pool.run(lambda lock: lock, threading.Lock())

    run(main())


def test_sockets_cannot_go_there(run: Run) -> None:
    import socket

    async def main() -> None:
        async with pool_of(1, backend="dask") as pool:
            with socket.socket() as sock, pytest.raises(Unpicklable, match="cannot go to a Dask worker"):
                await pool.run(jobs.kind_of, sock)

    run(main())


def test_a_worker_that_is_killed(run: Run, told: Told) -> None:
    path, wait_for = told

    async def main() -> None:
        async with pool_of(2, backend="dask", setup=jobs.open_plainly) as pool:
            pids = [worker.pid for worker in pool]
            other = await pool[1].run(jobs.where)
            calls = [pool[0].submit(jobs.touch_and_wait, path), pool[0].submit(jobs.pause, 100)]
            tx, rx = await pool.channel(0, 4)
            calls.append(pool[0].submit(jobs.recv_until_broken, rx))
            await wait_for("running")
            assert pids[0] is not None
            os.kill(pids[0], signal.SIGKILL)
            for call, name in zip(calls, ("touch_and_wait", "pause", "recv_until_broken"), strict=True):
                with pytest.raises(WorkerCrashed) as caught:
                    await call
                assert caught.value.worker == 0
                assert caught.value.call == f"tests.workers.jobs.{name}"
                assert f"pid {pids[0]}) was lost while" in str(caught.value)
            with pytest.raises(pinloop.BrokenChannel):
                while True:
                    await tx.send(1)
            # The nanny has a new one, which is set up again; the other was not disturbed.
            assert await pool[0].run(jobs.get_opened) == ["plainly"]
            assert pool[0].pid not in pids
            assert (pool[0].restarts, pool[1].restarts) == (1, 0)
            assert await pool[1].run(jobs.where) == other

    run(main())


def test_an_exit_ends_the_loop_only(run: Run) -> None:
    """The Dask worker goes on, and so the pool has it again."""

    async def main() -> None:
        async with pool_of(1, backend="dask") as pool:
            pid = pool[0].pid
            with pytest.raises(WorkerCrashed, match=r"was ended by SystemExit\(3\) while .*exit_softly"):
                await pool.run(jobs.exit_softly, 3)
            assert await pool.run(jobs.pid) == pid

    run(main())


def test_a_cluster_that_has_tls(run: Run) -> None:
    import distributed

    async def main() -> None:
        async with (
            distributed.LocalCluster(
                n_workers=1, security=True, dashboard_address="127.0.0.1:0", asynchronous=True
            ) as cluster,
            pool_of(1, backend="dask", address=cluster) as pool,
        ):
            assert await pool.run(jobs.add, 1, 2) == 3
            with pytest.raises(WorkerCrashed, match=r"\(tls://"):
                await pool.run(jobs.exit_softly, 3)

    run(main())


def test_cancelled_while_its_cluster_starts(run: Run, no_process_left: None) -> None:
    async def main() -> None:
        for delay in (0, 0.05, 0.5, 1):

            async def use() -> None:
                async with pool_of(2, backend="dask", setup=jobs.setup_hangs):
                    raise AssertionError("it cannot be up")

            user = asyncio.create_task(use())
            await asyncio.sleep(delay)
            user.cancel()
            await asyncio.wait([user])
            assert user.cancelled()

    run(main())


def test_where_dask_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pinloop.workers.dask", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'pinloop\[dask\]'"):
        Workers(1, "dask")


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="Dask limits its workers itself"):
        Workers(1, "dask", None, memory_limit=1 << 30)
    with pytest.raises(ValueError, match="whoever starts a Dask worker says where it runs"):
        Workers(1, "dask", [0], address="tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="at least one worker"):
        Workers(0, "dask", address="tcp://127.0.0.1:1")
    with pytest.raises(TypeError, match="address must be a scheduler's"):
        Workers(1, "dask", address=8786)
    with pytest.raises(ValueError, match="it goes with backend='dask'"):
        Workers(1, "process", address="tcp://127.0.0.1:1")
