"""setup and teardown: once per worker, before and after its calls."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pinloop.workers import RemoteTraceback, Unpicklable, WorkerCrashed, WorkerError, Workers, WorkersFailed
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.mark.parametrize(
    ("setup", "word", "state"),
    [(jobs.open_something, "opened", "a connection"), (jobs.open_plainly, "plainly", "plain")],
)
def test_calls_see_what_setup_did(
    run: Run, told: Told, setup: Callable[[], Any], word: str, state: str
) -> None:
    path, _ = told

    async def main() -> None:
        async with pool_of(2, setup=setup, teardown=partial(jobs.mark_close, path)) as pool:
            for worker in pool:
                assert await worker.run(jobs.get_opened) == [word]
                assert (await worker.run(jobs.worker)).state == state
            assert not os.path.exists(path)
        assert Path(path).read_text() == f"closed {word}\n" * 2

    run(main())


def test_setup_runs_in_a_restarted_worker_too(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, setup=jobs.open_something) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.run(jobs.exit_hard, 1)
            assert await pool.run(jobs.get_opened) == ["opened"]

    run(main())


def test_teardown_runs_where_the_pool_is_left_by_an_error(run: Run, told: Told) -> None:
    path, _ = told

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with pool_of(1, setup=jobs.open_something, teardown=partial(jobs.mark_close, path)):
                raise ZeroDivisionError
        assert Path(path).read_text() == "closed opened\n"

    run(main())


@pytest.mark.parametrize(
    ("setup", "kind", "message"),
    [
        (jobs.setup_fails, LookupError, "no database"),
        (jobs.setup_exits, WorkerCrashed, "worker 0 exited with code 9 before it was ready"),
        (jobs.Explosive(), Unpicklable, "setup or teardown cannot be unpickled in a worker: it went off"),
        (lambda: None, Unpicklable, "setup or teardown cannot be sent to a worker"),
        (jobs.generate, TypeError, "asynchronous generator"),
    ],
)
def test_a_setup_that_fails_keeps_the_pool_from_opening(
    run: Run, setup: Any, kind: type[Exception], message: str
) -> None:
    async def main() -> None:
        async with pool_of(1, setup=setup):
            raise AssertionError("it cannot be up")

    with pytest.raises(kind, match=message) as caught:
        run(main())
    if kind is LookupError:
        assert isinstance(caught.value.__cause__, RemoteTraceback)


def test_one_that_fails_ends_the_others(run: Run, told: Told) -> None:
    path, _ = told

    async def main() -> None:
        async with pool_of(2, setup=partial(jobs.setup_fails_once, path)):
            raise AssertionError("it cannot be up")

    with pytest.raises(LookupError, match="not again"):
        run(main())


def test_a_setup_that_takes_too_long(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, setup=jobs.setup_hangs, start_timeout=0.3):
            raise AssertionError("it cannot be up")

    with pytest.raises(WorkerError, match=r"worker 0 was not ready within 0\.3 s"):
        run(main())


def test_a_setup_that_fails_at_a_restart_fails_the_pool(run: Run, told: Told) -> None:
    path, _ = told

    async def main() -> None:
        async with pool_of(1, setup=partial(jobs.setup_fails_once, path)) as pool:
            os.kill(pool[0].pid or 0, signal.SIGKILL)
            await asyncio.sleep(100)

    with pytest.raises(WorkersFailed, match="worker 0 could not be restarted: not again") as caught:
        run(main())
    assert isinstance(caught.value.__cause__, LookupError)


def test_an_error_of_teardown_is_raised(run: Run) -> None:
    async def main(n: int) -> None:
        async with pool_of(n, teardown=jobs.teardown_fails) as pool:
            assert await pool.run(jobs.add, 1, 2) == 3

    with pytest.raises(LookupError, match="cannot close"):
        run(main(1))
    with pytest.raises(ExceptionGroup) as caught:
        run(main(2))
    assert [str(error) for error in caught.value.exceptions] == ["cannot close"] * 2


def test_beside_another_error_it_is_reported(run: Run, loop_errors: list[Any]) -> None:
    async def main() -> None:
        async with pool_of(1, teardown=jobs.teardown_fails):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert [str(context["exception"]) for context in loop_errors] == ["cannot close"]
    loop_errors.clear()


def test_a_teardown_that_takes_too_long_is_cut_short(run: Run) -> None:
    async def main() -> None:
        async with pool_of(1, teardown=jobs.teardown_hangs, grace=0.1):
            pass

    with pytest.raises(WorkerCrashed, match=r"did not stop within 0\.1 s and was killed"):
        run(main())


def test_a_pool_is_entered_once(run: Run) -> None:
    async def main() -> None:
        pool = Workers(1, placement=None)
        async with pool:
            with pytest.raises(RuntimeError, match="entered once"):
                await pool.__aenter__()

    run(main())
