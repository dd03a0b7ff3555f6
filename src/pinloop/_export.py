"""What the exporters have in common: which numbers there are, and of which loops."""

from __future__ import annotations

from dataclasses import dataclass

from ._registry import live_loops
from .metrics import Metrics


@dataclass(frozen=True, slots=True)
class Exported:
    """A number of `Metrics`, as monitoring systems want to know it."""

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


def metrics_by_loop() -> list[tuple[int, Metrics]]:
    """Those of each loop of this process that is open, with its number."""
    return [(loop._number, loop.metrics()) for loop in live_loops() if not loop.is_closed()]
