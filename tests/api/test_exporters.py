"""Prometheus and OpenTelemetry, by their own client libraries: what they are told is what `metrics` says."""

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
from typing import Any

import pytest

import pinloop
from pinloop import _export
from pinloop.metrics import FIELDS, HISTOGRAMS
from tests.api.support import ON_PINLOOP

with contextlib.suppress(ImportError):
    import opentelemetry.sdk.metrics.export  # noqa: F401 - which leaves a library's file open, on some systems

pytestmark = pytest.mark.skipif(not ON_PINLOOP, reason="only pinloop's loops have metrics")


@pytest.fixture
def worked(loop: pinloop.Loop) -> pinloop.Loop:
    """A loop that has done something, and rests."""
    loop.run_until_complete(asyncio.sleep(0.003))
    return loop


def test_every_number_is_exported() -> None:
    names = [each.field for each in (*_export.EXPORTED, *_export.LAGS)]
    assert sorted(names) == sorted(set(FIELDS) - {"loops"})
    assert {each.field for each in _export.LAGS} == set(HISTOGRAMS)


def test_loops_that_are_closed_are_not(worked: pinloop.Loop) -> None:
    other = pinloop.new_event_loop()
    numbers = [number for number, _ in _export.metrics_by_loop()]
    assert {worked._number, other._number} <= set(numbers)
    assert numbers == sorted(numbers)
    other.close()
    assert other._number not in [number for number, _ in _export.metrics_by_loop()]


def test_importing_pinloop_needs_neither() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['prometheus_client', 'opentelemetry', 'rich']));"
        "import pinloop, pinloop.watching, pinloop.top, pinloop.metrics, pinloop.dumps"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# ------------------------------------------------------------------------------ Prometheus --


def test_prometheus(worked: pinloop.Loop) -> None:
    client = pytest.importorskip("prometheus_client", reason="the extra `prometheus` is not installed")
    import pinloop.prometheus

    registry = client.CollectorRegistry()
    collector = pinloop.prometheus.register(registry)
    found = worked.metrics()
    labels = {"loop": str(worked._number)}
    for each in _export.EXPORTED:
        name = f"pinloop_{each.name}" + "_total" * each.counts
        assert registry.get_sample_value(name, labels) == getattr(found, each.field), name
    for each in _export.LAGS:
        lags, seen = getattr(found, each.field), 0
        name = f"pinloop_{each.name}"
        assert registry.get_sample_value(f"{name}_sum", labels) == lags.total
        assert registry.get_sample_value(f"{name}_count", labels) == lags.count > 0
        for bound, count in zip(lags.BOUNDS, lags.counts, strict=True):
            seen += count
            le = {"le": "+Inf" if bound == float("inf") else str(bound)}
            assert registry.get_sample_value(f"{name}_bucket", labels | le) == seen
    text = client.generate_latest(registry).decode()
    assert "# TYPE pinloop_busy_seconds_total counter" in text
    assert "# TYPE pinloop_tasks gauge" in text
    assert "# TYPE pinloop_lag_seconds histogram" in text
    with pytest.raises(ValueError, match="Duplicated"):
        pinloop.prometheus.register(registry)
    registry.unregister(collector)
    assert client.generate_latest(registry) == b""


def test_every_name_is_in_the_docstring() -> None:
    pytest.importorskip("prometheus_client", reason="the extra `prometheus` is not installed")
    import pinloop.prometheus

    text = pinloop.prometheus.register.__doc__ or ""
    for each in (*_export.EXPORTED, *_export.LAGS, *_export.WORKERS):
        name = f"pinloop_{each.name}" + "_total" * (each.counts and each not in _export.LAGS)
        assert f"`{name}`" in text


# --------------------------------------------------------------------------- OpenTelemetry --


def points_of(reader: Any) -> dict[str, Any]:
    """The instruments that were collected, by their names."""
    data = reader.get_metrics_data()
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("pinloop", pinloop.__version__)
    return {metric.name: metric for metric in scope.metrics}


def test_opentelemetry(worked: pinloop.Loop) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="OpenTelemetry's SDK is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    import pinloop.otel

    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    for _ in range(2):  # the second time it does nothing
        pinloop.otel.instrument(provider)
    instruments = points_of(reader)
    found = worked.metrics()
    assert {name for name in instruments if name.startswith("pinloop.loop.")} == {
        f"pinloop.loop.{field}" for field in set(FIELDS) - {"loops"}
    }
    for each in _export.EXPORTED:
        instrument = instruments[f"pinloop.loop.{each.field}"]
        values = {point.attributes["pinloop.loop"]: point.value for point in instrument.data.data_points}
        assert values[worked._number] == getattr(found, each.field)
        assert instrument.unit == each.unit
        assert getattr(instrument.data, "is_monotonic", False) == each.counts
    for field in HISTOGRAMS:
        lags = getattr(found, field)
        points = instruments[f"pinloop.loop.{field}"].data.data_points
        told = {
            point.attributes["le"]: point.value
            for point in points
            if point.attributes["pinloop.loop"] == worked._number
        }
        assert told == {bound: count for bound, count in zip(lags.BOUNDS, lags.counts, strict=True) if count}
    provider.shutdown()


def test_the_global_provider_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = pytest.importorskip("opentelemetry.metrics", reason="the extra `otel` is not installed")
    import pinloop.otel

    made: list[str] = []

    class Meter(metrics.NoOpMeter):  # type: ignore[misc, name-defined]
        def create_observable_counter(self, name: str, *rest: Any) -> None:
            made.append(name)

        create_observable_gauge = create_observable_counter

    class Provider(metrics.NoOpMeterProvider):  # type: ignore[misc, name-defined]
        def get_meter(self, name: str, *rest: Any) -> Meter:
            return Meter(name)

    monkeypatch.setattr(metrics, "get_meter_provider", Provider)
    pinloop.otel.instrument()
    assert len(made) == len(dataclasses.fields(pinloop.metrics.Metrics)) - 1 + len(_export.WORKERS)


# --------------------------------------------------------------------------------- workers --


def test_each_number_of_a_worker_is_exported() -> None:
    names = [each.field for each in _export.WORKERS]
    fields = {each.name for each in dataclasses.fields(pinloop.workers.WorkerMetrics)}
    assert sorted(names) == sorted(fields - {"index", "pid", "loop"})


def test_workers_of_pools_that_are_open(loop: pinloop.Loop) -> None:
    client = pytest.importorskip("prometheus_client", reason="the extra `prometheus` is not installed")
    sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="OpenTelemetry's SDK is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    import pinloop.otel
    import pinloop.prometheus

    registry, reader = client.CollectorRegistry(), InMemoryMetricReader()
    pinloop.prometheus.register(registry)
    provider = sdk.MeterProvider(metric_readers=[reader])
    pinloop.otel.instrument(provider)

    async def main() -> int:
        async with pinloop.Workers(2, "thread", None) as pool:
            for _ in range(3):
                await pool[1].run(abs, -1)
            found = (await pool.metrics()).workers
            points = await asyncio.to_thread(points_of, reader)
            for each in _export.WORKERS:
                name = f"pinloop_{each.name}" + "_total" * each.counts
                told = {
                    point.attributes["pinloop.worker"]: point.value
                    for point in points[f"pinloop.worker.{each.field}"].data.data_points
                    if point.attributes["pinloop.pool"] == pool._number
                }
                for worker in found:
                    labels = {"pool": str(pool._number), "worker": str(worker.index)}
                    assert registry.get_sample_value(name, labels) == getattr(worker, each.field), name
                    assert told[worker.index] == getattr(worker, each.field), name
            labels = {"pool": str(pool._number), "worker": "1"}
            assert registry.get_sample_value("pinloop_worker_calls_done_total", labels) == 3
            return pool._number

    number = loop.run_until_complete(main())
    labels = {"pool": str(number), "worker": "1"}
    assert registry.get_sample_value("pinloop_worker_calls_done_total", labels) is None
    provider.shutdown()
