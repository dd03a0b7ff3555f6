"""Event, Lock, and what semaphores share with a lock: asyncio's and pinloop's, on both loops, do the same."""

import asyncio
import re
import weakref
from typing import Any

import pytest

from tests.api.support import turns
from tests.api.syncs import FIXTURES, at_once, entering, start, state
from tests.conftest import Run

way, loop_factory, sync = FIXTURES

KINDS = ["Event", "Lock", "Semaphore", "BoundedSemaphore"]


# --------------------------------------------------------------------------- all of them --


@pytest.mark.parametrize("kind", KINDS)
def test_the_class(sync: Any, kind: str) -> None:
    cls = getattr(sync, kind)
    thing = cls()
    assert (cls.__name__, type(thing)) == (kind, cls)
    assert cls.__module__.partition(".")[0] == sync.__name__
    assert cls.__doc__
    assert re.match(rf"<{cls.__module__}\.{kind} object at 0x", repr(thing))
    assert thing == thing and thing != cls()  # noqa: PLR0124
    assert len({thing, thing, cls()}) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_and_weak_references(sync: Any, kind: str) -> None:
    thing = getattr(sync, kind)()
    thing.colour = "red"
    assert thing.colour == "red" and "colour" in vars(thing)
    del thing.colour
    with pytest.raises(AttributeError):
        thing.colour  # noqa: B018
    gone = weakref.ref(thing)
    assert gone() is thing
    del thing
    assert gone() is None


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments(sync: Any, kind: str) -> None:
    with pytest.raises(TypeError):
        getattr(sync, kind)(1, 2)
    with pytest.raises(TypeError):
        getattr(sync, kind)(loop=None)


def test_arguments_to_those_that_take_none(sync: Any) -> None:
    for kind in ("Event", "Lock"):
        with pytest.raises(TypeError):
            getattr(sync, kind)(1)
    for call in (sync.Event().wait, sync.Event().set, sync.Lock().acquire, sync.Lock().release):
        with pytest.raises(TypeError):
            call(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subclass(sync: Any, kind: str, run: Run) -> None:
    class Mine(getattr(sync, kind)):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    mine = Mine("mine")
    assert mine.name == "mine"
    assert ".Mine object at 0x" in repr(mine)
    assert isinstance(mine, getattr(sync, kind))


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_a_block_goes_through_what_a_subclass_overrides(sync: Any, kind: str, run: Run) -> None:
    log = []

    class Mine(getattr(sync, kind)):  # type: ignore[misc]
        async def acquire(self) -> Any:
            log.append("acquire")
            return await super().acquire()

        def release(self) -> None:
            log.append("release")
            super().release()

    async def main() -> None:
        lock = Mine()
        async with lock as got:
            assert got is None
            log.append("inside")
            assert lock.locked()
        assert not lock.locked()

    run(main())
    assert log == ["acquire", "inside", "release"]


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_a_block_that_raises_gives_back(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        lock = getattr(sync, kind)()
        for failure in (ValueError, asyncio.CancelledError, KeyboardInterrupt):
            with pytest.raises(failure):
                async with lock:
                    assert lock.locked()
                    raise failure
            assert not lock.locked()

    run(main())


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_it_is_no_ordinary_context_manager(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        lock = getattr(sync, kind)()
        with pytest.raises(TypeError, match="context manager"), lock:
            pass
        with pytest.raises(TypeError, match="await"):
            await lock
        assert not lock.locked()

    run(main())


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_first_come_first_served(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        lock, log = getattr(sync, kind)(), []  # type: ignore[var-annotated]
        tasks = start([entering(lock, number, log, number % 3) for number in range(10)])
        await asyncio.gather(*tasks)
        assert log == list(range(10))
        assert not lock.locked()

    run(main())


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_nobody_jumps_the_queue(sync: Any, kind: str, run: Run) -> None:
    """Who gives back and wants it again at once stands behind those who wait."""

    async def main() -> None:
        lock, log = getattr(sync, kind)(), []  # type: ignore[var-annotated]
        await lock.acquire()
        others = start([entering(lock, name, log) for name in "ab"])
        await turns(2)
        lock.release()
        await lock.acquire()
        log.append("me")
        lock.release()
        await asyncio.gather(*others)
        assert log == ["a", "b", "me"]

    run(main())


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("victims", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
@pytest.mark.parametrize("moment", ["before", "same turn", "after"])
def test_some_of_those_who_wait_are_cancelled(
    sync: Any, kind: str, victims: set[int], moment: str, run: Run
) -> None:
    """Before it is released, after, and when the first was woken and has not run: the next one gets it."""

    async def main() -> None:
        lock, log = getattr(sync, kind)(), []  # type: ignore[var-annotated]
        await lock.acquire()
        tasks = start([entering(lock, number, log) for number in range(3)])
        await turns(2)
        if moment == "after":
            lock.release()
        for number in victims:
            tasks[number].cancel()
        if moment == "before":
            await turns(3)
        if moment != "after":
            lock.release()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [number in victims for number in range(3)]
        assert log == [number for number in range(3) if number not in victims]
        assert not lock.locked()
        assert at_once(lock.acquire())

    run(main())


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_taken_at_once_when_all_who_waited_are_cancelled(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        lock = getattr(sync, kind)()
        await lock.acquire()
        tasks = start([lock.acquire() for _ in range(3)])
        await turns(2)
        lock.release()
        for task in tasks:
            task.cancel()
        await turns(3)
        assert at_once(lock.acquire()) is True

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_waits_by_turns(sync: Any, kind: str, run: Run) -> None:
    async def main() -> None:
        log: list[int] = []
        if kind == "Event":
            event = sync.Event()

            async def wait(number: int) -> None:
                await event.wait()
                log.append(number)

            tasks = start([wait(number) for number in range(1000)])
            await turns(2)
            assert state(event) == "unset, waiters:1000"
            event.set()
        else:
            lock = getattr(sync, kind)()
            tasks = start([entering(lock, number, log, 1) for number in range(1000)])
        await asyncio.gather(*tasks)
        assert log == list(range(1000))

    run(main())


# -------------------------------------------------------------------------------- events --


def test_an_event(sync: Any, run: Run) -> None:
    async def main() -> None:
        event = sync.Event()
        assert event.is_set() is False and state(event) == "unset"
        waiting = start([event.wait() for _ in range(3)])
        await turns(2)
        assert state(event) == "unset, waiters:3"
        assert event.set() is None
        assert event.is_set() is True
        assert await asyncio.gather(*waiting) == [True, True, True]
        assert state(event) == "set"
        assert await event.wait() is True
        event.set()
        assert event.clear() is None
        assert event.is_set() is False and state(event) == "unset"

    run(main())


def test_an_event_that_is_cleared_again_at_once_wakes_all_the_same(sync: Any, run: Run) -> None:
    async def main() -> None:
        event = sync.Event()
        waiting = start([event.wait() for _ in range(3)])
        await turns(2)
        event.set()
        event.clear()
        late = asyncio.create_task(event.wait())
        assert await asyncio.gather(*waiting) == [True, True, True]
        await turns(2)
        assert not late.done()
        event.set()
        assert await late

    run(main())


def test_who_waits_anew_when_woken_waits_for_the_next_time(sync: Any, run: Run) -> None:
    async def main() -> None:
        event, log = sync.Event(), []

        async def follow() -> None:
            for lap in range(3):
                await event.wait()
                event.clear()
                log.append(lap)

        task = asyncio.create_task(follow())
        for lap in range(3):
            await turns(3)
            assert len(log) == lap
            event.set()
        await task

    run(main())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_one_who_waits_for_an_event_is_cancelled(sync: Any, moment: str, run: Run) -> None:
    async def main() -> None:
        event = sync.Event()
        tasks = start([event.wait() for _ in range(3)])
        await turns(2)
        if moment == "before":
            tasks[1].cancel()
            await turns(2)
            assert state(event) == "unset, waiters:2"
            event.set()
        else:
            event.set()
            tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [False, True, False]
        assert state(event) == "set"

    run(main())


def test_an_event_set_by_a_callback(sync: Any, run: Run) -> None:
    async def main() -> None:
        event = sync.Event()
        asyncio.get_running_loop().call_later(0.001, event.set)
        assert await event.wait()

    run(main())


# --------------------------------------------------------------------------------- locks --


def test_a_lock(sync: Any, run: Run) -> None:
    async def main() -> None:
        lock = sync.Lock()
        assert lock.locked() is False and state(lock) == "unlocked"
        assert await lock.acquire() is True
        assert lock.locked() is True and state(lock) == "locked"
        waiting = asyncio.create_task(lock.acquire())
        await turns(2)
        assert state(lock) == "locked, waiters:1"
        assert lock.release() is None
        # Nobody has it until the task that was woken runs.
        assert lock.locked() is False and state(lock) == "unlocked, waiters:1"
        assert await waiting is True
        assert state(lock) == "locked"
        lock.release()
        assert state(lock) == "unlocked"

    run(main())


def test_a_lock_that_is_not_acquired(sync: Any) -> None:
    lock = sync.Lock()
    with pytest.raises(RuntimeError, match=r"Lock is not acquired\."):
        lock.release()
    at_once(lock.acquire())
    lock.release()
    with pytest.raises(RuntimeError, match=r"Lock is not acquired\."):
        lock.release()


def test_anybody_may_release_a_lock(sync: Any, run: Run) -> None:
    async def main() -> None:
        lock = sync.Lock()
        await lock.acquire()
        asyncio.get_running_loop().call_soon(lock.release)
        assert await lock.acquire()

    run(main())


def test_a_lock_released_twice_wakes_one(sync: Any, run: Run) -> None:
    async def main() -> None:
        lock = sync.Lock()
        await lock.acquire()
        tasks = start([lock.acquire() for _ in range(2)])
        await turns(2)
        lock.release()
        with pytest.raises(RuntimeError, match=r"Lock is not acquired\."):
            lock.release()
        await turns(3)
        assert [task.done() for task in tasks] == [True, False]
        lock.release()
        await asyncio.gather(*tasks)

    run(main())


def test_a_condition_over_a_lock(sync: Any, run: Run) -> None:
    async def main() -> None:
        lock = sync.Lock()
        condition, log = asyncio.Condition(lock), []
        assert "unlocked" in repr(condition)

        async def follow(number: int) -> None:
            async with condition:
                await condition.wait()
                assert lock.locked()
                log.append(number)

        tasks = start([follow(number) for number in range(3)])
        await turns(2)
        assert not lock.locked()
        async with condition:
            condition.notify()
        await turns(4)
        assert log == [0]
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)
        assert log == [0, 1, 2]

    run(main())
