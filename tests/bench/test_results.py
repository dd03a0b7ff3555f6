"""The statistics, and results that survive a file."""

import json
from pathlib import Path

import pytest

from pinloop.bench.errors import BenchError
from pinloop.bench.results import Outcome, Results, Row, Sample, mean_ratio


def outcome(*costs: float, **more: str) -> Outcome:
    """One sample per cost, which is in ns per operation; a quarter of it in user mode."""
    return Outcome([Sample(i, 100, c * 100, c * 25, c * 75, 1.0) for i, c in enumerate(costs)], **more)


@pytest.fixture
def results() -> Results:
    outcomes = {
        "asyncio": outcome(400, 800, 500),
        "uvloop": outcome(200, 400, 260),
        "pinloop": outcome(100, 200, 130),
        "rloop": Outcome(failed="it fell"),
        "zloop": Outcome(not_offered="sock_recv"),
        "C floor": outcome(50, 100, 60),
    }
    return Results(
        created="2026-01-31T12:00:00+00:00",
        machine={"python": "3.14.0", "system": "Linux"},
        settings={"rounds": 3},
        loops=dict.fromkeys(["asyncio", "uvloop", "pinloop", "rloop", "zloop"], "1.0"),
        not_installed=["blazio"],
        notes=["a note"],
        rows=[
            Row("call-soon", "call_soon", "scheduler", {k: v for k, v in outcomes.items() if k != "C floor"}),
            Row("echo-x-1k-20", "echo", "server", outcomes),
        ],
    )


def test_statistics() -> None:
    found = outcome(100, 130, 400)
    assert (found.median, found.minimum, found.spread) == (130, 100, 30)
    assert found.user_share == pytest.approx(0.25)
    assert found.busy == pytest.approx(130 * 100 / 1e9)


def test_one_failure_voids_the_figure() -> None:
    assert outcome(1, 2).good
    assert not outcome(1, 2, failed="once").good
    assert not Outcome().good


def test_the_winner_is_a_loop_not_the_floor(results: Results) -> None:
    row = results.rows[1]
    assert row.winner() == "pinloop"
    assert row.best_peer("pinloop") == "uvloop"
    assert Row("x", "x", "server", {"rloop": Outcome(failed="x")}).winner() is None


def test_ratios_are_taken_within_a_round(results: Results) -> None:
    row = results.rows[1]
    # The second round was slow for all, by a factor of two: that is no spread of the ratio.
    assert row.ratio("pinloop", "uvloop") == pytest.approx(0.5)
    assert row.ratio("pinloop", "C floor") == pytest.approx(2)
    assert row.ratio("pinloop", "rloop") is None
    assert row.ratio("pinloop", "nobody") is None


def test_the_mean_over_rows_is_geometric() -> None:
    rows = [
        Row("a", "a", "scheduler", {"asyncio": outcome(100), "uvloop": outcome(400), "pinloop": outcome(50)}),
        Row("b", "b", "scheduler", {"asyncio": outcome(900), "uvloop": outcome(400), "pinloop": outcome(50)}),
        Row("c", "c", "scheduler", {"asyncio": outcome(100), "pinloop": outcome(200)}),
    ]
    # Against the best of each row: 1/2, 1/8, 2.
    assert mean_ratio(rows, "pinloop") == (pytest.approx(0.5), 3)
    # Against one loop: 1/8 and 1/8; the third row has no figure of it.
    assert mean_ratio(rows, "pinloop", "uvloop") == (pytest.approx(0.125), 2)
    assert mean_ratio(rows, "pinloop", "rloop") is None
    assert mean_ratio([], "pinloop") is None


def test_the_report_tells_the_mean_of_the_scheduler_cells(results: Results) -> None:
    console_module = pytest.importorskip("rich.console")
    from pinloop.bench.report import tables

    def text() -> str:
        console = console_module.Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
        with console.file:
            console.print(tables(results))
        found: str = console.export_text()
        return found

    assert "geometric mean" not in text()  # one cell: its ratio is in the table
    only_asyncio = {name: results.rows[0].outcomes[name] for name in ("asyncio", "pinloop")}
    results.rows.insert(1, Row("spawn", "spawn", "scheduler", only_asyncio))
    # The servers' row, with other ratios, is no part of it.
    assert (
        "geometric mean over the 2 scheduler cells: pinloop = 0.35 × best peer of each cell, 0.25 × asyncio, "
        "0.50 × uvloop (1 of 2 cells)\n"
    ) in "\n".join(line.rstrip() for line in text().splitlines()) + "\n"


def test_json_and_back(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(results.to_json(), encoding="utf-8")
    assert Results.read(path) == results
    statistics = json.loads(path.read_text())["rows"][0]["outcomes"]["pinloop"]["ns_per_operation"]
    assert statistics["median"] == 130


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"schema": 0}', '{"schema": 1}', '{"schema": 1, "rows": [1]}']
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(BenchError):
        Results.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"absent\.json"):
        Results.read(tmp_path / "absent.json")


def test_the_table_tells_everything(results: Results) -> None:
    console_module = pytest.importorskip("rich.console")
    from pinloop.bench.report import show

    console = console_module.Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(__import__("pinloop.bench.report", fromlist=["tables"]).tables(results))
        text = console.export_text()
        show(results, console)
    for word in ("it fell", "sock_recv", "not installed: blazio", "a note", "130", "0.50", "2.00", "failed"):
        assert word in text


def test_the_chart_is_drawn_twice_alike(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from pinloop.bench.chart import draw

    first = draw(results, tmp_path / "sub" / "chart.v1")
    assert [path.name for path in first] == ["chart.v1.svg", "chart.v1.png"]
    svg = first[0].read_text()
    assert "pinloop 1.0" in svg
    assert "2026-01-31" not in svg
    assert draw(results, tmp_path / "again")[0].read_text() == svg
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_said(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from pinloop.bench.chart import draw

    results.rows = []
    with pytest.raises(BenchError, match="nothing to draw"):
        draw(results, tmp_path / "chart")
