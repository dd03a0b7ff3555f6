"""What a pool and its workers have done so far, as values: `await pool.metrics()`."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..metrics import Metrics

if TYPE_CHECKING:
    from .pool import Workers


class Tally:
    """How the calls of one worker ended, in all of its lives."""

    __slots__ = ("cancelled", "done", "failed")

    def __init__(self) -> None:
        self.done = self.failed = self.cancelled = 0


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """One worker of a pool. What says nothing else is a count since the pool was entered, restarts or not."""

    index: int
    """Its index in the pool."""
    pid: int | None
    """The process that it is; None while it is being restarted."""

    in_flight: int = 0
    """Calls that are under way there. A chunk of `map` is one call."""
    done: int = 0
    """Calls that ended with a result."""
    failed: int = 0
    """Calls that ended with an error, `WorkerCrashed` among them; one that is made again counts each time."""
    cancelled: int = 0
    """Calls that ended by their cancellation, or by their deadline."""
    restarts: int = 0
    """How often it was restarted."""

    channels: int = 0
    """Channels between the pool and this worker, one for each direction, that are open now."""
    credits: int = 0
    """Items that may be sent to it now without waiting for it."""
    granted: int = 0
    """Items that it may send now without waiting for this side."""
    unsent: int = 0
    """Items that have been sent here and wait until it may have them. With no credits: it is too slow."""

    loop: Metrics | None = None
    """The metrics of its loop, since it was started; None if that did not answer, or is not there now."""


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """What `pool.metrics()` returns. It can be pickled."""

    workers: tuple[WorkerMetrics, ...] = ()
    """One for each worker, by index."""
    waiting: int = 0
    """Calls that wait to be sent: for a worker that is being restarted, or that reads too slowly."""

    @property
    def in_flight(self) -> int:
        """Calls that are under way, those that wait to be sent not counted."""
        return sum(worker.in_flight for worker in self.workers)

    @property
    def done(self) -> int:
        """Calls that ended with a result."""
        return sum(worker.done for worker in self.workers)

    @property
    def failed(self) -> int:
        """Calls that ended with an error."""
        return sum(worker.failed for worker in self.workers)

    @property
    def cancelled(self) -> int:
        """Calls that ended by their cancellation, or by their deadline."""
        return sum(worker.cancelled for worker in self.workers)

    @property
    def restarts(self) -> int:
        """How often workers were restarted."""
        return sum(worker.restarts for worker in self.workers)

    @property
    def loop(self) -> Metrics:
        """The metrics of all loops that told theirs, together; how many these are is `loop.loops`."""
        return sum((worker.loop for worker in self.workers if worker.loop is not None), Metrics())


_pools: weakref.WeakSet[Workers] = weakref.WeakSet()
_numbers = itertools.count()


def add_pool(pool: Workers) -> int:
    """Have `open_pools` find it; its number, in the order in which the process has entered them."""
    _pools.add(pool)
    return next(_numbers)


def remove_pool(pool: Workers) -> None:
    """It is closed."""
    _pools.discard(pool)


def open_pools() -> list[Workers]:
    """The pools of this process that are open, oldest first. May be called from any thread."""
    while True:
        try:
            found = list(_pools)
        except RuntimeError:  # another thread has entered one meanwhile
            continue
        return sorted(found, key=lambda pool: pool._number)
