"""What the exporters have in common: which numbers there are, and of which loops."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._registry import live_loops
from .metrics import Metrics

if TYPE_CHECKING:
    from .workers import WorkerMetrics


@dataclass(frozen=True, slots=True)
class Exported:
    """A number of `Metrics`, or of `WorkerMetrics`, as monitoring systems want to know it."""

    field: str
    """Its name there."""
    name: str
    """Its name in words with underscores, the unit last."""
    unit: str
    """A UCUM code."""
    help: str
    """What it is, in a sentence."""
    counts: bool = True
    """Whether it only ever grows."""


EXPORTED = (
    Exported("turns", "turns", "{turn}", "Turns of the loop."),
    Exported("callbacks", "callbacks", "{callback}", "Callbacks, task steps and timers that were run."),
    Exported("polls", "polls", "{poll}", "Times that the kernel was asked for events."),
    Exported("events", "events", "{event}", "Events that the kernel told."),
    Exported("busy", "busy_seconds", "s", "Time in callbacks and in the loop's own work."),
    Exported("idle", "idle_seconds", "s", "Time spent waiting for the kernel."),
    Exported("away", "away_seconds", "s", "Time since the loop asked the kernel, while it is busy.", False),
    Exported("ready", "ready", "{callback}", "What is ready to be run now.", False),
    Exported("largest_batch", "largest_batch", "{callback}", "The most callbacks that one turn ran.", False),
    Exported("timers", "timers", "{timer}", "Timers that are armed.", False),
    Exported("tasks", "tasks", "{task}", "Tasks that are not done.", False),
    Exported("tasks_made", "tasks_made", "{task}", "Tasks made."),
    Exported("connections", "connections", "{connection}", "Stream transports that are open.", False),
    Exported("connections_made", "connections_made", "{connection}", "Stream transports made."),
    Exported("bytes_received", "received_bytes", "By", "Bytes received."),
    Exported("bytes_sent", "sent_bytes", "By", "Bytes sent."),
)
LAGS = (
    Exported("lag", "lag_seconds", "s", "How long the loop did not ask the kernel, each time."),
    Exported("timer_lag", "timer_lag_seconds", "s", "How late timers were."),
)
WORKERS = (
    Exported("in_flight", "worker_calls_in_flight", "{call}", "Calls that are under way.", False),
    Exported("done", "worker_calls_done", "{call}", "Calls that ended with a result."),
    Exported("failed", "worker_calls_failed", "{call}", "Calls that ended with an error."),
    Exported("cancelled", "worker_calls_cancelled", "{call}", "Calls that were cancelled."),
    Exported("restarts", "worker_restarts", "{restart}", "Restarts of the worker."),
    Exported("channels", "worker_channels", "{channel}", "Channels to and from it that are open.", False),
    Exported("credits", "worker_credits", "{item}", "Items that may be sent to it without waiting.", False),
    Exported("granted", "worker_granted", "{item}", "Items that it may send without waiting.", False),
    Exported("unsent", "worker_unsent", "{item}", "Items that wait until it may have them.", False),
)


def metrics_by_loop() -> list[tuple[int, Metrics]]:
    """Those of each loop of this process that is open, with its number."""
    return [(loop._number, loop.metrics()) for loop in live_loops() if not loop.is_closed()]


def metrics_by_worker() -> list[tuple[int, WorkerMetrics]]:
    """Those of each worker of the pools of this process that are open, with the number of its pool.

    Its loop, which is another process's mostly, is not asked.
    """
    counts = sys.modules.get("pinloop.workers.counts")  # where there is no pool, none is brought along
    if counts is None:
        return []
    return [(pool._number, worker) for pool in counts.open_pools() for worker in pool._counts().workers]
