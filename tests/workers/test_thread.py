"""Workers that are threads: what they share, how they end, what they cannot do."""

import asyncio
import gc
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pinloop.workers import Restart, WorkerCrashed, Workers, WorkersFailed, placement, thread
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [one for one in threading.enumerate() if one not in before and one.name.startswith("pinloop")]
    assert not left


def test_each_has_a_thread_of_its_own(run: Run) -> None:
    async def main() -> None:
        async with pool_of(3, backend="thread") as pool:
            idents = {await worker.run(jobs.where) for worker in pool}
            assert len(idents) == 3 and threading.get_ident() not in idents
            assert {await worker.run(jobs.pid) for worker in pool} == {os.getpid()}
            assert await pool.run(jobs.name_of_loop) == "pinloop._loop"
            assert pool.backend == "thread"

    run(main())


def test_objects_are_handed_over_as_they_are(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, backend="thread") as pool:
            value = threading.Lock()
            assert await pool.run(jobs.echo, value) is value
            assert await pool.run(lambda: value) is value
            tx, rx = await pool.channel(0, 2)
            call = pool[0].submit(jobs.consume, rx)
            await tx.send(value)
            tx.close()
            assert (await call)[0] is value

    run(main())


def test_errors_are_the_very_exceptions(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, backend="thread") as pool:
            with pytest.raises(LookupError) as caught:
                await pool.run(jobs.fail, "x")
            assert caught.value.__cause__ is None
            assert "in fail\n" in "".join(traceback.format_exception(caught.value))
            with pytest.raises(jobs.Holder):
                await pool.run(jobs.raise_holder)

    run(main())


def test_hooks_and_their_variables_are_each_workers_own(run: Run, told: Told) -> None:
    path, _ = told

    async def main() -> None:
        hooks = {"setup": jobs.open_something, "teardown": partial(jobs.mark_close, path)}
        async with pool_of(2, backend="thread", **hooks) as pool:
            first, second = [await worker.run(jobs.get_opened) for worker in pool]
            assert first == second == ["opened"] and first is not second
            assert (await pool[1].run(jobs.worker)).state == "a connection"
            with pytest.raises(LookupError):
                jobs.opened.get()
        assert Path(path).read_text() == "closed opened\n" * 2

    run(main())


def test_a_setup_that_fails(run: Run) -> None:
    async def main() -> None:
        async with pool_of(2, backend="thread", setup=jobs.setup_fails):
            raise AssertionError("it cannot be up")

    with pytest.raises(LookupError, match="no database"):
        run(main())


def test_one_that_ends_is_restarted(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, backend="thread", restart=Restart(max=1, within=100)) as pool:
            before = await pool.run(jobs.where)
            tx, rx = await pool.channel(0, 2)
            beside = pool.submit(jobs.consume, rx)
            await asyncio.sleep(0)
            with pytest.raises(WorkerCrashed, match=r"worker 0 was ended by SystemExit\(3\)"):
                await pool.run(jobs.exit_softly, 3)
            with pytest.raises(WorkerCrashed):
                await beside
            with pytest.raises(Exception, match="was ended by"):
                while True:
                    await tx.send(1)
            assert await pool.run(jobs.where) and before
            with pytest.raises(WorkerCrashed):
                await pool.run(jobs.exit_softly, 3)
            await asyncio.sleep(100)

    with pytest.raises(WorkersFailed, match="more than 1 restarts"):
        run(main())


def test_one_that_blocks_is_given_up(run: Run, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    path, wait_for = told
    monkeypatch.setattr(thread, "PATIENCE", 0.1)
    jobs.thread_gate.clear()

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with pool_of(1, backend="thread", grace=0.1) as pool:
                call = pool.submit(jobs.wait_at_gate, path)
                await wait_for("running")
                raise ZeroDivisionError
        with pytest.raises(WorkerCrashed, match=r"its thread goes on: it cannot be killed"):
            await call

    try:
        run(main())
    finally:
        jobs.thread_gate.set()
        for one in threading.enumerate():
            if one.name.startswith("pinloop-worker"):
                one.join(20)
    gc.collect()


def test_what_threads_cannot_do_is_refused() -> None:
    for option in ({"heartbeat": 1}, {"memory_limit": 1 << 30}):
        with pytest.raises(ValueError, match="a thread cannot be killed"):
            Workers(1, "thread", **option)  # type: ignore[arg-type]


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this platform does not keep a thread on a CPU"
)
def test_threads_are_pinned_too(run: Run) -> None:
    cpus = placement.allowed_cpus()

    async def main() -> None:
        async with pool_of(1, backend="thread", placement=[cpus[-1]]) as pool:
            assert await pool.run(jobs.affinity) == [cpus[-1]]
        assert placement.allowed_cpus() == cpus

    run(main())


def test_many_calls_and_channels_at_once(run: Run) -> None:
    async def main() -> None:
        async with pool_of(2, backend="thread") as pool:

            async def exchange(i: int) -> None:
                tx, theirs = await pool.channel(i % 2, i % 4)
                their_tx, rx = await pool.channel(i % 2, i % 3)
                call = pool[i % 2].submit(jobs.answer, theirs, their_tx)
                async with tx, rx:
                    for x in range(50):
                        await tx.send(x)
                        assert await rx.recv() == x + 1
                await call

            async with asyncio.TaskGroup() as group:
                for i in range(10):
                    group.create_task(exchange(i))
                calls = [group.create_task(pool.run(jobs.add, i, 1)) for i in range(2000)]
            assert [call.result() for call in calls] == list(range(1, 2001))

    run(main())


def test_cancelled_while_it_starts(run: Run) -> None:
    async def main() -> None:
        async def use() -> None:
            async with pool_of(2, backend="thread", setup=jobs.setup_hangs):
                raise AssertionError("it cannot be up")

        user = asyncio.create_task(use())
        await asyncio.sleep(0.05)
        user.cancel()
        await asyncio.wait([user])
        assert user.cancelled()

    run(main())


def test_the_default_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert Workers(1).backend == ("process" if gil else "thread")
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert Workers(1).backend == "thread"


def test_a_pool_in_a_worker(run: Run) -> None:
    """The variables that say who is the current worker stay where they are."""

    async def main() -> None:
        async with pool_of(1, backend="thread") as pool:
            assert await pool.run(nested) == ("thread", 0, 1)

    run(main())


async def nested() -> Any:
    import pinloop

    async with pool_of(2, backend="thread") as pool:
        outer: Any = pinloop.workers.current_worker()
        inner = await pool[1].run(jobs.worker)
        return outer.backend, outer.index, inner.index
