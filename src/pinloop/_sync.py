"""asyncio's queues, locks and events on the native wait queue.

What runs once per operation is in `pinloop._core`. The classes are subclasses of asyncio's, for which they
stand in on any asyncio loop and with tasks of any class.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, TypeVar

from . import _core

_T = TypeVar("_T")


class Event(_core.Flag, asyncio.Event):
    """`asyncio.Event`, natively."""

    def __init__(self) -> None:  # asyncio's would be called otherwise
        pass


class Lock(_core.Lock, asyncio.Lock):
    """`asyncio.Lock`, natively."""

    def __init__(self) -> None:
        pass


class Semaphore(_core.Semaphore, asyncio.Semaphore):
    """`asyncio.Semaphore`, natively. `value` is the number of permits; ValueError if it is negative."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)

    def statistics(self) -> SemaphoreStatistics:
        """How many permits there are and could be taken, and how many tasks wait: at this moment."""
        return SemaphoreStatistics(self.available, self.total, self._waiting)


class SemaphoreStatistics(NamedTuple):
    """What `Semaphore.statistics` gives."""

    available: int
    """Permits that could be taken now."""
    total: int
    """Permits that there are."""
    waiting: int
    """Tasks that wait for one."""


class BoundedSemaphore(_core.BoundedSemaphore, Semaphore, asyncio.BoundedSemaphore):
    """`asyncio.BoundedSemaphore`, natively: `release` raises ValueError beyond the permits it began with."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)


class LimiterStatistics(NamedTuple):
    """What `Limiter.statistics` gives."""

    borrowed: int
    """Tokens that are lent."""
    total: float
    """Tokens that there are."""
    borrowers: tuple[object, ...]
    """Who has one, in the order in which they got it."""
    waiting: int
    """Tasks that wait for one."""


class Limiter(_core.Limiter):
    """So many tokens, lent to borrowers: a semaphore that knows who holds it, and can be resized.

    Each borrower, the task that runs or an object that stands for somebody else, has one token at most: a
    second is refused with RuntimeError, where a semaphore might have the task wait for itself for ever. Who
    waits longest is next. `async with limiter:` borrows for the task and gives back.

    `total` is the number of tokens: an int of 0 or more, or math.inf. Raises ValueError for less, TypeError
    for others.
    """

    def __init__(self, total: float) -> None:
        super().__init__(total)

    def statistics(self) -> LimiterStatistics:
        """How many tokens are lent and to whom, how many there are, and how many wait: at this moment."""
        return LimiterStatistics(self.borrowed, self.total, self.borrowers, self._waiting)


class Queue(_core.Queue[_T], asyncio.Queue[_T]):
    """`asyncio.Queue`, natively.

    A subclass with `_init`, `_get` and `_put` of its own keeps the items as it likes, as with asyncio's.
    """


class PriorityQueue(Queue[_T], asyncio.PriorityQueue[_T]):  # type: ignore[type-var]
    """`asyncio.PriorityQueue`: the lowest item first."""


class LifoQueue(Queue[_T], asyncio.LifoQueue[_T]):
    """`asyncio.LifoQueue`: what was put in last first."""
