"""Work in threads: run_in_executor, the default executor and its shutdown."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP

Loop = asyncio.AbstractEventLoop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


heeds_the_timeout = pytest.mark.skipif(
    sys.version_info < (3, 13) and not ON_PINLOOP,
    reason="asyncio: timeout= is new in 3.12 and blocks in 3.12.1",
)


class ThreadlessExecutor(concurrent.futures.Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        yield pool


def thread_name() -> str:
    return threading.current_thread().name


def fail(message: str) -> None:
    raise ValueError(message)


async def do_nothing() -> None:
    pass


# ----------------------------------------------------------------------- run_in_executor --


def test_it_runs_in_another_thread(loop: Loop) -> None:
    ident = loop.run_until_complete(loop.run_in_executor(None, threading.get_ident))
    assert ident != threading.get_ident()


def test_it_passes_the_arguments_and_gives_the_result(loop: Loop) -> None:
    assert loop.run_until_complete(loop.run_in_executor(None, divmod, 17, 5)) == (3, 2)


def test_its_future_belongs_to_the_loop(loop: Loop) -> None:
    future = loop.run_in_executor(None, thread_name)
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    loop.run_until_complete(future)


def test_it_raises_what_the_function_raised(loop: Loop) -> None:
    with pytest.raises(ValueError, match="mine"):
        loop.run_until_complete(loop.run_in_executor(None, fail, "mine"))


def test_it_uses_the_executor_given(loop: Loop, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    assert loop.run_until_complete(loop.run_in_executor(pool, thread_name)).startswith("mine")


def test_any_kind_of_executor_will_do(loop: Loop) -> None:
    name = loop.run_until_complete(loop.run_in_executor(ThreadlessExecutor(), thread_name))
    assert name == thread_name()


def test_the_default_executor_is_made_once(loop: Loop) -> None:
    async def main() -> set[str]:
        return {await loop.run_in_executor(None, thread_name) for _ in range(3)}

    assert loop.run_until_complete(main()) == {"asyncio_0"}


def test_many_results_arrive(loop: Loop) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(loop.run_in_executor(None, abs, -n) for n in range(500)))

    assert loop.run_until_complete(main()) == list(range(500))


def test_the_loop_turns_meanwhile(loop: Loop) -> None:
    release = threading.Event()

    async def main() -> bool:
        future = loop.run_in_executor(None, release.wait, 10)
        await asyncio.sleep(0.001)
        release.set()
        return await future

    assert loop.run_until_complete(main()) is True


def test_a_cancelled_call_that_has_begun_ends_by_itself(loop: Loop) -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(10)
        ended.set()

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        while not begun.is_set():
            await asyncio.sleep(0.001)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        release.set()

    loop.run_until_complete(main())
    assert ended.wait(10)


def test_debug_mode_refuses_a_coroutine_function(loop: Loop) -> None:
    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, do_nothing)


def test_debug_mode_refuses_a_coroutine(loop: Loop) -> None:
    loop.set_debug(True)
    coro: Any = do_nothing()
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, coro)
    coro.close()


def test_to_thread_takes_the_context_along(loop: Loop) -> None:
    async def main() -> list[str]:
        variable.set("task's")
        return [await asyncio.to_thread(variable.get), await loop.run_in_executor(None, variable.get)]

    # A bare run_in_executor has always run in the thread's own context.
    own = "unset" if not getattr(sys.flags, "thread_inherit_context", 0) else "task's"
    assert loop.run_until_complete(main()) == ["task's", own]


# --------------------------------------------------------------------- the default executor --


def test_the_default_executor_can_be_set(loop: Loop, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    loop.set_default_executor(pool)
    assert loop.run_until_complete(loop.run_in_executor(None, thread_name)).startswith("mine")


@pytest.mark.parametrize("thing", [None, 42, ThreadlessExecutor()], ids=["None", "int", "other executor"])
def test_the_default_executor_must_be_a_thread_pool(loop: Loop, thing: Any) -> None:
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(thing)


def test_close_shuts_the_default_executor(loop: Loop, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    loop.set_default_executor(pool)
    loop.close()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(thread_name)


def test_close_does_not_wait_for_what_still_runs(loop: Loop) -> None:
    begun, release = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(10)

    loop.run_in_executor(None, work)
    assert begun.wait(10)
    loop.close()
    release.set()


# ------------------------------------------------------------------------------- shutdown --


def test_shutdown_waits_for_the_threads(loop: Loop) -> None:
    ended = threading.Event()
    begun = threading.Event()

    def work() -> None:
        begun.set()
        threading.Event().wait(0.02)
        ended.set()

    async def main() -> bool:
        loop.run_in_executor(None, work)
        assert await asyncio.to_thread(begun.wait, 10)
        await loop.shutdown_default_executor()
        return ended.is_set()

    assert loop.run_until_complete(main()) is True


def test_shutdown_without_an_executor_returns_at_once(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_after_shutdown_the_default_executor_takes_nothing(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, thread_name)


def test_after_shutdown_other_executors_still_work(
    loop: Loop, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    assert loop.run_until_complete(loop.run_in_executor(pool, thread_name)).startswith("mine")


@heeds_the_timeout
def test_shutdown_gives_up_after_the_timeout_with_a_warning(loop: Loop) -> None:
    begun, release = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(10)

    async def main() -> None:
        loop.run_in_executor(None, work)
        assert await asyncio.to_thread(begun.wait, 10)
        with pytest.warns(RuntimeWarning, match=r"its threads within 0\.01 seconds"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()

    before = threading.active_count()
    try:
        loop.run_until_complete(main())
    finally:
        release.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(10)
    assert threading.active_count() <= before


@heeds_the_timeout
def test_shutdown_in_time_does_not_warn(loop: Loop) -> None:
    async def main() -> None:
        await loop.run_in_executor(None, thread_name)
        await loop.shutdown_default_executor(timeout=30)

    loop.run_until_complete(main())


def test_runner_shuts_the_default_executor(loop_factory: Callable[[], Loop]) -> None:
    ended = threading.Event()

    def work() -> None:
        threading.Event().wait(0.01)
        ended.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert ended.is_set()
