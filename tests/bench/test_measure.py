"""Each cell and each server, on asyncio and on pinloop; and loops that misbehave."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinloop.bench import catalog, child, cpus, measure, servers
from pinloop.bench.catalog import Cell
from pinloop.bench.results import Outcome

PLAN = measure.Plan(rounds=2, cell_seconds=0.01, server_seconds=0.05, warmup_seconds=0.01, deadline=None)


def take(cell: Cell, loop: str, patience: float = 15) -> Outcome:
    outcome = Outcome()
    turn = measure.Turn(dataclasses.replace(PLAN, patience=patience), cpus.choose(), 0)
    measure.measure(cell, loop, turn, outcome)
    return outcome


def cell_named(name: str) -> Cell:
    return catalog.select([name], quick=False)[0]


@pytest.mark.parametrize("loop", ["asyncio", "pinloop"])
@pytest.mark.parametrize("cell", catalog.select(None, quick=True), ids=lambda cell: cell.name)
def test_quick_cell(cell: Cell, loop: str) -> None:
    if cell.missing:
        pytest.skip(f"needs {cell.missing}")
    outcome = take(cell, loop)
    if outcome.not_offered and loop == "pinloop":
        pytest.skip(outcome.not_offered)
    assert outcome.failed == ""
    (sample,) = outcome.samples
    assert sample.operations >= 10
    assert sample.cpu_ns > 0
    assert sample.busy > 0


@pytest.mark.parametrize("name", ["echo-protocol-1k-1", "echo-protocol-10k-20", "echo-protocol-1k-1000"])
def test_the_floor_serves(name: str) -> None:
    outcome = take(cell_named(name), "C floor")
    assert outcome.failed == ""
    assert outcome.good


@pytest.fixture
def fake_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that stands in for a loop of the table; returns its file, which is still empty."""
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in (str(tmp_path), path) if part))
    return tmp_path / "blazio.py"


@pytest.mark.parametrize(
    ("source", "failed"),
    [
        ("raise ImportError('a symbol is missing')", "ImportError: a symbol is missing"),
        ("", "AttributeError: module 'blazio' has no attribute 'new_event_loop'"),
        ("import os\ndef new_event_loop(): os.abort()", "killed by SIGABRT"),
        ("def new_event_loop(): raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_loop_that_misbehaves_is_a_failure_with_its_reason(
    fake_loop: Path, source: str, failed: str
) -> None:
    fake_loop.write_text(source)
    for name in ("future-wake", "echo-protocol-1k-20"):
        outcome = take(cell_named(name), "blazio")
        assert failed in outcome.failed
        assert not outcome.good


def test_a_loop_that_hangs_is_killed(fake_loop: Path) -> None:
    fake_loop.write_text("import time\ndef new_event_loop(): time.sleep(60)")
    assert "no answer within 1 s" in take(cell_named("echo-protocol-1k-20"), "blazio", patience=1).failed


def test_a_method_that_is_missing_is_not_offered(fake_loop: Path) -> None:
    fake_loop.write_text(
        "import asyncio\n"
        "class Loop(asyncio.SelectorEventLoop):\n"
        "    async def sock_recv(self, *args): raise NotImplementedError('no sock_recv() yet')\n"
        "new_event_loop = Loop\n"
    )
    outcome = take(cell_named("echo-sock-1k-20"), "blazio")
    assert outcome.not_offered == "no sock_recv() yet"
    assert outcome.failed == ""


def test_a_server_that_lies_is_a_failure(fake_loop: Path) -> None:
    fake_loop.write_text(
        "import asyncio\n"
        "class Loop(asyncio.SelectorEventLoop):\n"
        "    async def sock_sendall(self, sock, data):\n"
        "        await super().sock_sendall(sock, bytes(len(data)))\n"
        "new_event_loop = Loop\n"
    )
    assert "wrong bytes" in take(cell_named("echo-sock-1k-20"), "blazio").failed


def test_what_children_use_counts() -> None:
    before = child.cpu_used()
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True, timeout=30)
    after = child.cpu_used()
    assert after["cpu_ns"] - before["cpu_ns"] > 0.29e9
    assert sum(after[part] - before[part] for part in ("user", "system")) > 0.2


def test_a_file_counts_by_the_mebibyte() -> None:
    (sample,) = take(cell_named("sendfile-64m"), "asyncio").samples
    assert sample.operations % 64 == 0


def test_every_server_of_a_cell_is_there() -> None:
    assert {cell.server for cell in catalog.CELLS if cell.group == catalog.SERVER} == set(servers.SERVERS)


# ---- rounds


def test_transports_for_another_loop_take_part_where_there_are_transports() -> None:
    cells = [cell_named(name) for name in ("future-wake", "subprocess-true", "tls-handshake")]
    rows = measure.blank_rows(cells, ["uvloop", "uvloop+aiofastnet"])
    assert [list(row.outcomes) for row in rows] == [["uvloop"], ["uvloop"], ["uvloop", "uvloop+aiofastnet"]]


def test_rounds_are_interleaved_and_rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell_named("future-wake"), cell_named("sleep0-1")]
    rows = measure.blank_rows(cells, ["asyncio", "uvloop", "pinloop"])
    told = []

    def pretend(cell: Cell, loop: str, turn: measure.Turn, outcome: Outcome) -> None:
        if loop == "uvloop":
            outcome.failed = "always"
        else:
            outcome.samples.append(turn.sample({"cpu_ns": 1e6, "user": 0.0, "system": 0.0}, 100))

    monkeypatch.setattr(measure, "measure", pretend)
    measure.run_rounds(cells, rows, PLAN, cpus.choose(), lambda *words: told.append(words))
    first = [(0, cell.title, loop) for cell in cells for loop in ("asyncio", "uvloop", "pinloop")]
    # The second round begins with another loop, and leaves out what has failed.
    second = [(1, cell.title, loop) for cell in cells for loop in ("pinloop", "asyncio")]
    assert told == first + second
    assert [sample.round for sample in rows[0].outcomes["asyncio"].samples] == [0, 1]


def test_the_first_round_runs_whatever_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell_named("future-wake")]
    rows = measure.blank_rows(cells, ["asyncio"])
    told = []
    monkeypatch.setattr(measure, "measure", lambda *words: None)
    plan = dataclasses.replace(PLAN, deadline=1e-9)
    measure.run_rounds(cells, rows, plan, cpus.choose(), lambda *words: told.append(words))
    assert told == [(0, "future wake", "asyncio")]
