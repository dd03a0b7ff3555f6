"""Whose queues, locks and timeouts are tried, and on which loop: asyncio's own are the referee."""

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import pinloop
from tests.api.support import ON_PINLOOP, turns

QueueShutDown = pinloop.QueueShutDown
HAS_SHUTDOWN = hasattr(asyncio, "QueueShutDown")  # asyncio's queues can be shut down from 3.13 on


@dataclass(frozen=True)
class Way:
    """A module with the classes, and a loop to run them on."""

    name: str
    module: Any
    loop: Callable[[], asyncio.AbstractEventLoop]

    def __str__(self) -> str:
        return self.name


asyncios_tasks = functools.partial(pinloop.new_event_loop, tasks="asyncio")
REFEREE = Way("asyncio", asyncio, asyncio.new_event_loop)
OURS = [
    Way("ours-on-asyncios-loop", pinloop, asyncio.new_event_loop),
    *([Way("ours", pinloop, pinloop.new_event_loop)] if ON_PINLOOP else []),
    *([Way("ours-with-asyncios-tasks", pinloop, asyncios_tasks)] if ON_PINLOOP else []),
]


WAYS = [REFEREE, *OURS]


# The fixtures of tests that run every way: `way, loop_factory, sync = FIXTURES` gives them to a module.


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    way: Way = request.param
    return way


@pytest.fixture
def loop_factory(way: Way) -> Any:
    return way.loop


@pytest.fixture
def sync(way: Way) -> Any:
    """The module whose classes and functions are tested."""
    return way.module


FIXTURES = way, loop_factory, sync


@dataclass
class Wait:
    """A call that has to wait, and what ends the waiting."""

    subject: Any
    call: Callable[[], Any]  # makes the coroutine
    release: Callable[[], object]
    result: Any = True


def at_once(coroutine: Any) -> Any:
    """The result of a coroutine that is not to suspend."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError(f"{coroutine} has suspended")


def event_wait(module: Any) -> Wait:
    event = module.Event()
    return Wait(event, event.wait, event.set)


def lock_acquire(module: Any) -> Wait:
    lock = module.Lock()
    at_once(lock.acquire())
    return Wait(lock, lock.acquire, lock.release)


def semaphore_acquire(module: Any) -> Wait:
    semaphore = module.Semaphore(0)
    return Wait(semaphore, semaphore.acquire, semaphore.release)


def bounded_semaphore_acquire(module: Any) -> Wait:
    semaphore = module.BoundedSemaphore(1)
    at_once(semaphore.acquire())
    return Wait(semaphore, semaphore.acquire, semaphore.release)


def queue_get(module: Any, kind: str = "Queue") -> Wait:
    queue = getattr(module, kind)()
    return Wait(queue, queue.get, lambda: queue.put_nowait(42), 42)


def queue_put(module: Any, kind: str = "Queue") -> Wait:
    queue = getattr(module, kind)(1)
    queue.put_nowait(1)
    return Wait(queue, lambda: queue.put(2), queue.get_nowait, None)


def queue_join(module: Any) -> Wait:
    queue = module.Queue()
    queue.put_nowait(1)

    def done() -> None:
        with contextlib.suppress(ValueError):
            queue.task_done()

    return Wait(queue, queue.join, done, None)


WAITS: dict[str, Callable[[Any], Wait]] = {
    "Event.wait": event_wait,
    "Lock.acquire": lock_acquire,
    "Semaphore.acquire": semaphore_acquire,
    "BoundedSemaphore.acquire": bounded_semaphore_acquire,
    "Queue.get": queue_get,
    "Queue.put": queue_put,
    "Queue.join": queue_join,
    "PriorityQueue.get": functools.partial(queue_get, kind="PriorityQueue"),
    "LifoQueue.put": functools.partial(queue_put, kind="LifoQueue"),
}
"""Each method that waits, and what makes it wait."""


def state(thing: Any) -> str:
    """What is in the brackets of a repr."""
    found = re.fullmatch(r"<\S+ object at 0x[0-9a-f]+ \[(.*)\]>", repr(thing))
    assert found, repr(thing)
    return found[1]


async def entering(lock: Any, name: Any, log: list[Any], turns_inside: int = 0) -> None:
    """Take the lock, note it, give it back."""
    async with lock as got:
        assert got is None
        log.append(name)
        await turns(turns_inside)


def start(coroutines: list[Any]) -> list[Any]:
    return [asyncio.create_task(each) for each in coroutines]


LONG = 1000  # seconds, that no test waits for


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def current() -> Any:
    return asyncio.current_task()
