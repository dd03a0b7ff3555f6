"""Semaphore and BoundedSemaphore, asyncio's and pinloop's, on both loops: they do the same."""

import asyncio
from typing import Any

import pytest

from tests.api.support import turns
from tests.api.syncs import FIXTURES, at_once, entering, start, state
from tests.conftest import Run

way, loop_factory, sync = FIXTURES


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_a_semaphore(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        semaphore = getattr(sync, kind)(value=2)
        assert semaphore.locked() is False and state(semaphore) == "unlocked, value:2"
        assert await semaphore.acquire() is True
        assert semaphore.locked() is False and state(semaphore) == "unlocked, value:1"
        assert await semaphore.acquire() is True
        assert semaphore.locked() is True and state(semaphore) == "locked"
        tasks = start([semaphore.acquire() for _ in range(2)])
        await turns(2)
        assert state(semaphore) == "locked, waiters:2"
        assert semaphore.release() is None
        assert semaphore.locked() is True and state(semaphore) == "locked, waiters:2"
        await turns(2)
        assert [task.done() for task in tasks] == [True, False]
        for _ in range(3):
            semaphore.release()
        await tasks[1]
        assert state(semaphore) == "unlocked, value:2"

    run(main())


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_values_a_semaphore_cannot_begin_with(sync: Any, kind: str) -> None:
    with pytest.raises(ValueError, match="Semaphore initial value must be >= 0"):
        getattr(sync, kind)(-1)
    with pytest.raises(TypeError):
        getattr(sync, kind)("many")
    assert getattr(sync, kind)(0).locked()
    assert not getattr(sync, kind)().locked()


def test_a_semaphore_knows_no_upper_bound(sync: Any) -> None:
    semaphore = sync.Semaphore()
    for _ in range(100):
        semaphore.release()
    assert state(semaphore) == "unlocked, value:101"
    huge = sync.Semaphore(2**62)
    huge.release()
    assert state(huge) == f"unlocked, value:{2**62 + 1}"


def test_a_bounded_semaphore_does(sync: Any) -> None:
    semaphore = sync.BoundedSemaphore(2)
    assert isinstance(semaphore, sync.Semaphore)
    with pytest.raises(ValueError, match="BoundedSemaphore released too many times"):
        semaphore.release()
    at_once(semaphore.acquire())
    semaphore.release()
    with pytest.raises(ValueError, match="BoundedSemaphore released too many times"):
        semaphore.release()
    assert state(semaphore) == "unlocked, value:2"


def test_no_more_are_inside_than_a_semaphore_lets(sync: Any, run: Run) -> None:
    async def main() -> None:
        semaphore, inside, most = sync.Semaphore(3), 0, 0

        async def enter(number: int) -> None:
            nonlocal inside, most
            async with semaphore:
                inside += 1
                most = max(most, inside)
                await turns(number % 4)
                inside -= 1

        await asyncio.gather(*(enter(number) for number in range(50)))
        assert (inside, most) == (0, 3)
        assert state(semaphore) == "unlocked, value:3"

    run(main())


def test_a_semaphore_released_often_wakes_as_many(sync: Any, run: Run) -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(0)
        tasks = start([semaphore.acquire() for _ in range(5)])
        await turns(2)
        for _ in range(3):
            semaphore.release()
        assert semaphore.locked()
        await turns(2)
        assert [task.done() for task in tasks] == [True, True, True, False, False]
        semaphore.release()
        semaphore.release()
        await asyncio.gather(*tasks)
        assert state(semaphore) == "locked"

    run(main())


@pytest.mark.parametrize("victims", [{0}, {1}, {0, 1}, {0, 1, 2}])
def test_permits_of_those_cancelled_when_woken_go_on(sync: Any, victims: set[int], run: Run) -> None:
    async def main() -> None:
        semaphore = sync.Semaphore(0)
        tasks = start([semaphore.acquire() for _ in range(4)])
        await turns(2)
        semaphore.release()
        semaphore.release()
        for number in victims:
            tasks[number].cancel()
        await turns(4)
        served = [number for number in range(4) if number not in victims][:2]
        assert [task.done() and not task.cancelled() for task in tasks] == [
            number in served for number in range(4)
        ]
        for task in tasks:
            task.cancel()
        await turns(2)
        assert state(semaphore) == ("locked" if len(served) == 2 else "unlocked, value:1")

    run(main())


def test_a_semaphore_used_up_while_others_are_woken(sync: Any, run: Run) -> None:
    """Permits that come while one who was woken has not run yet are not lost on those behind."""

    async def main() -> None:
        semaphore, log = sync.Semaphore(1), []

        async def work(name: str, steps: int) -> None:
            for _ in range(steps):
                async with semaphore:
                    log.append(name)
                    await asyncio.sleep(0)

        await asyncio.gather(work("a", 3), work("b", 3), work("c", 2))
        assert log == ["a", "b", "c", "a", "b", "c", "a", "b"]
        assert state(semaphore) == "unlocked, value:1"

    run(main())


def test_a_bounded_semaphore_subclassed(sync: Any, run: Run) -> None:
    class Counting(sync.BoundedSemaphore):  # type: ignore[misc]
        released = 0

        def release(self) -> None:
            self.released += 1
            super().release()

    async def main() -> None:
        semaphore = Counting()
        await asyncio.gather(*(entering(semaphore, number, []) for number in range(5)))
        assert semaphore.released == 5

    run(main())
