#!/usr/bin/env python3
"""The tables of docs/channels-cost.md: channels, select, join, race and scopes beside what others have.

    python benchmarks/channels.py                                 # print the tables
    python benchmarks/channels.py --write docs/channels-cost.md   # and put them there
    python benchmarks/channels.py --rows 'spsc-*' --rounds 3      # some of them
    valgrind --tool=callgrind python benchmarks/channels.py --rows spsc-16 --only pinloop --once 5000

The contenders of a row (see `channel_cells.py`) take turns: each measurement is a process of its own, and
each round begins with another of them. What is measured is the CPU time of the process, from when its
interpreter has warmed up.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import math
import platform
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from channel_cells import CHOICES, HOPS, SCOPES, TENS, Contender, LoopCell, Rows
from comparison import BEGIN, END, put_between

import pinloop
from pinloop.bench import child, cpus, loops
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.measure import Plan, Turn, rotated
from pinloop.bench.process import Child, python_child
from pinloop.bench.results import Outcome, Row

US = loops.PINLOOP.name
LIBRARIES = ("anyio", "trio", "culsans")
LEAST = 100
"""Operations of the shortest run."""


@dataclass(frozen=True)
class Table:
    """Rows with the same contenders."""

    title: str
    rows: Rows
    unit: str
    beside: str
    """The contender that the last column compares with."""


TABLES = (
    Table("Items through a channel", HOPS, "ns per item", "asyncio.Queue"),
    Table("One of several", CHOICES, "ns per item", "asyncio.wait (kept)"),
    Table("Ten at once", TENS, "ns per child", "asyncio.gather or wait"),
    Table("A scope with many children", SCOPES, "ns per child", "TaskGroup on uvloop"),
)
ROWS = {name: found for table in TABLES for name, found in table.rows.items()}


# ---- measuring


def command(row: str, contender: str, seconds: float) -> list[str]:
    """The command line of the process that measures."""
    what = ROWS[row][1][contender]
    if isinstance(what, LoopCell):
        return python_child("cell", "--loop", what.loop, "--cell", what.cell, "--seconds", str(seconds))
    return [sys.executable, __file__, "--rows", row, "--only", contender, "--child", str(seconds)]


def measure(row: str, contender: str, turn: Turn, outcome: Outcome) -> None:
    """One measurement, entered into *outcome*, whichever way it goes."""
    seconds = turn.plan.cell_seconds
    try:
        with Child(
            command(row, contender, seconds), turn.cpus.server, turn.plan.patience + 20 * seconds
        ) as process:
            took = process.answer()
        outcome.samples.append(turn.sample(took, took["operations"]))
    except MeasurementError as error:
        outcome.failed = str(error)


def run_rounds(names: list[str], only: str, plan: Plan) -> dict[str, Row]:
    """Measure all rounds, with a line about each on standard error."""
    measured = {}
    for name in names:
        title, contenders = ROWS[name]
        outcomes = {
            one: Outcome() for one, what in contenders.items() if what.installed and chosen(one, only)
        }
        if outcomes:
            measured[name] = Row(name, title, "", outcomes)
    places = cpus.choose()
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds}", file=sys.stderr, flush=True)
        turn = Turn(plan, places, number)
        for name, row in measured.items():
            for contender, outcome in rotated(row, number):
                measure(name, contender, turn, outcome)
    return measured


def chosen(contender: str, only: str) -> bool:
    """Whether a contender is one of those asked for."""
    return any(fnmatch.fnmatchcase(contender, pattern) for pattern in only.split(","))


def run_child(contender: Contender, seconds: float) -> None:
    """Measure in this process, and tell what it took."""
    child.say(**contender.run(lambda: child.measure_for(contender.function, seconds, LEAST)))


# ---- showing


def figure(outcome: Outcome | None, best: bool) -> str:
    """Median and median absolute deviation, in ns."""
    if outcome is None or not outcome.good:
        return "–"
    median = f"{outcome.median:.0f}"
    return f"{f'**{median}**' if best else median} ± {outcome.spread:.0f}"


def in_markdown(table: Table, measured: dict[str, Row]) -> list[str]:
    """The lines of a table; none if nothing of it was measured."""
    rows = [measured[name] for name in table.rows if name in measured]
    names = list(dict.fromkeys(name for row in rows for name in row.outcomes))
    if not rows:
        return []
    lines = [
        f"## {table.title}",
        "",
        f"| {' | '.join([table.unit, *names, f'{table.beside} ÷ pinloop'])} |",
        f"|---|{'---:|' * (len(names) + 1)}",
    ]
    for row in rows:
        best, ratio = row.winner(), row.ratio(table.beside, US)
        figures = [figure(row.outcomes.get(name), name == best) for name in names]
        lines.append(f"| {' | '.join([row.title, *figures, f'{ratio:.1f}' if ratio else '–'])} |")
    return [*lines, ""]


def versions() -> str:
    """What was measured."""
    found = [f"CPython {platform.python_version()}", f"pinloop {pinloop.__version__}"]
    for name in ("uvloop", *LIBRARIES):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"without {name}")
    return ", ".join(found)


def report(measured: dict[str, Row], rounds: int) -> str:
    """All tables, between the marks of a page."""
    today = datetime.datetime.now(datetime.UTC).date()
    words = shlex.join(["python", "benchmarks/channels.py", *sys.argv[1:]])
    lines = [BEGIN, "", f"{today}: {versions()}; {rounds} rounds. By `{words}`.", ""]
    for table in TABLES:
        lines += in_markdown(table, measured)
    failed = [
        f"{row.name}, {name}: {outcome.failed}"
        for row in measured.values()
        for name, outcome in row.outcomes.items()
        if outcome.failed
    ]
    if failed:
        lines += ["Failed:", "", *(f"- {line}" for line in failed), ""]
    return "\n".join([*lines, END])


def main() -> int:
    """Parse the command line, measure and show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="*", metavar="PATTERN")
    parser.add_argument("--only", default="*", metavar="A,B,…", help="patterns of contenders")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.12, help="of CPU, per measurement")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables there")
    parser.add_argument("--once", type=int, metavar="N", help="run N operations, measure nothing")
    parser.add_argument("--child", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in ROWS if fnmatch.fnmatchcase(name, options.rows)]
    pairs = [(name, one) for name in names for one in ROWS[name][1] if chosen(one, options.only)]
    if not pairs:
        print(f"channels: nothing matches; rows: {', '.join(ROWS)}", file=sys.stderr)
        return 2
    if options.once or options.child:
        for name, one in pairs:
            contender = ROWS[name][1][one]
            if isinstance(contender, Contender) and options.once:
                contender.run(lambda run=contender.function: run(options.once))  # type: ignore[misc]
            elif isinstance(contender, Contender):
                run_child(contender, options.child)
        return 0
    plan = Plan(options.rounds, options.seconds, math.nan, math.nan, None)
    measured = run_rounds(names, options.only, plan)
    text = report(measured, plan.rounds)
    print(text)
    try:
        if options.write:
            put_between(text, options.write)
    except BenchError as error:
        print(f"channels: {error}", file=sys.stderr)
        return 1
    return any(outcome.failed for row in measured.values() for outcome in row.outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
