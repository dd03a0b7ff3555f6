"""asyncio's queues, locks and events on the native wait queue.

What runs once per operation is in `pinloop._core`. The classes are subclasses of asyncio's, for which they
stand in on any asyncio loop and with tasks of any class.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

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


class BoundedSemaphore(_core.BoundedSemaphore, Semaphore, asyncio.BoundedSemaphore):
    """`asyncio.BoundedSemaphore`, natively: `release` raises ValueError beyond the permits it began with."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)


class Queue(_core.Queue[_T], asyncio.Queue[_T]):
    """`asyncio.Queue`, natively.

    A subclass with `_init`, `_get` and `_put` of its own keeps the items as it likes, as with asyncio's.
    """


class PriorityQueue(Queue[_T], asyncio.PriorityQueue[_T]):  # type: ignore[type-var]
    """`asyncio.PriorityQueue`: the lowest item first."""


class LifoQueue(Queue[_T], asyncio.LifoQueue[_T]):
    """`asyncio.LifoQueue`: what was put in last first."""
