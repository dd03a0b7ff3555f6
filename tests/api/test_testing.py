"""pinloop.testing: virtual time, what is reported and how, on pinloop's loop and on asyncio's."""

import asyncio
import contextlib
import gc
import os
import re
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from pinloop.testing import Deadlock, Leftovers, Livelock, explore, new_event_loop, run

KINDS = ["pinloop", "asyncio"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What a virtual loop is made of."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINLOOP_SEED", raising=False)


def now() -> float:
    return asyncio.get_running_loop().time()


def notes(failure: BaseException) -> str:
    return "\n".join(getattr(failure, "__notes__", []))


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


# ---------------------------------------------------------------------------- the clock --


def test_the_clock_starts_at_zero_and_jumps(kind: str) -> None:
    async def main() -> list[float]:
        times = [now()]
        await asyncio.sleep(3600)
        times.append(now())
        await asyncio.sleep(0.25)
        return [*times, now()]

    began = time.monotonic()
    assert run(main(), loop=kind) == [0, 3600, 3600.25]
    assert time.monotonic() - began < 60


def test_the_clock_stands_still_while_anything_is_ready(kind: str) -> None:
    async def main() -> float:
        sleeper = asyncio.create_task(asyncio.sleep(0.000001))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not sleeper.done()
        stood = now()
        await sleeper
        return stood

    assert run(main(), loop=kind) == 0


@pytest.mark.parametrize("seed", range(8))
def test_timers_fire_in_the_order_of_their_times(kind: str, seed: int) -> None:
    async def main() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[float, float]] = []

        def fire(delay: float) -> None:
            fired.append((delay, loop.time()))

        for delay in (5.0, 0.001, 3, 1e-9, 0.5, 3600):
            loop.call_later(delay, fire, delay)
        await asyncio.sleep(7200)
        return fired

    assert run(main(), loop=kind, seed=seed) == [(d, d) for d in (1e-9, 0.001, 0.5, 3, 5, 3600)]


def test_a_cancelled_timer_does_not_move_the_clock(kind: str) -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(100, print).cancel()
        async with asyncio.timeout(50):
            await asyncio.sleep(1)
        return now()

    assert run(main(), loop=kind) == 1


def test_time_outs_are_counted_in_virtual_time(kind: str) -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await wait_for_ever()
        return now()

    assert run(main(), loop=kind) == 1000


def test_a_runner_takes_the_loop(kind: str) -> None:
    with asyncio.Runner(loop_factory=lambda: new_event_loop(loop=kind)) as runner:
        runner.run(asyncio.sleep(10))
        assert runner.get_loop().time() == 10
        runner.run(asyncio.sleep(5))
        assert runner.get_loop().time() == 15


# -------------------------------------------------------------------- what happens really --


@pytest.mark.parametrize("seed", [0, 3])
def test_calls_in_threads_are_waited_for(kind: str, seed: int, no_fd_leak: None) -> None:
    async def main() -> float:
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.1)
        return now()

    assert run(main(), loop=kind, seed=seed) == 0


def test_a_thread_that_waits_for_the_loop_does_not_hang_it(kind: str) -> None:
    async def main() -> float:
        event = threading.Event()
        waiting = asyncio.create_task(asyncio.to_thread(event.wait))
        await asyncio.sleep(1)
        event.set()
        assert await waiting
        return now()

    assert run(main(), loop=kind, job_patience=0.05) == 1


def test_a_thread_that_never_ends_is_named_in_the_deadlock(kind: str) -> None:
    event = threading.Event()

    async def main() -> None:
        try:
            await asyncio.to_thread(event.wait)
        finally:
            event.set()

    with pytest.raises(Deadlock, match="though 1 thread or process did not end"):
        run(main(), loop=kind, job_patience=0.05)


def test_a_thread_of_ones_own_may_call_soon(kind: str) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, "done"))
        thread.start()
        try:
            return await future
        finally:
            thread.join()

    assert run(main(), loop=kind, io_patience=10) == "done"


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_sockets_within_the_test(kind: str, seed: int, no_fd_leak: None) -> None:
    ends: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        await asyncio.sleep(30)
        writer.close()
        await writer.wait_closed()
        ends[0].set_result(None)

    async def main() -> tuple[bytes, float]:
        ends.append(asyncio.get_running_loop().create_future())
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"line\n")
            answer = await reader.readline()
            stood = now()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            await ends[0]
            return answer, stood

    # The handler's own task ends a callback later than what it tells.
    answer, stood = run(main(), loop=kind, seed=seed, strict=False, io_patience=0.1)
    assert (answer, stood) == (b"LINE\n", 0)


def test_a_socket_on_which_nothing_comes_is_a_deadlock(kind: str, no_fd_leak: None) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            await asyncio.get_running_loop().sock_recv(near, 1)

    with pytest.raises(Deadlock):
        run(main(), loop=kind)


def test_children_are_waited_for(kind: str, no_fd_leak: None) -> None:
    async def main() -> tuple[bytes, float]:
        code = "import time; time.sleep(0.2); print('done')"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(0.001):
            out, _ = await child.communicate()
        return out, now()

    with contextlib.ExitStack() as stack:
        if kind == "asyncio" and sys.version_info < (3, 12):
            stack.enter_context(threaded_watcher())
        assert run(main(), loop=kind) == (b"done\n", 0)


@contextlib.contextmanager
def threaded_watcher() -> Any:
    """asyncio before 3.12 watches children by a policy's watcher, of which this kind needs no main loop."""
    watcher = asyncio.ThreadedChildWatcher()  # type: ignore[attr-defined, unused-ignore]
    before = asyncio.get_child_watcher()  # type: ignore[attr-defined, unused-ignore]
    asyncio.set_child_watcher(watcher)  # type: ignore[attr-defined, unused-ignore]
    yield
    asyncio.set_child_watcher(before)  # type: ignore[attr-defined, unused-ignore]


def test_signals_arrive(kind: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, arrived.set)
        loop.call_later(5, os.kill, os.getpid(), signal.SIGUSR1)
        await arrived.wait()
        assert loop.time() == 5
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main(), loop=kind, io_patience=1)


# ------------------------------------------------------------------------------- the ends --


@pytest.mark.parametrize("seed", [0, 5])
def test_a_deadlock_says_who_waits_where(kind: str, seed: int) -> None:
    async def consumer(queue: asyncio.Queue[int]) -> None:
        await queue.get()

    async def main() -> None:
        await asyncio.sleep(2)
        await asyncio.gather(consumer(asyncio.Queue()), wait_for_ever())

    with pytest.raises(Deadlock) as caught:
        run(main(), loop=kind, seed=seed)
    report = str(caught.value)
    assert "at 2 s of virtual time; 3 tasks not done:" in report
    assert "test_a_deadlock_says_who_waits_where.<locals>.consumer():\n" in report
    assert "await queue.get()" in report
    assert "queues.py" in report
    assert "wait_for_ever():\n" in report


def test_a_deadlock_sees_through_asynchronous_generators(kind: str) -> None:
    async def items() -> AsyncIterator[int]:
        await wait_for_ever()
        yield 1

    async def main() -> None:
        async for _ in items():
            pass

    with pytest.raises(Deadlock, match=r"in main\n.*\n.* in items\n.*\n.* in wait_for_ever\n"):
        run(main(), loop=kind)


def test_a_timer_at_infinity_is_none(kind: str) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(float("inf"), print)
        await wait_for_ever()

    with pytest.raises(Deadlock):
        run(main(), loop=kind)


def test_after_a_deadlock_tasks_clean_up(kind: str) -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            await asyncio.sleep(100)
            ended.append("main")

    with pytest.raises(Deadlock):
        run(main(), loop=kind)
    assert ended == ["main"]


def test_a_task_that_waits_again_after_a_deadlock_is_told_of(kind: str) -> None:
    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            await wait_for_ever()

    with pytest.raises(Deadlock) as caught:
        run(main(), loop=kind)
    assert "Then, while the tasks were cancelled: Deadlock" in notes(caught.value)


@pytest.mark.parametrize("seed", [0, 1])
def test_going_round_for_ever_is_a_livelock(kind: str, seed: int) -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="still at it after 1000 steps, at 0 s") as caught:
        run(main(), loop=kind, seed=seed, max_steps=1000)
    assert "main():" in str(caught.value)


def test_a_clock_that_goes_on_for_ever_is_a_livelock(kind: str) -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(Livelock, match="still at it after 3600 s of virtual time"):
        run(main(), loop=kind, timeout=3600)


@pytest.mark.parametrize("strict", [True, False])
def test_tasks_left_over(kind: str, strict: bool) -> None:
    ended: list[str] = []

    async def worker() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            ended.append("worker")

    async def main() -> str:
        tasks.append(asyncio.create_task(worker()))
        await asyncio.sleep(0.5)
        return "result"

    tasks: list[Any] = []
    if strict:
        with pytest.raises(Leftovers, match="the test ended before 1 task, which nobody awaited") as caught:
            run(main(), loop=kind)
        assert "await asyncio.sleep(1)" in str(caught.value)
    else:
        assert run(main(), loop=kind, strict=False) == "result"
    assert ended == ["worker"]
    assert tasks[0].cancelled()


def test_a_task_that_has_not_begun_is_left_over_as_such(kind: str) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task
        task.add_done_callback(lambda _: tasks.append(asyncio.create_task(wait_for_ever())))

    tasks: list[Any] = []
    with pytest.raises(
        Leftovers, match=r"wait_for_ever\(\), has not begun:\n.*\n.*async def wait_for_ever\(\)"
    ):
        run(main(), loop=kind)


def test_generators_left_open(kind: str) -> None:
    ended: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("items")

    async def main() -> None:
        kept.append(items())
        assert await anext(kept[0]) == 1

    kept: list[Any] = []
    with pytest.raises(Leftovers, match=r"1 asynchronous generator, as by contextlib.aclosing:\n.*items\(\)"):
        run(main(), loop=kind)
    assert ended == ["items"]
    kept.clear()
    run(main(), loop=kind, strict=False)


def test_generators_that_are_done_or_closed_are_fine(kind: str) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        kept.append(items())
        async for _ in kept[0]:
            pass
        async with contextlib.aclosing(items()) as closed:  # type: ignore[type-var]
            await anext(closed)

    kept: list[Any] = []
    run(main(), loop=kind)


def test_what_the_exception_handler_was_told_is_a_failure(kind: str) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(ZeroDivisionError) as caught:
        explore(main, seeds=[4], loop=kind)
    assert "The loop's exception handler was told: Exception in callback" in notes(caught.value)
    assert "under seed 4" in notes(caught.value)


def test_an_exception_that_nobody_retrieved_is_a_failure_though_it_is_in_a_cycle(kind: str) -> None:
    async def fail() -> None:
        me = asyncio.current_task()
        assert me
        raise ZeroDivisionError("mine")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        explore(main, seeds=3, loop=kind)
    assert "exception was never retrieved" in notes(caught.value)
    assert "under the usual order" in notes(caught.value)


# -------------------------------------------------------------------------------- explore --


async def passes() -> None:
    await asyncio.sleep(1)


def test_each_seed_has_a_loop_of_its_own_which_is_closed(kind: str, no_fd_leak: None) -> None:
    async def test() -> None:
        loops.append(asyncio.get_running_loop())

    loops: list[asyncio.AbstractEventLoop] = []
    explore(test, seeds=20, loop=kind)
    assert len(set(map(id, loops))) == 20
    assert all(loop.is_closed() for loop in loops)


def test_each_seed_has_a_context_of_its_own(kind: str) -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)

    async def test() -> None:
        assert variable.get() == 0
        variable.set(1)

    explore(test, seeds=3, loop=kind)


def test_the_failing_seed_is_in_a_note_and_runs_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        order: list[int] = []

        async def step(number: int) -> None:
            order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(step(number))
        orders.append(order)
        assert order[0] != 3

    orders: list[list[int]] = []
    with pytest.raises(AssertionError) as caught:
        explore(test, seeds=200, loop=kind)
    found = re.search(
        r"under seed (\d+)\. Again with PINLOOP_SEED=(\d+), or seed=(\d+)\.", notes(caught.value)
    )
    assert found
    seed = int(found[1])
    assert found.groups() == (str(seed),) * 3
    assert len(orders) == seed + 1  # all before it passed, and none after it ran

    with pytest.raises(AssertionError):
        explore(test, seed=seed, loop=kind)
    monkeypatch.setenv("PINLOOP_SEED", str(seed))
    with pytest.raises(AssertionError):
        explore(test, seeds=1, loop=kind)
    assert orders[-3] == orders[-2] == orders[-1]
    assert len(orders) == seed + 3


def test_seeds_may_be_chosen(kind: str) -> None:
    async def test() -> None:
        ran.append(1)

    ran: list[int] = []
    explore(test, seeds=(seed for seed in (7, 1 << 63, (1 << 64) - 1)), loop=kind)
    assert len(ran) == 3


@explore(seeds=5)
async def test_the_decorator_makes_a_test() -> None:
    await asyncio.sleep(3600)
    assert now() == 3600


@pytest.mark.parametrize("number", [1, 2])
@explore(seeds=5, loop="asyncio")
async def test_the_decorator_passes_fixtures_and_parameters_on(number: int, tmp_path: Any) -> None:
    assert number in {1, 2}
    assert tmp_path.is_dir()


class TestMethods:
    @explore(seeds=5)
    async def test_the_decorator_makes_a_method(self) -> None:
        assert isinstance(self, TestMethods)
        await asyncio.sleep(0)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.lists(st.floats(0, 100), max_size=5))
@explore(seeds=5)
async def test_hypothesis_stands_above(delays: list[float]) -> None:
    ended: list[float] = []

    async def sleeper(delay: float) -> None:
        await asyncio.sleep(delay)
        ended.append(now())

    await asyncio.gather(*map(sleeper, delays))
    assert ended == sorted(ended)


def test_hypothesis_shrinks_what_explore_finds() -> None:
    @hypothesis.settings(database=None, max_examples=200, deadline=None)
    @hypothesis.given(st.integers(0, 1000))
    @explore(seeds=10)
    async def test(number: int) -> None:
        await asyncio.sleep(number)
        assert number < 37

    with pytest.raises(AssertionError) as caught:
        test()
    assert "number=37" in notes(caught.value)
    assert "PINLOOP_SEED=0" in notes(caught.value)


def test_the_decorated_keeps_its_name_and_documentation() -> None:
    @explore(seeds=1)
    async def documented() -> None:
        """What it is for."""

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it is for."
    assert not asyncio.iscoroutinefunction(documented) if sys.version_info < (3, 14) else True


@pytest.mark.parametrize("outcome", [KeyboardInterrupt, SystemExit, pytest.skip.Exception])
def test_what_is_no_failure_comes_out_as_it_is(kind: str, outcome: type[BaseException]) -> None:
    async def test() -> None:
        raise outcome("mine")

    with pytest.raises(outcome, match="mine"):
        explore(test, seeds=2, loop=kind)


def test_a_cancelled_test_raises_cancelled_error(kind: str) -> None:
    async def test() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        explore(test, seeds=2, loop=kind)


# ------------------------------------------------------------------------------ bad input --


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({}, TypeError, "either seeds"),
        ({"seeds": 1, "seed": 1}, TypeError, "either seeds"),
        ({"seeds": 0}, ValueError, "seeds must be 1 or more, not 0"),
        ({"seeds": []}, ValueError, "must not be empty"),
        ({"seeds": True}, TypeError, "not 'bool'"),
        ({"seeds": 1.5}, TypeError, "not 'float'"),
        ({"seeds": ["1"]}, TypeError, "a seed must be an int, not 'str'"),
        ({"seed": -1}, ValueError, "a seed must be from 0"),
        ({"seed": 1 << 64}, ValueError, "a seed must be from 0"),
        ({"seeds": 1, "loop": "uvloop"}, ValueError, 'loop must be "pinloop" or "asyncio"'),
        ({"seeds": 1, "timeout": 0}, ValueError, "timeout must be more than 0"),
        ({"seeds": 1, "timeout": float("nan")}, ValueError, "timeout must be more than 0"),
        ({"seeds": 1, "timeout": "1"}, TypeError, "timeout must be a number"),
        ({"seeds": 1, "max_steps": 0}, ValueError, "max_steps must be more than 0"),
        ({"seeds": 1, "max_steps": 1.0}, TypeError, "max_steps must be an int"),
        ({"seeds": 1, "io_patience": -1}, ValueError, "io_patience must be 0 or more"),
        ({"seeds": 1, "job_patience": None}, TypeError, "job_patience must be a number"),
    ],
)
def test_bad_arguments(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explore(passes, **keywords)


def test_what_gives_no_awaitable(kind: str) -> None:
    with pytest.raises(TypeError, match="should give an awaitable"):
        explore(lambda: None, seeds=1, loop=kind)  # type: ignore[arg-type, return-value]


def test_within_a_running_loop(kind: str) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="not from within a running event loop"):
            explore(passes, seeds=1, loop=kind)
        coro = passes()
        with pytest.raises(RuntimeError, match="not from within a running event loop"):
            run(coro, loop=kind)
        coro.close()

    asyncio.run(main())


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", str(1 << 64)])
def test_a_bad_seed_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINLOOP_SEED", text)
    with pytest.raises(ValueError, match=f"PINLOOP_SEED must be a seed, .* not '{text}'"):
        explore(passes, seeds=1)


def test_without_strict_what_the_handler_was_told_is_no_failure_and_is_not_kept(kind: str) -> None:
    class Failure(Exception):
        pass

    def fail() -> None:
        failure = Failure()
        failures.append(weakref.ref(failure))
        raise failure

    async def test() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1)
        gc.collect()
        assert [each() for each in failures[:-1]] == [None] * (len(failures) - 1)

    failures: list[weakref.ref[Failure]] = []
    explore(test, seeds=5, loop=kind, strict=False)
    assert len(failures) == 5
