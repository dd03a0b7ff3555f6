"""Who is the current task, which are all tasks: from tasks, callbacks, threads, with several loops."""

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import answer, this_task
from tests.conftest import short_turns

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]
LoopFactory = Callable[[], Loop]


# ----------------------------------------------------------------------------- the current task --


def test_there_is_no_current_task_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.all_tasks()


def test_the_current_task_in_each_kind_of_callback(loop: Loop) -> None:
    seen: list[Any] = []

    def look(*_: Any) -> None:
        seen.append(asyncio.current_task())

    async def main() -> None:
        future = loop.create_future()
        future.add_done_callback(look)
        task = asyncio.create_task(answer())
        task.add_done_callback(look)
        loop.call_soon(look)
        loop.call_soon_threadsafe(look)
        loop.call_later(0, look)
        loop.call_soon(future.set_result, None)
        await asyncio.sleep(0.001)
        await task
        seen.append(asyncio.current_task() is me)

    me = loop.create_task(main())
    loop.run_until_complete(me)
    assert seen == [None] * 5 + [True]


def test_the_current_task_between_tasks_that_take_turns(run: Run) -> None:
    async def child(turns: int) -> bool:
        me = asyncio.current_task()
        right = True
        for _ in range(turns):
            await asyncio.sleep(0)
            right = right and asyncio.current_task() is me
        return right

    async def main() -> list[bool]:
        return await asyncio.gather(*(child(turns) for turns in range(10)))

    assert run(main()) == [True] * 10


def test_the_current_task_after_an_exception_that_ends_the_run(loop: Loop) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    assert asyncio.current_task(loop) is None
    assert loop.run_until_complete(answer()) == 42


def test_the_current_task_in_async_generators_and_exit_stacks(run: Run) -> None:
    seen: list[Any] = []

    async def generator() -> Any:
        try:
            seen.append(asyncio.current_task())
            yield 1
        finally:
            seen.append(asyncio.current_task())

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(answer)
            stack.callback(lambda: seen.append(asyncio.current_task()))
            async with contextlib.aclosing(generator()) as numbers:
                async for _ in numbers:
                    break
        assert set(seen) == {asyncio.current_task()}

    run(main())
    assert len(seen) == 3


def test_each_thread_has_its_own_current_task(loop_factory: LoopFactory) -> None:
    both = threading.Barrier(3)
    seen: dict[str, Any] = {}

    async def main(name: str) -> None:
        await asyncio.sleep(0)
        both.wait(10)  # each of them is in its task now
        seen[name] = (this_task().get_name(), {each.get_name() for each in asyncio.all_tasks()})
        both.wait(10)

    def work(name: str) -> None:
        loop = loop_factory()
        loop.run_until_complete(loop.create_task(main(name), name=name))
        loop.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == {name: (name, {name}) for name in ("one", "two", "three")}


def test_a_loop_inside_another_ones_callback_is_refused_and_harms_no_task(
    loop: Loop, loop_factory: LoopFactory
) -> None:
    other = loop_factory()

    async def main() -> bool:
        coro = answer()
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            other.run_until_complete(coro)
        coro.close()
        await asyncio.sleep(0)
        return asyncio.current_task() is me

    me = loop.create_task(main())
    assert loop.run_until_complete(me)
    other.close()


# ---------------------------------------------------------------------------------- all tasks --


def test_all_tasks_is_a_set_of_those_that_are_not_done(loop: Loop) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        assert asyncio.all_tasks() == {me}
        ready = asyncio.create_task(answer())
        waiting = asyncio.create_task(asyncio.sleep(3600))
        assert type(asyncio.all_tasks()) is set
        assert asyncio.all_tasks() == {me, ready, waiting}
        await ready
        assert asyncio.all_tasks() == {me, waiting}
        waiting.cancel()
        assert asyncio.all_tasks() == {me, waiting}
        await asyncio.wait([waiting])
        assert asyncio.all_tasks() == {me}

    assert asyncio.all_tasks(loop) == set()
    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()


def test_all_tasks_of_each_loop_are_its_own(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    here = {loop.create_task(answer()) for _ in range(3)}
    there = {other.create_task(answer()) for _ in range(2)}
    assert asyncio.all_tasks(loop) == here
    assert asyncio.all_tasks(other) == there
    loop.run_until_complete(asyncio.wait(here))
    assert asyncio.all_tasks(loop) == set()
    assert asyncio.all_tasks(other) == there
    other.run_until_complete(asyncio.wait(there))
    other.close()


def test_all_tasks_from_a_callback_and_from_another_thread(loop: Loop) -> None:
    async def main() -> list[set[str]]:
        child = asyncio.create_task(asyncio.sleep(3600), name="child")
        seen = loop.create_future()
        loop.call_soon(lambda: seen.set_result(asyncio.all_tasks()))
        sets = [await seen, await loop.run_in_executor(None, asyncio.all_tasks, loop)]
        child.cancel()
        await asyncio.wait([child])
        return [{each.get_name() for each in found} for found in sets]

    assert loop.run_until_complete(loop.create_task(main(), name="main")) == [{"main", "child"}] * 2


def test_all_tasks_while_another_thread_makes_and_ends_them(loop: Loop) -> None:
    """Whoever asks gets tasks, and never a fault."""
    stop = threading.Event()
    faults: list[BaseException] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                assert all(isinstance(each, asyncio.Task) for each in asyncio.all_tasks(loop))
            except BaseException as fault:
                faults.append(fault)
                return

    async def main() -> None:
        for _ in range(200):
            await asyncio.gather(*(answer() for _ in range(20)))

    thread = threading.Thread(target=ask)
    # The one that asks never waits, and in debug mode the other does for each look at a file: 5 ms each time.
    with short_turns():
        thread.start()
        try:
            loop.run_until_complete(main())
        finally:
            stop.set()
            thread.join(10)
    assert faults == []


def test_all_tasks_finds_tasks_of_classes_of_ones_own(loop: Loop) -> None:
    class Special(asyncio.Task[Any]):
        pass

    special = Special(answer(), loop=loop)
    plain = loop.create_task(answer())
    assert asyncio.all_tasks(loop) == {special, plain}
    loop.run_until_complete(asyncio.wait([special, plain]))
    assert asyncio.all_tasks(loop) == set()


def test_many_tasks_are_found_and_forgotten(run: Run) -> None:
    async def main() -> list[int]:
        go = asyncio.Event()
        tasks = [asyncio.create_task(go.wait()) for _ in range(1000)]
        sizes = [len(asyncio.all_tasks())]
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks[::2])
        sizes.append(len(asyncio.all_tasks()))
        go.set()
        await asyncio.gather(*tasks[1::2])
        sizes.append(len(asyncio.all_tasks()))
        return sizes

    assert run(main()) == [1001, 501, 1]


def test_a_loop_that_is_gone_leaves_no_tasks_to_others(loop: Loop, loop_factory: LoopFactory) -> None:
    other: Any = loop_factory()
    other.run_until_complete(answer())
    reference = weakref.ref(other)
    other.close()
    del other
    gc.collect()
    assert reference() is None
    task = loop.create_task(answer())
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(task)


def test_asyncio_run_cancels_what_is_left(loop_factory: LoopFactory) -> None:
    ended: list[str] = []

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def main() -> str:
        for name in "abc":
            asyncio.get_running_loop().create_task(linger(name))
        await asyncio.sleep(0)
        return "result"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == "result"
    assert sorted(ended) == ["a", "b", "c"]


# ---------------------------------------------------------------------------- from other threads --


def test_coroutines_from_other_threads(loop: Loop) -> None:
    results: list[Any] = []

    async def fail() -> None:
        raise LookupError("mine")

    def work() -> None:
        results.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(10))
        results.append(type(asyncio.run_coroutine_threadsafe(fail(), loop).exception(10)))
        slow = asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), loop)
        results.append(slow.cancel())

    async def main() -> None:
        await asyncio.to_thread(work)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert results == [42, LookupError, True]


def test_futures_of_executors_are_wrapped_and_cancelled(loop: Loop) -> None:
    import concurrent.futures

    async def main() -> None:
        theirs: concurrent.futures.Future[int] = concurrent.futures.Future()
        ours = asyncio.wrap_future(theirs)
        assert isinstance(ours, asyncio.Future)
        threading.Timer(0.001, theirs.set_result, [42]).start()
        assert await ours == 42
        theirs = concurrent.futures.Future()
        ours = asyncio.wrap_future(theirs)
        ours.cancel()
        await asyncio.sleep(0)
        assert theirs.cancelled()

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent by os.kill")
def test_ctrl_c_cancels_the_main_task(loop_factory: LoopFactory) -> None:
    import os
    import signal

    steps: list[Any] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            steps.append(this_task().cancelling())
            raise

    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    assert steps == [1]
