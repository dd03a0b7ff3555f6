"""What every test may ask for: a loop, a way to run a coroutine on one, checks that nothing is left behind.

PINLOOP_TEST_LOOP=asyncio runs the suite on asyncio's own loop: a test that fails there tests something else
than what asyncio promises.

PINLOOP_TEST_TASKS=asyncio runs it on pinloop's loop with asyncio's own tasks and futures.
"""

import asyncio
import contextlib
import functools
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import pytest

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Context = dict[str, Any]


class Run(Protocol):
    """Type of the `run` fixture."""

    def __call__(self, coro: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T: ...


def pytest_report_header() -> str:
    if os.environ.get("PINLOOP_TEST_LOOP") == "asyncio":
        return "loop: asyncio.new_event_loop"
    import pinloop

    tasks = os.environ.get("PINLOOP_TEST_TASKS") or "pinloop"
    return f"loop: pinloop {pinloop.__version__} from {os.path.dirname(pinloop.__file__)}, tasks: {tasks}"


def open_fds() -> dict[int, str]:
    """This process's open file descriptors and what they are, as far as the platform tells."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found = {}
    for name in os.listdir(folder):
        fd = int(name)
        try:
            os.fstat(fd)  # the one that listed the folder is closed by now
            found[fd] = os.readlink(f"{folder}/{fd}") if folder.startswith("/proc") else "?"
        except OSError:
            continue
    return found


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """Keeps the collector from going through all modules, and all of pytest's notes, twice a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def loop_factory() -> LoopFactory:
    if os.environ.get("PINLOOP_TEST_LOOP") == "asyncio":
        return asyncio.new_event_loop
    import pinloop

    if tasks := os.environ.get("PINLOOP_TEST_TASKS"):
        return functools.partial(pinloop.new_event_loop, tasks=tasks)
    return pinloop.new_event_loop


@contextlib.contextmanager
def short_turns(seconds: float = 1e-5) -> Iterator[None]:
    """Threads take turns this often: in many more orders, and one that never waits starves no other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def no_fd_leak() -> Iterator[None]:
    """Fails the test if it ends with more open file descriptors than it began with."""
    gc.collect()
    before = open_fds()
    yield
    gc.collect()
    leaked = {fd: what for fd, what in open_fds().items() if before.get(fd) != what}
    assert not leaked, f"file descriptors left open: {leaked}"


@pytest.fixture
def loop_errors() -> Iterator[list[Context]]:
    """What the loop's exception handler was told. A test that expects errors clears the list."""
    errors: list[Context] = []
    yield errors
    assert not errors, f"reported to the loop's exception handler: {errors}"


@pytest.fixture
def loop(
    loop_factory: LoopFactory, loop_errors: list[Context], no_fd_leak: None
) -> Iterator[asyncio.AbstractEventLoop]:
    """A fresh loop, not set as anyone's current loop, closed after the test."""
    loop = loop_factory()
    loop.set_exception_handler(lambda _, context: loop_errors.append(context))
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def run(loop_factory: LoopFactory, loop_errors: list[Context], no_fd_leak: None) -> Run:
    """Runs a coroutine to its end on a loop of its own, as asyncio.run does."""

    def run(coro: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
        with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
            return runner.run(coro)

    return run
