"""The metrics of this process's loops for Prometheus, by its client library: `pinloop[prometheus]`.

import pinloop.prometheus, prometheus_client
pinloop.prometheus.register()
prometheus_client.start_http_server(9100)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY, CollectorRegistry

from ._export import EXPORTED, LAGS, WORKERS, metrics_by_loop, metrics_by_worker

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

_LABELS = ("loop",)


class LoopCollector:
    """Looks at each loop that is open, whenever it is collected from, in any thread.

    Every sample has the label `loop`: the loop's number, in the order in which the process made them. Those
    of workers have the labels `pool`, numbered likewise, and `worker`, its index.
    """

    def collect(self) -> Iterator[Metric]:
        """The metrics, as `register` describes them."""
        found = metrics_by_loop()
        for each in EXPORTED:
            family = (CounterMetricFamily if each.counts else GaugeMetricFamily)(
                f"pinloop_{each.name}", each.help, labels=_LABELS
            )
            for number, metrics in found:
                family.add_metric([str(number)], getattr(metrics, each.field))
            yield family
        for each in LAGS:
            histogram = HistogramMetricFamily(f"pinloop_{each.name}", each.help, labels=_LABELS)
            for number, metrics in found:
                lags, sum_so_far, buckets = getattr(metrics, each.field), 0, []
                for bound, count in zip(lags.BOUNDS, lags.counts, strict=True):
                    sum_so_far += count
                    buckets.append(("+Inf" if bound == math.inf else str(bound), sum_so_far))
                histogram.add_metric([str(number)], buckets, lags.total)
            yield histogram
        workers = metrics_by_worker()
        for each in WORKERS:
            family = (CounterMetricFamily if each.counts else GaugeMetricFamily)(
                f"pinloop_{each.name}", each.help, labels=("pool", "worker")
            )
            for number, worker in workers:
                family.add_metric([str(number), str(worker.index)], getattr(worker, each.field))
            yield family

    # By these names the registry finds out that it is registered twice.
    describe = collect


def register(registry: CollectorRegistry = REGISTRY) -> LoopCollector:
    """Have *registry* (the client library's own) collect from this process's loops; what it collects by.

    The counters `pinloop_turns_total`, `pinloop_callbacks_total`, `pinloop_polls_total`,
    `pinloop_events_total`, `pinloop_busy_seconds_total`, `pinloop_idle_seconds_total`,
    `pinloop_tasks_made_total`, `pinloop_connections_made_total`, `pinloop_received_bytes_total` and
    `pinloop_sent_bytes_total`; the gauges `pinloop_away_seconds`, `pinloop_ready`, `pinloop_largest_batch`,
    `pinloop_timers`, `pinloop_tasks` and `pinloop_connections`; the histograms `pinloop_lag_seconds` and
    `pinloop_timer_lag_seconds`. What they are is said in `pinloop.metrics.Metrics`.

    Of each worker of its pools the counters `pinloop_worker_calls_done_total`,
    `pinloop_worker_calls_failed_total`, `pinloop_worker_calls_cancelled_total` and
    `pinloop_worker_restarts_total`, and the gauges `pinloop_worker_calls_in_flight`,
    `pinloop_worker_channels`, `pinloop_worker_credits`, `pinloop_worker_granted` and `pinloop_worker_unsent`,
    as in `pinloop.workers.WorkerMetrics`. The loops of workers that are processes are
    those processes' to export.

    Raises ValueError if it was registered already. `registry.unregister(collector)` ends it.
    """
    collector = LoopCollector()
    registry.register(cast("Collector", collector))
    return collector
