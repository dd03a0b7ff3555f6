"""Many loops, loops in several threads, calls from signal handlers and into loops that close, timers."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import unlike_asyncio
from tests.conftest import open_fds

Loop = asyncio.AbstractEventLoop
Factory = Callable[[], Loop]


def test_a_thousand_loops_leave_nothing(loop_factory: Factory) -> None:
    def one() -> None:
        loop = loop_factory()
        loop.call_later(3600, print)
        near, far = socket.socketpair()
        loop.add_reader(near, print)
        loop.run_until_complete(asyncio.sleep(0))
        loop.remove_reader(near)
        loop.close()
        near.close()
        far.close()

    for _ in range(200):
        one()
    gc.collect()
    fds, peak = open_fds(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(800):
        one()
    gc.collect()
    assert open_fds().keys() == fds.keys()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < (8 << 20 if sys.platform == "darwin" else 8 << 10)  # bytes there, KiB elsewhere


# ------------------------------------------------------------------------------- threads --


async def everything(rounds: int) -> int:
    """A server, its clients and children on this loop; the number of answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    async def ask(address: tuple[Any, ...]) -> int:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return int(answer == b"hello")

    async def child(number: int) -> int:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"cat; exit {number}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(b"hello")
        return int((out, process.returncode) == (b"hello", number))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        answers = 0
        for number in range(1, rounds + 1):
            answers += sum(await asyncio.gather(*(ask(address) for _ in range(10)), child(number)))
    return answers


@pytest.mark.filterwarnings("ignore:.*child watcher.*:DeprecationWarning")
def test_loops_of_several_threads_serve_and_have_children_side_by_side(
    loop_factory: Factory, no_fd_leak: None
) -> None:
    answers: list[int] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            answers.append(runner.run(everything(5)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    run()
    for thread in threads:
        thread.join(30)
    assert answers == [55] * 4


# ------------------------------------------------------------------------------- signals --


def test_a_signal_handler_can_call_the_loop(loop: Loop) -> None:
    calls: list[int] = []
    handled: list[int] = []
    sent = 200
    done = loop.create_future()

    def called() -> None:
        calls.append(len(calls))
        if len(calls) == sent and not done.done():
            done.set_result(None)

    def handler(*_: object) -> None:
        handled.append(len(handled))
        loop.call_soon_threadsafe(called)

    async def main() -> None:
        for number in range(sent):
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(handled) == number:  # two that wait to be handled are one
                time.sleep(0)
            if len(calls) % 3:
                await asyncio.sleep(0)
        await asyncio.wait_for(done, 10)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == list(range(sent))


def test_a_signal_handler_ends_a_loop_that_sleeps(loop: Loop) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: loop.call_soon_threadsafe(loop.stop))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.run_forever()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_that_meets_a_closed_loop_is_told_so(loop: Loop) -> None:
    errors: list[str] = []

    def handler(*_: Any) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as exc:
            errors.append(str(exc))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.close()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert errors == ["Event loop is closed"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_threads_call_while_a_loop_closes_runs_or_is_refused_and_is_let_go(
    loop_factory: Factory, no_fd_leak: None
) -> None:
    class Load:
        """Counts those of its kind that are alive."""

        alive = 0

        def __init__(self) -> None:
            Load.alive += 1

        def __del__(self) -> None:
            Load.alive -= 1

        def __call__(self) -> None:
            pass

    for _ in range(10):
        loop = loop_factory()
        begun = threading.Barrier(4)

        def call(loop: Loop = loop, begun: threading.Barrier = begun) -> None:
            begun.wait(10)
            try:
                while True:
                    loop.call_soon_threadsafe(Load())
                    if Load.alive > 10_000:
                        time.sleep(0.0001)  # three threads outrun one: hundreds of megabytes otherwise
            except RuntimeError:
                pass

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(10)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    del loop, call
    gc.collect()
    assert Load.alive == 0


# -------------------------------------------------------------------------------- timers --


@unlike_asyncio("runs what is due within a tick of the clock")
def test_of_thousands_of_timers_none_is_early(loop: Loop) -> None:
    early: list[float] = []
    left = 6000

    def check(when: float) -> None:
        nonlocal left
        now = loop.time()
        if now < when:
            early.append(when - now)
        left -= 1
        if not left:
            loop.stop()

    start = loop.time()
    for i in range(2000):
        when = start + i * 37e-6
        loop.call_at(when, check, when)
        delay = i * 41e-6
        loop.call_later(delay, check, loop.time() + delay)
        loop.call_at(when + 1e-9 * i, check, when + 1e-9 * i)
    loop.run_forever()
    assert early == []


def test_no_sleep_is_short_and_no_timeout_early(run: Any) -> None:
    async def sleep(delay: float) -> float:
        start = time.monotonic()
        await asyncio.sleep(delay)
        return time.monotonic() - start - delay

    async def time_out(delay: float) -> float:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay):
                await asyncio.get_running_loop().create_future()
        return time.monotonic() - start - delay

    async def main() -> list[float]:
        each = [kind(i * 53e-6) for i in range(1, 1000) for kind in (sleep, time_out)]
        return await asyncio.gather(*each)

    # What the clock's own tick hides: loop.time() is a float of seconds.
    assert min(run(main())) > -1e-6
