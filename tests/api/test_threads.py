"""Loops in threads: each its own, and what they may ask of each other."""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def other(loop_factory: Callable[[], Loop], no_fd_leak: None) -> Iterator[Loop]:
    """A second loop, which runs in a thread of its own."""
    other = loop_factory()
    running = threading.Event()
    other.call_soon(running.set)
    thread = threading.Thread(target=other.run_forever, name="the other loop")
    thread.start()
    assert running.wait(10)
    yield other
    other.call_soon_threadsafe(other.stop)
    thread.join(10)
    assert not thread.is_alive()
    other.run_until_complete(other.shutdown_default_executor())
    other.close()


async def where() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_run_coroutine_threadsafe_runs_it_there(other: Loop) -> None:
    future = asyncio.run_coroutine_threadsafe(where(), other)
    assert future.result(10) == "the other loop"


def test_run_coroutine_threadsafe_gives_the_exception_back(other: Loop) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        asyncio.run_coroutine_threadsafe(fail(), other).result(10)


def test_cancelling_the_threads_future_cancels_the_task(other: Loop) -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def sleep() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = asyncio.run_coroutine_threadsafe(sleep(), other)
    assert started.wait(10)
    assert future.cancel()
    assert cancelled.wait(10)


def test_main_runs_a_loop_meanwhile(loop: Loop, other: Loop) -> None:
    async def main() -> list[str]:
        there = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(where(), other))
        return [await there, await where()]

    assert loop.run_until_complete(main()) == ["the other loop", "MainThread"]


def test_two_loops_pass_a_ball(loop: Loop, other: Loop) -> None:
    async def main() -> int:
        done = loop.create_future()

        def there(count: int) -> None:
            loop.call_soon_threadsafe(here, count + 1)

        def here(count: int) -> None:
            if count >= 2000:
                done.set_result(count)
            else:
                other.call_soon_threadsafe(there, count + 1)

        here(0)
        return await done

    assert loop.run_until_complete(main()) == 2000


def test_calls_of_one_thread_run_in_their_order(other: Loop) -> None:
    seen: list[int] = []
    done = threading.Event()
    for n in range(10_000):
        other.call_soon_threadsafe(seen.append, n)
    other.call_soon_threadsafe(done.set)
    assert done.wait(10)
    assert seen == list(range(10_000))


def test_calls_of_many_threads_all_run(other: Loop) -> None:
    seen: list[tuple[int, int]] = []

    def push(thread: int) -> None:
        for n in range(2000):
            other.call_soon_threadsafe(seen.append, (thread, n))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(8)))
    done = threading.Event()
    other.call_soon_threadsafe(done.set)
    assert done.wait(10)
    assert len(seen) == 16_000
    for thread in range(8):
        assert [n for who, n in seen if who == thread] == list(range(2000))


def test_a_call_from_a_thread_wakes_a_loop_that_sleeps(other: Loop) -> None:
    for _ in range(50):
        time.sleep(0.001)  # the loop has gone to sleep, most likely
        ran = threading.Event()
        other.call_soon_threadsafe(ran.set)
        assert ran.wait(10)


def test_a_cancelled_call_does_not_run(other: Loop) -> None:
    gate, ran, done = threading.Event(), threading.Event(), threading.Event()
    other.call_soon_threadsafe(gate.wait, 10)
    handle = other.call_soon_threadsafe(ran.set)
    other.call_soon_threadsafe(done.set)
    handle.cancel()
    gate.set()
    assert done.wait(10)
    assert not ran.is_set()


def test_each_thread_has_its_own_running_loop(loop: Loop, other: Loop) -> None:
    async def running() -> Loop:
        return asyncio.get_running_loop()

    assert asyncio.run_coroutine_threadsafe(running(), other).result(10) is other
    assert loop.run_until_complete(running()) is loop


def test_a_future_of_another_loop_cannot_be_awaited(loop: Loop, other: Loop) -> None:
    future = other.create_future()

    async def main() -> None:
        await future

    with pytest.raises(RuntimeError, match="attached to a different loop"):
        loop.run_until_complete(main())


def test_stop_from_a_thread_stops_a_loop_that_sleeps(loop: Loop) -> None:
    def stop() -> None:
        started.wait(10)
        loop.call_soon_threadsafe(loop.stop)

    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=stop)
    thread.start()
    loop.run_forever()
    thread.join(10)
    assert not loop.is_running()


def test_many_loops_run_side_by_side(loop_factory: Callable[[], Loop], no_fd_leak: None) -> None:
    async def echo_some(n: int) -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1000))
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            for _ in range(20):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(bytes([n]) * 1000)
                got = await reader.read()
                writer.close()
                await writer.wait_closed()
                assert got == bytes([n]) * 1000
        return got[:1]

    def in_thread(n: int) -> bytes:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(echo_some(n))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(in_thread, range(6))) == [bytes([n]) for n in range(6)]


def test_a_loop_may_be_made_in_one_thread_and_run_in_another(loop: Loop) -> None:
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(loop.run_until_complete(where())), name="elsewhere"
    )
    thread.start()
    thread.join(10)
    assert results == ["elsewhere"]
    assert loop.run_until_complete(where()) == "MainThread"
