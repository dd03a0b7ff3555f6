"""Calls: results, errors, cancellation, what travels with them."""

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import pinloop
from pinloop.workers import RemoteTraceback, Unpicklable, Workers, WorkersClosed
from tests.workers import jobs
from tests.workers.conftest import Use

Told = tuple[str, Callable[[str], Awaitable[None]]]

# ----------------------------------------------------------------------------------------- results --


def test_coroutine_functions_and_plain_ones(use: Use) -> None:
    async def test(pool: Workers) -> None:
        assert await pool.run(jobs.add, 1, 2) == 3
        value, where = await pool[1].run(jobs.plain, "x")
        assert value == "x" and where == pool[1].pid
        assert (where == os.getpid()) == (pool.backend == "thread")
        assert await pool.run(functools.partial(jobs.add, b=5), 1) == 6
        assert await pool.run(jobs.wait) == "awaited"
        assert await pool.run(max, 3, 4) == 4
        assert await pool.run("a-{}".format, 7) == "a-7"

    use(test)


def test_workers_run_a_loop_of_pinloop(use: Use) -> None:
    async def test(pool: Workers) -> None:
        assert await pool.run(jobs.name_of_loop) == "pinloop._loop"
        where = await pool[1].run(jobs.worker)
        assert (where.index, where.cpus, where.backend, where.state) == (1, None, pool.backend, None)
        assert pinloop.workers.current_worker() is None

    use(test)


def test_calls_go_to_the_worker_with_the_fewest(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        path, wait_for = told
        long = pool[0].submit(jobs.touch_and_wait, path)
        await wait_for("running")
        assert {(await pool.run(jobs.worker)).index for _ in range(4)} == {1}
        long.cancel()
        await asyncio.wait([long])
        assert {(await pool.run(jobs.worker)).index for _ in range(4)} == {0, 1}

    use(test)


def test_many_calls_at_once(use: Use) -> None:
    async def test(pool: Workers) -> None:
        results = await asyncio.gather(*(pool.run(jobs.add, i, 1) for i in range(3000)))
        assert results == list(range(1, 3001))

    use(test)


def test_results_leave_while_others_compute(use: Use) -> None:
    """Where loops share a GIL, the one that computes has to let it go."""

    async def test(pool: Workers) -> None:
        for job in (jobs.busy, jobs.busy_later):
            calls = [pool[0].submit(job, 0.002) for _ in range(100)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert sum(call.done() for call in calls) < 75  # 1, where nothing holds it up here
            await asyncio.wait(calls)

    use(test)


@pytest.mark.parametrize("size", [0, 1, 100_000, 300_000, 5_000_000])
def test_sizes(use: Use, size: int) -> None:
    async def test(pool: Workers) -> None:
        value = os.urandom(size)
        got = await asyncio.gather(*(pool.run(jobs.echo, [value, i]) for i in range(4)))
        assert got == [[value, i] for i in range(4)]

    use(test)


# ------------------------------------------------------------------------------------------ errors --


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize("job", [jobs.fail, jobs.fail_plainly])
def test_errors_have_the_traceback_of_the_worker(use: Use, job: Callable[[str], Any]) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(LookupError, match="gone") as caught:
            await pool.run(job, "gone")
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert f"in {job.__name__}" in str(caught.value.__cause__)
        assert "jobs.py" in str(caught.value.__cause__)

    use(test)


def test_groups_and_what_asyncio_treats_apart(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await pool.run(jobs.raise_group)
        assert [repr(error) for error in caught.value.exceptions] == ["ValueError('one')", "KeyError('two')"]
        with pytest.raises(BaseExceptionGroup):
            await pool.run(jobs.raise_base)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(jobs.raise_stop)
        with pytest.raises(asyncio.CancelledError, match="by itself"):
            await pool.run(jobs.cancel_itself, "by itself")

    use(test)


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize("job", [jobs.raise_picky, jobs.raise_holder])
def test_an_exception_that_cannot_travel_is_described(use: Use, job: Callable[[], Any]) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(Unpicklable, match=r"exception.*(Picky|Holder)") as caught:
            await pool[0].run(job)
        assert job.__name__ in str(caught.value.__cause__)
        assert await pool[0].run(jobs.add, 1, 1) == 2

    use(test)


@pytest.mark.usefixtures("pickling")
def test_an_argument_that_cannot_be_pickled_is_named(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(Unpicklable, match=r"argument 2 of a call of tests\.workers\.jobs\.add .*lock"):
            await pool.run(jobs.add, 1, threading.Lock())  # type: ignore[arg-type]
        if pool.backend == "process":
            with pytest.raises(Unpicklable, match=r"the function of a call of .*<lambda> cannot be sent"):
                await pool.run(lambda: 1)
        with pytest.raises(Unpicklable, match="cannot be unpickled: it went off"):
            await pool[0].run(jobs.echo, jobs.Explosive())
        assert await pool[0].run(jobs.add, 1, 1) == 2

    use(test)


@pytest.mark.usefixtures("pickling")
def test_a_result_that_cannot_be_pickled_is_named(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(Unpicklable, match=r"the result of tests\.workers\.jobs\.unpicklable .*lock"):
            await pool[0].run(jobs.unpicklable)
        with pytest.raises(Unpicklable, match=r"jobs\.explosive .*cannot be unpickled: it went off"):
            await pool[0].run(jobs.explosive)
        assert await pool[0].run(jobs.add, 1, 1) == 2

    use(test)


@pytest.mark.usefixtures("pickling")
def test_a_function_that_the_worker_does_not_have(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(pool: Workers) -> None:
        def only_here() -> None: ...

        only_here.__qualname__ = only_here.__name__ = "only_here"
        only_here.__module__ = jobs.__name__
        monkeypatch.setattr(jobs, "only_here", only_here, raising=False)
        for _ in range(2):
            with pytest.raises(Unpicklable, match=r"a function came to worker 0.*only_here"):
                await pool[0].run(only_here)

    use(test)


def test_asynchronous_generators_are_refused(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(TypeError, match="asynchronous generator function"):
            await pool.run(jobs.generate)

    use(test)


@pytest.mark.usefixtures("pickling")
def test_what_is_pickled_is_pickled_at_the_call(use: Use) -> None:
    async def test(pool: Workers) -> None:
        value = [1]
        task = asyncio.ensure_future(pool.run(jobs.echo, value))
        await asyncio.sleep(0)
        value.append(2)
        assert await task == [1]

    use(test)


# ------------------------------------------------------------------------------------ cancellation --


def test_cancellation_reaches_the_worker_and_is_awaited(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        path, wait_for = told
        task = pool.submit(jobs.slow_to_go, path)
        await wait_for("running")
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        with open(path) as file:
            assert file.read().split() == ["running", "gone"]

    use(test)


def test_cancelled_twice_it_waits_on(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        path, wait_for = told
        task = pool.submit(jobs.slow_to_go, path)
        await wait_for("running")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    use(test)


def test_a_call_that_will_not_be_cancelled(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        path, wait_for = told
        task = pool.submit(jobs.will_not_go, path)
        await wait_for("running")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    use(test)


def test_an_error_while_it_is_cancelled_is_raised(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        path, wait_for = told
        task = pool.submit(jobs.fails_to_go, path)
        await wait_for("running")
        task.cancel()
        with pytest.raises(LookupError, match="while it was cancelled"):
            await task

    use(test)


def test_cancelled_before_it_was_sent(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        task = pool.submit(jobs.touch_and_wait, told[0])
        task.cancel()
        await asyncio.wait([task])
        await asyncio.gather(*(worker.run(jobs.pid) for worker in pool))
        assert not os.path.exists(told[0])

    use(test)


def test_a_timeout(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await pool.run(asyncio.sleep, 100)

    use(test)


# ----------------------------------------------------------------------------- what travels besides --


def test_context_variables_travel(use: Use) -> None:
    async def test(pool: Workers) -> None:
        assert await pool[0].run(jobs.get_colour) == "none"
        jobs.colour.set("green")
        assert await pool[0].run(jobs.get_colour) == "green"
        assert await pool[0].run(jobs.get_colour_later) == "green"
        await pool[0].run(jobs.set_colour, "red")
        assert await pool[0].run(jobs.get_colour) == "green"
        jobs.colour.set(threading.Lock())
        if pool.backend != "thread":  # it stays here
            assert await pool[0].run(jobs.get_colour) == "none"
        else:
            assert await pool[0].run(jobs.get_colour) is jobs.colour.get()
        jobs.colour.set(None)
        assert await pool[0].run(jobs.get_colour) is None

    use(test)


def test_the_deadline_travels(use: Use) -> None:
    async def test(pool: Workers) -> None:
        assert await pool.run(jobs.remaining) is None
        async with pinloop.fail_after(30), pinloop.scope():
            left = await pool.run(jobs.remaining)
            assert left is not None and 25 < left <= 30
        async with pinloop.move_on_after(0.03) as s:
            await pool.run(asyncio.sleep, 100)
        assert s.cancelled_caught
        with pytest.raises(TimeoutError):
            async with pinloop.fail_after(0.03):
                await pool.run(asyncio.sleep, 100)

    use(test)


def test_a_deadline_that_was_put_off_after_the_call(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with pinloop.fail_after(0.05) as s:
                call = s.spawn(pool.run(asyncio.sleep, 100))
                await asyncio.sleep(0)
                s.deadline = None
        assert isinstance(call.exception(), TimeoutError)
        assert caught.value.exceptions == (call.exception(),)

    use(test)


# --------------------------------------------------------------------------------------- the pool --


def test_what_there_is_to_see(use: Use) -> None:
    async def test(pool: Workers) -> None:
        assert len(pool) == 2 and [worker.index for worker in pool] == [0, 1]
        assert pool[-1] is pool[1]
        with pytest.raises(IndexError, match="there is no worker 2: the pool has 2"):
            pool[2]
        with pytest.raises(TypeError):
            pool["0"]  # type: ignore[index]
        assert "open n=2" in repr(pool)
        assert f"pid={pool[0].pid}" in repr(pool[0])

    use(test)


def test_a_pool_that_is_not_open(run: Any) -> None:
    async def main() -> None:
        pool = Workers(1, placement=None)
        with pytest.raises(WorkersClosed, match="not entered"):
            await pool.run(jobs.pid)
        with pytest.raises(WorkersClosed):
            pool.submit(jobs.pid)
        with pytest.raises(WorkersClosed):
            pool[0]
        with pytest.raises(RuntimeError, match="cannot be left"):
            await pool.__aexit__(None, None, None)

    run(main())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "at least one worker"),
        ({"n": -1}, "at least one worker"),
        ({"backend": "fibre"}, "backend must be"),
        ({"heartbeat": 0}, "heartbeat"),
        ({"memory_limit": -1}, "memory_limit"),
        ({"grace": -1}, "grace"),
        ({"start_timeout": float("nan")}, "start_timeout"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Workers(**options)
