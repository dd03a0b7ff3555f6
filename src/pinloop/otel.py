"""The metrics of this process's loops for OpenTelemetry, by its library: `pinloop[otel]`.

import pinloop.otel
pinloop.otel.instrument()        # for the global meter provider, or for one that is given
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from ._export import EXPORTED, LAGS, WORKERS, metrics_by_loop, metrics_by_worker

LOOP = "pinloop.loop"
"""The attribute of each observation: the loop's number, in the order in which the process made them."""
POOL, WORKER = "pinloop.pool", "pinloop.worker"
"""Those of an observation of a worker: its pool's number, and its index there."""
BOUND = "le"
"""The attribute of an observation of a lag: up to so many seconds, and more than the bound before."""

_instrumented: weakref.WeakSet[MeterProvider] = weakref.WeakSet()

Callback = Callable[[CallbackOptions], Iterable[Observation]]


def instrument(provider: MeterProvider | None = None) -> None:
    """Have *provider* (the global one) observe this process's loops. For the same again it does nothing.

    The instruments are named `pinloop.loop.turns` and so on, after the fields of `pinloop.metrics.Metrics`:
    observable counters of what only grows, observable gauges of what is now. `pinloop.loop.lag` and
    `pinloop.loop.timer_lag` are observable counters of how many lags fell into which bucket, by their
    attribute `le`, since OpenTelemetry has no observable histogram.

    `pinloop.worker.in_flight` and so on, after `pinloop.workers.WorkerMetrics`, are of each worker of the
    pools of this process; the loops of workers that are processes are those processes' to observe.

    Loops are looked at whenever the provider collects, in its thread.
    """
    provider = metrics.get_meter_provider() if provider is None else provider
    if provider in _instrumented:
        return
    _instrumented.add(provider)
    from . import __version__

    meter = provider.get_meter("pinloop", __version__)
    for each in EXPORTED:
        make = meter.create_observable_counter if each.counts else meter.create_observable_gauge
        make(f"pinloop.loop.{each.field}", [_observer(each.field)], each.unit, each.help)
    for each in LAGS:
        meter.create_observable_counter(
            f"pinloop.loop.{each.field}", [_lag_observer(each.field)], "{lag}", each.help
        )
    for each in WORKERS:
        make = meter.create_observable_counter if each.counts else meter.create_observable_gauge
        make(f"pinloop.worker.{each.field}", [_worker_observer(each.field)], each.unit, each.help)


def _observer(field: str) -> Callback:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for number, found in metrics_by_loop():
            yield Observation(getattr(found, field), {LOOP: number})

    return observe


def _lag_observer(field: str) -> Callback:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for number, found in metrics_by_loop():
            lags = getattr(found, field)
            for bound, count in zip(lags.BOUNDS, lags.counts, strict=True):
                if count:
                    yield Observation(count, {LOOP: number, BOUND: bound})

    return observe


def _worker_observer(field: str) -> Callback:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for number, found in metrics_by_worker():
            yield Observation(getattr(found, field), {POOL: number, WORKER: found.index})

    return observe
