"""What asyncio builds of tasks and timers (gather, timeouts, groups, queues), on this loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import answer, fail

Run = Callable[..., Any]


def test_gather_keeps_the_order(run: Run) -> None:
    async def late(value: int) -> int:
        await asyncio.sleep(0.001 * (3 - value))
        return value

    async def main() -> list[int]:
        return await asyncio.gather(*(late(value) for value in range(4)))

    assert run(main()) == [0, 1, 2, 3]


def test_gather_raises_the_first_failure(run: Run) -> None:
    async def main() -> None:
        await asyncio.gather(answer(), fail(OSError("mine")), answer())

    with pytest.raises(OSError, match="mine"):
        run(main())


def test_wait_for_gives_up_and_cancels(run: Run) -> None:
    async def main() -> tuple[bool, bool]:
        task = asyncio.create_task(asyncio.sleep(3600))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.001)
        return task.done(), task.cancelled()

    assert run(main()) == (True, True)


def test_wait_for_gives_the_result_in_time(run: Run) -> None:
    assert run(asyncio.wait_for(answer(), 30)) == 42


def test_shield_lets_the_inner_task_go_on(run: Run) -> None:
    async def main() -> int:
        inner = asyncio.create_task(answer())
        outer = asyncio.ensure_future(asyncio.shield(inner))
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        return await inner

    assert run(main()) == 42


def test_timeout_cancels_the_block_and_not_the_task(run: Run) -> None:
    async def main() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(3600)
        return await answer()

    assert run(main()) == 42


def test_timeout_at_uses_the_loops_clock(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(loop.time() + 30) as deadline:
            await answer()
        assert not deadline.expired()

    run(main())


def test_task_group_cancels_the_others_when_one_fails(run: Run) -> None:
    async def main() -> bool:
        sleeper = None
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                sleeper = group.create_task(asyncio.sleep(3600))
                group.create_task(fail(OSError("mine")))
        assert [str(each) for each in caught.value.exceptions] == ["mine"]
        return sleeper is not None and sleeper.cancelled()

    assert run(main())


def test_task_group_in_a_task_group(run: Run) -> None:
    async def main() -> list[int]:
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            tasks = [outer.create_task(answer()), inner.create_task(answer())]
        return [task.result() for task in tasks]

    assert run(main()) == [42, 42]


def test_queue_event_and_lock_work_between_many_tasks(run: Run) -> None:
    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(4)
        lock, go, taken = asyncio.Lock(), asyncio.Event(), []

        async def produce(value: int) -> None:
            await go.wait()
            await queue.put(value)

        async def consume() -> None:
            for _ in range(10):
                value = await queue.get()
                async with lock:
                    taken.append(value)

        async with asyncio.TaskGroup() as group:
            for value in range(100):
                group.create_task(produce(value))
            for _ in range(10):
                group.create_task(consume())
            go.set()
        return sorted(taken)

    assert run(main()) == list(range(100))


def test_sleep_zero_takes_turns(run: Run) -> None:
    async def main() -> str:
        order: list[str] = []

        async def count(name: str) -> None:
            for _ in range(3):
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(count("a"), count("b"), count("c"))
        return "".join(order)

    assert run(main()) == "abcabcabc"
