#!/usr/bin/env python3
"""The tables of docs/workers-cost.md: calls to other processes, and items sent to them, beside other ways.

    python benchmarks/workers.py                                    # print the tables
    python benchmarks/workers.py --write docs/workers-cost.md       # and put them there
    python benchmarks/workers.py --cells trip,flood --kinds pinloop,Pool --rounds 5

The contenders (see `worker_kinds.py`) take turns within each round, and each round begins with another. Those
that are not installed are left out, and named.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import platform
import shlex
import statistics
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import family
from comparison import BEGIN, END, put_between
from worker_kinds import NEEDS, OPEN, Kind, compute, echo, installed

import pinloop
from pinloop.bench.errors import BenchError

US = "pinloop"
CALLERS = ("pinloop", "Executor", "Executor in asyncio", "Pool", "aiomultiprocess", "Dask")
SENDERS = ("pinloop", "Queue", "Pipe")
LOOPS = ("pinloop", "threads")
LIMIT = "no calls"
"""What the machine's cores give to processes that have nothing to do with each other: no contender."""
BLOCK = 1 << 20
COMPUTING = 0.005  # seconds of a call
REPEATS = 3  # in a round, of what depends on what else the machine's cores do


@dataclass(frozen=True)
class Cell:
    """A line of a table."""

    title: str
    unit: str
    kinds: tuple[str, ...]
    more: bool = False
    """Whether more is better."""
    digits: int = 1


@dataclass(frozen=True)
class Table:
    title: str
    cells: dict[str, Cell]
    columns: dict[str, str] = field(default_factory=dict)
    """What kinds are called in it, if not by their names."""


TABLES = (
    Table(
        "Calls",
        {
            "trip": Cell("one after the other, p50", "µs", CALLERS),
            "trip99": Cell("one after the other, p99", "µs", CALLERS),
            "flood": Cell("many at once", "µs per call", CALLERS),
            "flood_cpu": Cell("many at once", "µs of CPU per call", CALLERS),
            "map": Cell("in chunks of 100", "µs per item", CALLERS, digits=2),
            "map_cpu": Cell("in chunks of 100", "µs of CPU per item", CALLERS, digits=2),
        },
    ),
    Table(
        "Items",
        {
            "items": Cell("small items", "µs per item", SENDERS, digits=2),
            "blocks": Cell("blocks of 1 MiB", "MiB/s", SENDERS, more=True, digits=0),
        },
    ),
    Table(
        "Two cores",
        {
            "scale": Cell("two workers", "× one", (*CALLERS, LIMIT), more=True, digits=2),
            "rate": Cell("two workers", "calls/s", (*CALLERS, LIMIT), more=True, digits=0),
            "busy": Cell("two workers", "cores computing", (*CALLERS, LIMIT), more=True, digits=2),
        },
    ),
    Table(
        "Loops in threads",
        {
            "compute2": Cell("computing, two workers", "× one", LOOPS, more=True, digits=2),
            "echo1": Cell("echo, one worker", "trips/s", LOOPS, more=True, digits=0),
            "echo2": Cell("echo, two workers", "trips/s", LOOPS, more=True, digits=0),
        },
        {"pinloop": "processes"},
    ),
)
CELLS = {name: cell for table in TABLES for name, cell in table.cells.items()}
ALONGSIDE = {
    "trip99": "trip",
    "flood_cpu": "flood",
    "map_cpu": "map",
    "echo2": "echo1",
    "rate": "scale",
    "busy": "scale",
}
"""Lines that are measured with another one."""


@dataclass
class Sizes:
    """How much is done of each."""

    trips: int = 1000
    flood: int = 5000
    map: int = 100_000
    items: int = 20_000
    blocks: int = 100
    computing: int = 160
    echo: int = 20_000

    def divided(self, by: int) -> Sizes:
        return Sizes(*(max(20, value // by) for value in vars(self).values()))


class Run:
    """All rounds, and what was found in them."""

    def __init__(self, cells: list[str], kinds: list[str], rounds: int, sizes: Sizes) -> None:
        self.cells = cells
        self.kinds = kinds
        self.rounds = rounds
        self.sizes = sizes
        self.found: dict[tuple[str, str], dict[int, float]] = {}
        """By line and kind, what each round gave."""
        self.failed: dict[tuple[str, str], str] = {}
        self._length = calibrated()

    async def run(self) -> None:
        for number in range(self.rounds):
            print(f"round {number + 1} of {self.rounds}", file=sys.stderr, flush=True)
            first = number % len(self.kinds)
            for kind in self.kinds[first:] + self.kinds[:first]:
                await self._take_turn(number, kind)

    async def _take_turn(self, number: int, kind: str) -> None:
        """All lines of one kind, once."""
        wanted = [cell for cell in self.cells if kind in CELLS[cell].kinds]
        pooled = [cell for cell in wanted if cell in ("trip", "flood", "map", "items", "blocks")]
        if pooled:
            try:
                async with OPEN[kind](2) as two:
                    await two.warm(2)
                    for cell in pooled:
                        await self._measure(number, cell, kind, two)
            except Exception as error:
                self._fail(",".join(pooled), kind, error)
        paired = [cell for cell in wanted if cell in ("scale", "compute2", "echo1")]
        if paired:
            try:
                async with OPEN[kind](1) as one, OPEN[kind](2) as two:
                    await one.warm(1)
                    await two.warm(2)
                    for cell in paired:
                        await self._compare(number, cell, kind, one, two)
            except Exception as error:
                self._fail(",".join(paired), kind, error)

    async def _measure(self, number: int, cell: str, kind: str, two: Kind) -> None:
        sizes = self.sizes
        if cell == "trip":
            await two.trips(20)
            taken = sorted(await two.trips(sizes.trips))
            self._note(number, cell, kind, taken[len(taken) // 2] * 1e6)
            self._note(number, "trip99", kind, taken[len(taken) * 99 // 100] * 1e6)
        elif cell == "flood":
            args = list(range(sizes.flood))
            await self._repeat(number, cell, kind, sizes.flood, lambda: two.many(two.one, args))
        elif cell == "map":
            await self._repeat(number, cell, kind, sizes.map, lambda: two.map(sizes.map))
        elif cell == "items":
            seconds = await two.items([("item", i) for i in range(sizes.items)])
            self._note(number, cell, kind, seconds / sizes.items * 1e6)
        else:
            seconds = await two.items([bytes([i % 256]) * BLOCK for i in range(sizes.blocks)])
            self._note(number, cell, kind, sizes.blocks / seconds)

    async def _repeat(
        self, number: int, cell: str, kind: str, count: int, work: Callable[[], Awaitable[Any]]
    ) -> None:
        """Do it once before, and once to measure it: the time, and the CPU of all processes."""
        await work()
        cpu = family.fine_cpu(os.getpid())
        seconds = await timed(work())
        cpu = family.fine_cpu(os.getpid()) - cpu
        self._note(number, cell, kind, seconds / count * 1e6)
        self._note(number, f"{cell}_cpu", kind, cpu / count * 1e6)

    async def _compare(self, number: int, cell: str, kind: str, one: Kind, two: Kind) -> None:
        if cell == "echo1":
            for name, workers, pool in (("echo1", 1, one), ("echo2", 2, two)):
                await pool.many(echo, [100] * workers)
                seconds = await timed(pool.many(echo, [self.sizes.echo] * workers))
                self._note(number, name, kind, self.sizes.echo * workers / seconds)
            return
        calls = [self._length] * self.sizes.computing
        for pool in (one, two):
            await pool.many(pool.computes, calls[:8])
        times = []
        for _ in range(REPEATS):
            alone = await timed(one.many(one.computes, calls))
            cpu = family.fine_cpu(os.getpid())
            both = await timed(two.many(two.computes, calls))
            times.append((alone / both, len(calls) / both, (family.fine_cpu(os.getpid()) - cpu) / both))
        names = ("scale", "rate", "busy") if cell == "scale" else (cell,)
        for name, found in zip(names, zip(*times, strict=True), strict=False):
            self._note(number, name, kind, statistics.median(found))

    def _note(self, number: int, cell: str, kind: str, value: float) -> None:
        self.found.setdefault((cell, kind), {})[number] = value

    def _fail(self, cell: str, kind: str, error: Exception) -> None:
        traceback.print_exception(error)
        self.failed[cell, kind] = repr(error)

    # ------------------------------------------------------------------ showing --

    def value(self, cell: str, kind: str) -> float | None:
        rounds = self.found.get((cell, kind))
        return statistics.median(rounds.values()) if rounds else None

    def ratio(self, cell: str, kind: str) -> float | None:
        """How many times as good as another pinloop is, in the median of the rounds that both have."""
        ours, theirs = self.found.get((cell, US), {}), self.found.get((cell, kind), {})
        ratios = [
            ours[i] / theirs[i] if CELLS[cell].more else theirs[i] / ours[i] for i in ours if i in theirs
        ]
        return statistics.median(ratios) if ratios else None

    def figure(self, cell: str, kind: str, best: bool) -> str:
        value = self.value(cell, kind)
        if value is None:
            return "–"
        digits = CELLS[cell].digits
        spread = statistics.median(abs(one - value) for one in self.found[cell, kind].values())
        text = f"{value:.{digits}f}"
        return f"{f'**{text}**' if best else text} ± {spread:.{digits}f}"

    def table(self, table: Table) -> list[str]:
        """The lines of a table; none if nothing of it was measured."""
        cells = [cell for cell in table.cells if any((cell, kind) in self.found for kind in self.kinds)]
        if not cells:
            return []
        kinds = [kind for kind in self.kinds if any((cell, kind) in self.found for cell in cells)]
        others = [kind for kind in kinds if kind not in (US, LIMIT)] if US in kinds and len(kinds) > 1 else []
        names = [table.columns.get(kind, kind) for kind in kinds]
        last = ["next best ÷ pinloop"] if others and not table.columns else []
        lines = [
            f"## {table.title}",
            "",
            f"| {' | '.join(['', *names, *last])} |",
            f"|---|{'---:|' * (len(names) + len(last))}",
        ]
        for cell in cells:
            what = CELLS[cell]
            values = {kind: value for kind in kinds if (value := self.value(cell, kind)) is not None}
            contenders = [kind for kind in values if kind != LIMIT] or list(values)
            best = (max if what.more else min)(contenders, key=lambda kind: values[kind])
            figures = [self.figure(cell, kind, kind == best) for kind in kinds]
            if last:
                ratios = [ratio for kind in others if (ratio := self.ratio(cell, kind)) is not None]
                figures.append(f"{min(ratios):.2f}" if ratios else "–")
            lines.append(f"| {' | '.join([f'{what.title}, {what.unit}', *figures])} |")
        return [*lines, ""]

    def report(self) -> str:
        """All tables, between the marks of a page."""
        today = datetime.datetime.now(datetime.UTC).date()
        words = shlex.join(["python", "benchmarks/workers.py", *sys.argv[1:]])
        lines = [BEGIN, "", f"{today}: {versions()}; {self.rounds} rounds. By `{words}`.", ""]
        for table in TABLES:
            lines += self.table(table)
        missing = [kind for kind in NEEDS if not installed(kind)]
        if missing:
            lines += [f"Not installed, and left out: {', '.join(missing)}.", ""]
        if self.failed:
            lines += ["Failed:", ""]
            lines += [f"- {kind}, {cell}: {error}" for (cell, kind), error in self.failed.items()] + [""]
        return "\n".join([*lines, END])


async def timed(work: Any) -> float:
    """The seconds that it takes to await this."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def calibrated() -> int:
    """How far to count so that it takes about `COMPUTING` seconds."""
    n = 10_000
    while True:
        taken = min(_seconds(lambda n=n: compute(n)) for _ in range(3))  # type: ignore[misc]
        if taken > COMPUTING:
            return int(n * COMPUTING / taken)
        n *= 2


def _seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def versions() -> str:
    """What was measured, and on what."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    found = [f"CPython {platform.python_version()} {'with' if gil else 'without'} the GIL"]
    found.append(f"pinloop {pinloop.__version__}")
    found += [f"{name} {metadata.version(name)}" for kind, name in NEEDS.items() if installed(kind)]
    found.append(f"{len(os.sched_getaffinity(0))} CPUs")
    return ", ".join(found)


def main() -> int:
    """Parse the command line, measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default=",".join(CELLS), help=", ".join(CELLS))
    parser.add_argument("--kinds", default=",".join(OPEN), help=", ".join(OPEN))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a tenth of each, to see that it works")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables there")
    options = parser.parse_args()
    cells, kinds = options.cells.split(","), options.kinds.split(",")
    unknown = [name for name in cells if name not in CELLS] + [name for name in kinds if name not in OPEN]
    if unknown:
        print(f"workers: there is no {', '.join(unknown)}", file=sys.stderr)
        return 2
    cells = list(dict.fromkeys(ALONGSIDE.get(cell, cell) for cell in cells))
    run = Run(cells, [kind for kind in kinds if installed(kind)], options.rounds, Sizes())
    if options.quick:
        run.sizes = run.sizes.divided(10)
    with asyncio.Runner(loop_factory=pinloop.new_event_loop) as runner:
        runner.run(run.run())
    text = run.report()
    print(text)
    try:
        if options.write:
            put_between(text, options.write)
    except BenchError as error:
        print(f"workers: {error}", file=sys.stderr)
        return 1
    return bool(run.failed)


if __name__ == "__main__":
    sys.exit(main())
