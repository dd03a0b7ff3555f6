"""The tables of latencies, on servers that are really there."""

import re
from collections.abc import Callable
from types import ModuleType

import pytest

from pinloop.bench.errors import MeasurementError


@pytest.fixture
def latency(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("latency")


def test_both_tables_have_every_loop(
    latency: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["latency", "--loop", "asyncio,pinloop", "--load", "0.05", "--rounds", "1", "--seconds", "0.1"]
    monkeypatch.setattr("sys.argv", words)
    assert latency.main() == 0
    out = capsys.readouterr().out
    own, _, one = out.partition("one rate: 5% of the least capacity")
    assert "5% of each loop's own capacity" in own
    rates = []
    for table in (own, one):
        for loop in ("asyncio", "pinloop"):
            row = re.search(rf"^{loop} +(\d+) +(\d+)%(( +\d+\.\d){{4}}) +(\d+\.\d\d)$", table, re.MULTILINE)
            assert row, out
            p50, p99, p999, _ = map(float, row[3].split())
            assert 0 < p50 <= p99 <= p999
            rates.append(int(row[1]))
            if loop == "pinloop":
                assert row[5] == "1.00"
    assert rates[2] == rates[3] == min(rates[:2])


def test_ratios_are_taken_within_a_round(latency: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def runs(*p99: float) -> list[object]:
        return [latency.Latency(1000.0, 0.7, 10.0, value, 50.0, 0.1) for value in p99]

    # The second round was slow for both.
    latency.show("title", {"pinloop": runs(20, 200, 30), "uvloop": runs(40, 400, 50)})
    out = capsys.readouterr().out.splitlines()
    assert out[-1].split() == ["uvloop", "1000", "70%", "10.0", "50.0", "50.0", "0.1", "0.50"]


def test_a_server_that_fails_is_told(
    latency: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*words: object) -> float:
        raise MeasurementError("it fell")

    monkeypatch.setattr(latency, "capacity", refuse)
    monkeypatch.setattr("sys.argv", ["latency", "--loop", "asyncio"])
    assert latency.main() == 1
    assert capsys.readouterr().err == "latency: it fell\n"


def test_one_loop_alone_has_one_table(
    latency: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "capacity", lambda loop, seconds: 1000.0)
    monkeypatch.setattr(
        latency, "latency", lambda loop, rate, seconds: latency.Latency(rate, 0.7, 1.0, 2.0, 3.0, 0.0)
    )
    latency.compare(["asyncio"], 0.7, 3, 0.1)
    out = capsys.readouterr().out
    assert "700" in out
    assert "one rate" not in out
    assert "pinloop" not in out


def test_rounds_begin_with_another_loop(latency: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def note(loop: str, rate: float, seconds: float) -> object:
        order.append((loop, rate))
        return latency.Latency(rate, 0.7, 1.0, 2.0, 3.0, 0.0)

    monkeypatch.setattr(latency, "latency", note)
    latency.run_rounds({"a": 1.0, "b": 2.0}, 2, 0.1)
    assert order == [("a", 1.0), ("b", 2.0), ("b", 2.0), ("a", 1.0)]
