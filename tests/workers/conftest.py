"""Pools for tests, and a check that nothing is left of them."""

import asyncio
import contextlib
import importlib.util
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinloop.workers import Restart, Workers


def children() -> set[int]:
    """The processes that this one has, zombies included."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return set(map(int, file.read().split()))
    except OSError:
        return set()


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Fails the test if it ends with a child process that it did not begin with."""
    before = children()
    yield
    assert children() <= before


def why_no_dask() -> str:
    """Why there is no Dask for the tests; empty if there is."""
    if importlib.util.find_spec("distributed") is None:
        return "the extra `dask` is not installed"
    if os.environ.get("PYTHONASYNCIODEBUG"):  # what pinloop does with it is the same with processes
        return "in debug mode Dask's own loops complain of its slow callbacks"
    return ""


needs_dask = pytest.mark.skipif(bool(why_no_dask()), reason=why_no_dask() or "Dask is here")


@pytest.fixture(scope="module", params=["process", "thread", pytest.param("dask", marks=needs_dask)])
def shared(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], request: pytest.FixtureRequest
) -> Iterator[tuple[asyncio.Runner, Workers]]:
    """A pool of two for tests that leave it as they found it."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        opened: asyncio.Future[Workers] = loop.create_future()
        over = asyncio.Event()

        async def host() -> None:
            async with Workers(2, request.param, None, Restart(1000)) as pool:
                opened.set_result(pool)
                await over.wait()

        async def begin() -> Workers:
            await asyncio.wait([opened, task], return_when=asyncio.FIRST_COMPLETED)
            return opened.result() if opened.done() else task.result()  # type: ignore[return-value]

        async def end() -> None:
            over.set()
            await asyncio.wait([task], timeout=5)
            task.cancel()  # in vain, unless a test failed and left a call behind
            await task

        task = loop.create_task(host())
        yield runner, runner.run(begin())
        runner.run(end())


Use = Callable[[Callable[[Workers], Awaitable[Any]]], Any]


@pytest.fixture
def use(shared: tuple[asyncio.Runner, Workers]) -> Use:
    """Runs a coroutine function with the shared pool; no call may be left, and no worker be restarted."""
    runner, pool = shared

    def use(test: Callable[[Workers], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            errors: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
            await asyncio.gather(*(worker.run(os.getpid, idempotent=True) for worker in pool))
            pids = [worker.pid for worker in pool]
            try:
                result = await test(pool)
                assert not errors
                assert [worker.calls for worker in pool] == [0, 0]
                assert [worker.pid for worker in pool] == pids
            except BaseException:
                for slot in pool._slots:  # the next test gets new ones, and the pool has nothing to wait for
                    if slot.life is not None:
                        slot.life.kill()
                raise
            return result

        return runner.run(main())

    return use


@pytest.fixture
def pickling(shared: tuple[asyncio.Runner, Workers]) -> None:
    """For tests of what pickling refuses or copies."""
    if shared[1].backend == "thread":
        pytest.skip("between threads nothing is pickled")


here = pytest.mark.parametrize("shared", ["process", "thread"], indirect=True, scope="module")
"""For tests of what goes no further than this machine: no socket can go to a Dask worker."""


@pytest.fixture
def told(tmp_path: Path) -> tuple[str, Callable[[str], Awaitable[None]]]:
    """A file in which jobs report, and a function that waits until a word is in it."""
    path = tmp_path / "told"

    async def wait_for(word: str) -> None:
        async with asyncio.timeout(20):
            while not (path.exists() and word in path.read_text()):
                await asyncio.sleep(0.001)

    return str(path), wait_for


@contextlib.asynccontextmanager
async def pool_of(n: int = 1, backend: str = "process", **options: Any) -> AsyncIterator[Workers]:
    """A pool of its own, anywhere."""
    options.setdefault("placement", None)
    before = set(threading.enumerate())
    try:
        async with Workers(n, backend, **options) as pool:
            yield pool
    finally:
        # Dask's processes have ended, but the threads that waited for them hold their pipes.
        for thread in set(threading.enumerate()) - before if backend == "dask" else ():
            if thread.name.startswith("AsyncProcess"):
                thread.join(20)
