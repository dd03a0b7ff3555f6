"""The tables of what workers cost: small runs of contenders, and what is made of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "workers.py"


@pytest.fixture
def workers(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("workers")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.timeout(120)
def test_tables_replace_those_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    words = ["--quick", "--rounds", "1", "--write", page]
    done = run("--cells", "trip,flood,map,items,blocks", "--kinds", "pinloop,Executor,Pool,Pipe", *words)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n<!-- measured -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    lines = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines() if "±" in line}
    assert list(lines) == [
        "one after the other, p50, µs",
        "one after the other, p99, µs",
        "many at once, µs per call",
        "many at once, µs of CPU per call",
        "in chunks of 100, µs per item",
        "in chunks of 100, µs of CPU per item",
        "small items, µs per item",
        "blocks of 1 MiB, MiB/s",
    ]
    assert all("–" not in figure for figures in lines.values() for figure in figures)
    assert [len(figures) for figures in lines.values()] == [4, 4, 4, 4, 4, 4, 3, 3]


@pytest.mark.timeout(120)
def test_loops_in_threads_and_two_cores() -> None:
    done = run("--quick", "--rounds", "1", "--cells", "scale,compute2,echo2", "--kinds", "pinloop,threads")
    assert done.returncode == 0, done.stderr
    for title in ("two workers, × one", "computing, two workers", "echo, one worker", "echo, two workers"):
        assert title in done.stdout


def test_a_ratio_says_how_many_times_as_good_pinloop_is(workers: ModuleType) -> None:
    measured = workers.Run(["items", "blocks"], ["pinloop", "Queue", "Pipe"], 2, workers.Sizes())
    for number, (ours, theirs) in enumerate([(1.0, 4.0), (2.0, 4.0)]):
        measured._note(number, "items", "pinloop", ours)
        measured._note(number, "items", "Queue", theirs)
        measured._note(number, "blocks", "pinloop", theirs)
        measured._note(number, "blocks", "Pipe", ours)
    measured._note(0, "items", "Pipe", 1.5)
    assert measured.ratio("items", "Queue") == 3.0
    assert measured.ratio("items", "Pipe") == 1.5  # in the round that both have
    assert measured.ratio("blocks", "Pipe") == 3.0
    assert measured.table(workers.TABLES[1])[4:6] == [
        "| small items, µs per item | **1.50** ± 0.50 | 4.00 ± 0.00 | 1.50 ± 0.00 | 1.50 |",
        "| blocks of 1 MiB, MiB/s | **4** ± 0 | – | 2 ± 0 | 3.00 |",
    ]


def test_what_fails_is_told_and_the_others_go_on(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: int) -> None:
        raise OSError("no room")

    monkeypatch.setitem(workers.OPEN, "Pool", broken)
    monkeypatch.setattr(
        sys, "argv", ["workers.py", "--quick", "--rounds", "1", "--cells", "trip", "--kinds", "Pool,Executor"]
    )
    assert workers.main() == 1
    printed = capsys.readouterr().out
    assert "- Pool, trip: OSError('no room')" in printed
    assert "| one after the other, p50, µs | **" in printed


def test_unknown_names_are_refused() -> None:
    done = run("--cells", "trip,trap")
    assert (done.returncode, done.stderr) == (2, "workers: there is no trap\n")
