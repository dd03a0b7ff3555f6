"""Many children at once, several threads' loops at once: no status lost, no zombie, no descriptor left."""

import asyncio
import gc
import os
import signal
import threading
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, children, only_pinloop
from tests.conftest import LoopFactory, Run

AT_ONCE = 50  # children of one loop; each with pipes holds three descriptors


async def statuses(count: int, **options: Any) -> list[int]:
    """The exit statuses of `count` children, the i-th of which exits with i % 256."""
    found = [-1] * count
    free = asyncio.Semaphore(AT_ONCE)

    async def one(i: int) -> None:
        async with free:
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {i % 256}", **options)
            if options:
                await process.communicate(b"x")
            found[i] = await process.wait()
            assert process.returncode == found[i]

    await asyncio.gather(*(one(i) for i in range(count)))
    return found


def expected(count: int) -> list[int]:
    return [i % 256 for i in range(count)]


def in_threads(factory: LoopFactory, threads: int, count: int, *, main_too: bool) -> None:
    """Run `count` children on each of several threads' loops at once, and on the main thread's."""
    results: dict[int, list[int]] = {}

    def work(i: int) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            results[i] = runner.run(statuses(count))

    started = [threading.Thread(target=work, args=(i,)) for i in range(1, threads + 1)]
    for thread in started:
        thread.start()
    if main_too:
        work(0)
    for thread in started:
        thread.join()
    assert results == {i: expected(count) for i in range(0 if main_too else 1, threads + 1)}


def test_many_on_one_loop(run: Run) -> None:
    before = children()
    assert run(statuses(300)) == expected(300)
    assert children() == before


def test_many_with_pipes(run: Run) -> None:
    before = children()
    assert run(statuses(200, stdin=PIPE, stdout=PIPE, stderr=PIPE)) == expected(200)
    assert children() == before


@pytest.mark.parametrize("main_too", [True, False])
def test_many_on_several_threads_loops(loop_factory: LoopFactory, no_fd_leak: None, main_too: bool) -> None:
    if not ON_PINLOOP and not main_too:
        pytest.skip("older asyncio needs a loop in the main thread")
    before = children()
    in_threads(loop_factory, 3, 250, main_too=main_too)
    assert children() == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_on_several_threads_loops(loop_factory: LoopFactory, no_fd_leak: None) -> None:
    before = children()
    in_threads(loop_factory, 3, 2500, main_too=True)
    assert children() == before


def test_many_that_are_killed(run: Run) -> None:
    async def one() -> int:
        process = await asyncio.create_subprocess_exec("sleep", "1000", stdout=DEVNULL)
        process.kill()
        return await process.wait()

    async def main() -> list[int]:
        return await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    before = children()
    assert run(main()) == [-signal.SIGKILL] * AT_ONCE
    assert children() == before


def test_many_that_fail_to_start(run: Run) -> None:
    async def main() -> None:
        for _ in range(50):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)

    before = children()
    run(main())
    assert children() == before


# -------------------------------------------------------------------- without pidfds --


@pytest.fixture(params=["missing", "forbidden"])
def no_pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel or another system, or a sandbox that forbids the call."""

    def pidfd_open(pid: int, flags: int = 0) -> int:
        raise PermissionError(1, "not here")

    if request.param == "missing":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    else:
        monkeypatch.setattr(os, "pidfd_open", pidfd_open, raising=False)


def end_of_waiters() -> None:
    """Wait until the threads that wait for children are gone."""
    for thread in threading.enumerate():
        if thread.name.startswith("pinloop-waitpid"):
            thread.join(20)


@only_pinloop
def test_many_without_pidfds(no_pidfd: None, run: Run) -> None:
    before = children()
    assert run(statuses(200)) == expected(200)
    assert run(statuses(50, stdin=PIPE, stdout=PIPE)) == expected(50)
    end_of_waiters()
    assert children() == before


@only_pinloop
def test_several_threads_loops_without_pidfds(
    no_pidfd: None, loop_factory: LoopFactory, no_fd_leak: None
) -> None:
    before = children()
    in_threads(loop_factory, 2, 100, main_too=True)
    end_of_waiters()
    assert children() == before


@only_pinloop
def test_signals_without_pidfds(no_pidfd: None, run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "read line; exit 3", stdin=PIPE)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.kill()  # it has ended, which nobody was told yet
        assert await process.wait() == 3
        await asyncio.sleep(0.01)
        with pytest.raises(ProcessLookupError):
            process.kill()

    run(main())


@only_pinloop
def test_close_without_pidfds(no_pidfd: None, run: Run) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for script, status in (("sleep 1000", -signal.SIGKILL), ("read line; exit 4", 4)):
            transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "/bin/sh", "-c", script)
            if status > 0:
                transport.get_pipe_transport(0).write(b"\n")
                os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
            transport.close()
            assert await transport._wait() == status

    run(main())


@only_pinloop
def test_a_child_that_no_thread_can_wait_for_is_not_left_behind(
    no_pidfd: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        monkeypatch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"):
            await asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE)

    before = children()
    run(main())
    monkeypatch.undo()
    gc.collect()
    assert children() == before


@only_pinloop
def test_somebody_else_waits_without_pidfds(
    no_pidfd: None, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "read line; exit 3", stdin=PIPE)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        os.waitpid(process.pid, 0)
        assert await process.wait() == 255

    run(main())
    assert "will report returncode 255" in caplog.text


@only_pinloop
def test_a_loop_closed_with_a_child_running_without_pidfds(
    no_pidfd: None, loop: asyncio.AbstractEventLoop
) -> None:
    """The thread takes the status, since nobody else will."""

    async def main() -> Any:
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        return process._transport  # type: ignore[attr-defined]

    before = children()
    transport = loop.run_until_complete(main())
    loop.close()
    transport.close()
    end_of_waiters()
    assert children() == before
    transport.get_extra_info("subprocess").returncode = -signal.SIGKILL  # or it warns that it is running
