"""Measure: one cell on one loop in processes of their own; and rounds of them, interleaved."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import native
from .catalog import SERVER, Cell
from .cpus import Cpus, pinned
from .errors import MeasurementError, NotOfferedError
from .loops import FLOOR, named
from .process import Child, python_child, python_script
from .results import Outcome, Row, Sample

WRK = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b")
WRK_ERRORS = re.compile(r"Non-2xx or 3xx responses: \d+|Socket errors: .*")
LOST = 0.01
"""If more datagrams than this share are lost, the server is not measured at what it should do."""
WRK_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Plan:
    """How long and how often. Times are in seconds; *deadline* bounds the whole run, None does not.

    The first round always runs; after it no cell is begun once the deadline has passed.
    """

    rounds: int
    cell_seconds: float
    server_seconds: float
    warmup_seconds: float
    deadline: float | None
    patience: float = 15.0

    @property
    def wrk(self) -> str | None:
        """The path of wrk, if it is installed and the runs are long enough: it counts in whole seconds."""
        return shutil.which("wrk") if self.server_seconds >= 1 else None


QUICK = Plan(rounds=5, cell_seconds=0.05, server_seconds=0.12, warmup_seconds=0.04, deadline=130.0)
FULL = Plan(rounds=7, cell_seconds=0.3, server_seconds=1.0, warmup_seconds=0.3, deadline=None)


@dataclass(frozen=True)
class Turn:
    """What one measurement is told beside its cell and its loop."""

    plan: Plan
    cpus: Cpus
    round: int

    def sample(self, used: dict[str, Any], operations: int, **load: float) -> Sample:
        """What was *used* over *operations*; raises `MeasurementError` if that is nothing."""
        if operations <= 0 or used["cpu_ns"] <= 0:
            raise MeasurementError("no operation was completed")
        user, system = max(0.0, used["user"]) * 1e9, max(0.0, used["system"]) * 1e9
        return Sample(self.round, operations, used["cpu_ns"], user, system, **load)


def measure_cell(cell: Cell, loop: str, turn: Turn) -> Sample:
    """One cell without a server, in a process of its own."""
    seconds = turn.plan.cell_seconds * cell.longer
    command = python_child("cell", "--loop", loop, "--cell", cell.name, "--seconds", str(seconds))
    with Child(command, turn.cpus.server, turn.plan.patience + 20 * seconds) as child:
        took = child.answer()
    return turn.sample(took, took["operations"])


def server_command(loop: str, server: str) -> list[str]:
    """The command line of a server process: of that loop, or the C floor."""
    if loop == FLOOR:
        return [str(native.program("floor")), *(["udp"] if server.startswith("udp-") else [])]
    return python_child("server", "--loop", loop, "--server", server)


def load_command(mode: str, port: int, connections: int, **options: object) -> list[str]:
    """The command line of the load program of that mode; see `native/load.c`; for `tls-`, `load_tls.py`."""
    if mode.startswith("tls-"):
        words = python_script("load_tls.py", mode.removeprefix("tls-"))
    else:
        words = [str(native.program("load")), mode]
    words += ["--port", str(port), "--connections", str(connections)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def check_load(report: dict[str, Any]) -> dict[str, Any]:
    """Return the load program's report; raises `MeasurementError` for an error, or many lost datagrams."""
    if report["errors"]:
        requests = report["requests"] + report["errors"]
        raise MeasurementError(f"{report['errors']} of {requests} requests failed: {report['first_error']}")
    if report["lost"] > LOST * report["requests"]:
        raise MeasurementError(f"{report['lost']} datagrams were lost, {report['requests']} came back")
    return report


def _load_commands(cell: Cell, port: int, count: int) -> list[list[str]]:
    """The command lines of *count* load programs, or fewer, that share the cell's connections."""
    count = min(count, cell.connections)
    shares = [cell.connections // count + (i < cell.connections % count) for i in range(count)]
    options: dict[str, object] = {"size": cell.size} if cell.size else {}
    if cell.window > 1:
        options["window"] = cell.window
    return [load_command(cell.load, port, share, **options) for share in shares]


def _run_loads(loads: list[Child], seconds: float) -> dict[str, float]:
    """Let all of them run at once; return requests, seconds and latencies (of the worse one) together."""
    for load in loads:
        load.tell(f"seconds {seconds}")
    reports = [check_load(load.answer()) for load in loads]
    together = {key: max(report[key] for report in reports) for key in ("seconds", "p50_us", "p99_us")}
    return together | {"requests": sum(report["requests"] for report in reports)}


def _used_between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {key: after[key] - before[key] for key in before}


def _drive(cell: Cell, port: int, turn: Turn, server: Child) -> Sample:
    """Our own load program. Its connections stand before the first snapshot, and until after the second."""
    plan, cpus = turn.plan, turn.cpus.loads
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(Child(command, cpu, plan.patience + plan.server_seconds))
            for command, cpu in zip(_load_commands(cell, port, len(cpus)), cpus, strict=False)
        ]
        for load in loads:
            load.answer()
        _run_loads(loads, plan.warmup_seconds)
        before = server.ask("cpu")
        report = _run_loads(loads, plan.server_seconds)
        after = server.ask("cpu")
    operations = round(report.pop("requests") * cell.per_request)
    return turn.sample(_used_between(before, after), operations, **report)


def _run_wrk(wrk: str, cell: Cell, port: int, seconds: int, cpu: int | None) -> tuple[int, float]:
    """Requests answered, and seconds taken."""
    command = [wrk, "-t1", f"-c{cell.connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    limit = seconds + 15
    with pinned(cpu):
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"wrk did not end within {limit} s") from None
    found, errors = WRK.search(done.stdout), WRK_ERRORS.search(done.stdout)
    if done.returncode or found is None:
        raise MeasurementError(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    if errors:
        raise MeasurementError(f"wrk: {errors[0]}")
    return int(found[1]), float(found[2]) * WRK_UNITS[found[3]]


def _drive_wrk(wrk: str, cell: Cell, port: int, turn: Turn, server: Child) -> Sample:
    cpu = turn.cpus.loads[0]
    _run_wrk(wrk, cell, port, 1, cpu)
    before = server.ask("cpu")
    requests, seconds = _run_wrk(wrk, cell, port, round(turn.plan.server_seconds), cpu)
    after = server.ask("cpu")
    return turn.sample(_used_between(before, after), requests, seconds=seconds)


def measure_server(cell: Cell, loop: str, turn: Turn) -> Sample:
    """One server cell: a server process and a load process."""
    with Child(server_command(loop, cell.server), turn.cpus.server, turn.plan.patience) as server:
        port = server.answer()["port"]
        if cell.http and turn.plan.wrk:
            return _drive_wrk(turn.plan.wrk, cell, port, turn, server)
        return _drive(cell, port, turn, server)


def measure(cell: Cell, loop: str, turn: Turn, outcome: Outcome) -> None:
    """One measurement, entered into *outcome*, whichever way it goes."""
    one = measure_server if cell.group == SERVER else measure_cell
    try:
        outcome.samples.append(one(cell, loop, turn))
    except NotOfferedError as error:
        outcome.not_offered = str(error)
    except MeasurementError as error:
        outcome.failed = str(error)


def blank_rows(cells: list[Cell], loops: list[str]) -> list[Row]:
    """The table before the first measurement."""
    rows = []
    for cell in cells:
        # Transports for another loop change nothing where there are none.
        names = [name for name in loops if cell.group == SERVER or not named(name).base]
        names += [FLOOR] if cell.has_floor else []
        rows.append(Row(cell.name, cell.title, cell.group, {name: Outcome() for name in names}))
    return rows


def rotated(row: Row, round_number: int) -> list[tuple[str, Outcome]]:
    """The loops of a row in the order of a round: each round begins with another one.

    A loop that has failed there is left out: its cell is void already.
    """
    pairs = list(row.outcomes.items())
    shift = round_number % len(pairs)
    pairs = pairs[shift:] + pairs[:shift]
    return [(name, outcome) for name, outcome in pairs if round_number == 0 or outcome.good]


def run_rounds(
    cells: list[Cell], rows: list[Row], plan: Plan, cpus: Cpus, tell: Callable[[int, str, str], None]
) -> None:
    """Measure all rounds into *rows*.

    *tell* is called before each measurement with the round's number, the cell's title and the loop's name.
    """
    ends = time.monotonic() + plan.deadline if plan.deadline else math.inf
    for round_number in range(plan.rounds):
        turn = Turn(plan, cpus, round_number)
        for cell, row in zip(cells, rows, strict=True):
            if round_number and time.monotonic() > ends:
                return
            for loop, outcome in rotated(row, round_number):
                tell(round_number, cell.title, loop)
                measure(cell, loop, turn, outcome)
