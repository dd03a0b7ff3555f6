"""What a loop has done so far, as a value: `loop.metrics()`.

A `Metrics` is immutable, can be pickled and sent elsewhere, and can be added to others: the sum over the
loops of a process, or of many. The difference of two of one loop is what happened in between.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

BUCKETS = 25
"""How many buckets a `Histogram` has."""

_LARGEST = ("away", "largest_batch")  # of these a sum has the largest
_NOW = ("loops", "ready", "timers", "tasks", "connections", *_LARGEST)  # ... and a difference the later


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many durations were how long: buckets that double, from below 1 µs to below 8.4 s, and the rest."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    """How many durations fell into each bucket and not into one before it."""
    total: float = 0.0
    """The sum of all durations, in seconds."""

    BOUNDS: ClassVar[tuple[float, ...]] = (*(2**i / 1e6 for i in range(BUCKETS - 1)), math.inf)
    """The upper bound of each bucket, in seconds; the last is infinity."""

    def __post_init__(self) -> None:
        if len(self.counts) != BUCKETS:
            raise ValueError(f"a histogram has {BUCKETS} buckets, not {len(self.counts)}")

    @property
    def count(self) -> int:
        """How many durations it holds."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean duration, in seconds; 0 if there was none."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """A duration, in seconds, that this *share* of all did not exceed: the upper bound of a bucket.

        It is at most twice the true one, and infinity where that is above 8.4 s; 0 if there was none.
        `quantile(1)` bounds the longest. Raises ValueError for a share that is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, not {share!r}")
        wanted, seen = max(1, math.ceil(share * self.count)), 0
        for bound, count in zip(self.BOUNDS, self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound
        return 0.0

    def __add__(self, other: Histogram) -> Histogram:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._with(other, 1)

    def __sub__(self, earlier: Histogram) -> Histogram:
        if not isinstance(earlier, Histogram):
            return NotImplemented
        return self._with(earlier, -1)

    def _with(self, other: Histogram, sign: int) -> Histogram:
        pairs = zip(self.counts, other.counts, strict=True)
        return Histogram(
            tuple(mine + sign * theirs for mine, theirs in pairs), self.total + sign * other.total
        )


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `loop.metrics()` returns. What says nothing else is a count since the loop was made.

    `Metrics()` is that of no loop at all: what a sum begins with.
    """

    loops: int = 0
    """How many loops these are of: 1, or as many as have been added."""

    turns: int = 0
    """Turns of the loop: each runs what is ready, then mostly asks the kernel."""
    callbacks: int = 0
    """What was run out of the ready queue: callbacks, steps of tasks, timers."""
    polls: int = 0
    """How often the kernel was asked for events."""
    events: int = 0
    """Events that the kernel told. They call protocols and readers directly, without the ready queue."""

    busy: float = 0.0
    """Seconds in which the loop ran: callbacks, protocols and its own work, polls that do not wait included.

    They are seconds of the clock, not of the CPU: a callback that sleeps keeps the loop busy as well.
    """
    idle: float = 0.0
    """Seconds in which the loop waited for the kernel and, after that, for the GIL.

    What it spends in `spin_us` is among them. While nobody runs the loop it is neither busy nor idle.
    """
    away: float = 0.0
    """For how many seconds the loop has been busy now without asking the kernel; 0 while it waits.

    A large one says that a callback blocks the loop, right now. Of several loops, the largest.
    """

    ready: int = 0
    """Entries that are in the ready queue now."""
    largest_batch: int = 0
    """The most entries of the ready queue that one turn ran. Of several loops, the largest."""
    timers: int = 0
    """Timers that are armed now, without those cancelled."""
    tasks: int = 0
    """Tasks that are not done now. Only those of the class that the loop itself makes."""
    tasks_made: int = 0
    """Tasks made of pinloop's class: 0 for a loop that makes asyncio's."""

    connections: int = 0
    """Stream transports that are open now: TCP and Unix sockets, TLS above them not counted again."""
    connections_made: int = 0
    """Such transports made, for connections accepted and begun."""
    bytes_received: int = 0
    """Bytes received: by transports of all kinds, pipes included, and by the loop's `sock_*` methods."""
    bytes_sent: int = 0
    """Bytes that the kernel took from the same. Of TLS, in both, what goes over the wire."""

    lag: Histogram = field(default_factory=Histogram)
    """How long the loop was away from the kernel, each time: from the end of a poll to the next.

    So long, at most, had to wait what happened meanwhile: a packet that came, another thread's call, a
    callback that was ready when the poll ended. The time being away now is not in it; see `away`.
    """
    timer_lag: Histogram = field(default_factory=Histogram)
    """How late each timer was: from when it was due to when it became ready.

    Up to 0.1 ms is the loop's own doing, or 1 ms where many timers are close together: they share a wake-up.
    """

    @property
    def load(self) -> float:
        """The share of the time, from 0 to 1, in which the loop was busy; 0 where it never ran."""
        total = self.busy + self.idle
        return self.busy / total if total > 0 else 0.0

    def __add__(self, other: Metrics) -> Metrics:
        """The two together, as if they were one loop's."""
        if not isinstance(other, Metrics):
            return NotImplemented
        return Metrics(
            **{
                name: max(mine, theirs) if name in _LARGEST else mine + theirs
                for name, mine, theirs in self._pairs(other)
            }
        )

    def __sub__(self, earlier: Metrics) -> Metrics:
        """What happened since an *earlier* one of the same loops. What is of now is this one's."""
        if not isinstance(earlier, Metrics):
            return NotImplemented
        return Metrics(
            **{name: mine if name in _NOW else mine - theirs for name, mine, theirs in self._pairs(earlier)}
        )

    def _pairs(self, other: Metrics) -> list[tuple[str, Any, Any]]:
        return [(name, getattr(self, name), getattr(other, name)) for name in FIELDS]

    def as_dict(self) -> dict[str, Any]:
        """The same of plain numbers, lists and dicts: what JSON can carry."""
        return {name: getattr(self, name) for name in FIELDS if name not in HISTOGRAMS} | {
            name: {"counts": list(getattr(self, name).counts), "total": getattr(self, name).total}
            for name in HISTOGRAMS
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metrics:
        """What `as_dict` gave. What it does not know is left out, what is missing is 0.

        Raises ValueError for what is no such thing.
        """
        try:
            found: dict[str, Any] = {}
            for name in FIELDS:
                if name not in values:
                    continue
                value = values[name]
                if name in HISTOGRAMS:
                    found[name] = Histogram(tuple(map(_count, value["counts"])), _seconds(value["total"]))
                elif name in SECONDS:
                    found[name] = _seconds(value)
                else:
                    found[name] = _count(value)
            return cls(**found)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the metrics of a loop: {error!r}") from error


async def current_metrics() -> Metrics:
    """The metrics of the loop that runs this. Of a worker's loop: `await pool[0].run(current_metrics)`.

    Raises TypeError where that is another loop than pinloop's.
    """
    loop = asyncio.get_running_loop()
    metrics = getattr(loop, "metrics", None)
    if metrics is None:
        raise TypeError(f"{loop!r} counts nothing: it is not one of pinloop's")
    found: Metrics = metrics()
    return found


FIELDS = tuple(each.name for each in dataclasses.fields(Metrics))
HISTOGRAMS = ("lag", "timer_lag")
SECONDS = ("busy", "idle", "away")


def _count(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"a count must be an integer, not {value!r}")
    return value


def _seconds(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise ValueError(f"a time must be a number, not {value!r}")
    return float(value)


def of_counts(counts: dict[str, Any]) -> Metrics:
    """The metrics of a loop whose native half has counted this, times in ns."""
    for name in SECONDS:
        counts[name] /= 1e9
    for name in HISTOGRAMS:
        buckets, total = counts[name]
        counts[name] = Histogram(buckets, total / 1e9)
    return Metrics(loops=1, **counts)
