"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import math
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalog, cpus, loops, measure, native, process
from .errors import BenchError
from .results import Results, Row

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """\
examples:
  python -m pinloop bench --quick
  python -m pinloop bench --cells 'echo-*-1k-20' --loops asyncio,uvloop,pinloop --rounds 9
  python -m pinloop bench --render bench-results/2026-01-31-120000.json --chart docs/chart
"""


def _positive(kind: type[int | float]) -> type:
    def parse(text: str) -> float:
        value = kind(text)
        if not math.isfinite(value) or value <= 0:
            raise ValueError
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse  # type: ignore[return-value]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pinloop bench",
        description="Process CPU per operation of every installed event loop, in interleaved rounds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a representative part, in a little over two minutes")
    add("--rounds", type=_positive(int), metavar="N", help="how often each cell is measured")
    add("--seconds", type=_positive(float), metavar="S", help="length of each server measurement")
    add("--cells", action="append", metavar="PATTERN", help="only cells that match (repeatable)")
    add("--loops", metavar="A,B,…", help="only these loops")
    add("--json", type=Path, metavar="PATH", help="results (default: bench-results/<time>.json)")
    add("--chart", type=Path, metavar="STEM", help="STEM.svg and STEM.png (default: beside the results)")
    add("--no-chart", action="store_true", help="draw no chart")
    add("--list", action="store_true", help="list cells and loops, measure nothing")
    add("--render", type=Path, metavar="JSON", help="table and chart of earlier results")
    return parser


def _require_extra(*modules: str) -> None:
    """Raise `BenchError` unless the modules of the `bench` extra are there: now, not after the measuring."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise BenchError(f"{' and '.join(missing)} not installed: pip install 'pinloop[bench]'")


def _list(arguments: argparse.Namespace) -> None:
    chosen = catalog.select(_patterns(arguments), arguments.quick)
    width = max(len(cell.name) for cell in chosen)
    print("cells (* in the quick run):")
    for cell in chosen:
        missing = f"  (needs {', '.join(cell.missing)})" if cell.missing else ""
        print(f"  {'*' if cell.quick else ' '} {cell.name:{width}}  {cell.title}{missing}")
    print("loops:")
    for loop in loops.LOOPS:
        print(f"    {loop.name:{width}}  {loop.version() or 'not installed'}")


def _patterns(arguments: argparse.Namespace) -> list[str] | None:
    """--cells may be repeated, and each may hold several, split by commas."""
    if arguments.cells is None:
        return None
    return [pattern for text in arguments.cells for pattern in text.split(",") if pattern]


def _plan(arguments: argparse.Namespace) -> measure.Plan:
    plan = measure.QUICK if arguments.quick else measure.FULL
    if arguments.rounds:
        # Who names a count of rounds gets it, however long it takes.
        plan = dataclasses.replace(plan, rounds=arguments.rounds, deadline=None)
    if arguments.seconds:
        plan = dataclasses.replace(plan, server_seconds=arguments.seconds)
    return plan


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": f"{os.cpu_count()} × {_cpu_model()}",
    }


def _notes(plan: measure.Plan, pins: cpus.Cpus, wanted: list[catalog.Cell]) -> list[str]:
    notes = [pins.note]
    if any(cell.http and not cell.missing for cell in wanted):
        notes.append(f"HTTP load: {'wrk' if plan.wrk else 'the bundled load program'}, keep-alive")
    left_out = [cell for cell in wanted if cell.missing]
    return notes + [f"left out: {cell.title} (pip install {' '.join(cell.missing)})" for cell in left_out]


def _prepare(arguments: argparse.Namespace) -> tuple[Results, list[catalog.Cell], measure.Plan, cpus.Cpus]:
    """Everything that can be refused is refused here, before the first measurement."""
    wanted = catalog.select(_patterns(arguments), arguments.quick)
    names = loops.select(arguments.loops.split(",") if arguments.loops else None)
    cells = [cell for cell in wanted if not cell.missing]
    if not cells:
        missing = sorted({module for cell in wanted for module in cell.missing})
        raise BenchError(f"nothing to measure: pip install {' '.join(missing)}")
    if any(cell.group == catalog.SERVER for cell in cells):
        native.program("load")
        native.program("floor")
    process.allow_open_files(max(cell.connections for cell in cells) + 200)
    plan, pins = _plan(arguments), cpus.choose()
    now = datetime.datetime.now(datetime.UTC)
    results = Results(
        created=now.isoformat(timespec="seconds"),
        machine=_machine(),
        settings=dataclasses.asdict(plan) | {"quick": arguments.quick},
        loops=names,
        not_installed=[loop.name for loop in loops.LOOPS if loop.version() is None],
        notes=_notes(plan, pins, wanted),
        rows=measure.blank_rows(cells, list(names)),
    )
    return results, cells, plan, pins


def _run(arguments: argparse.Namespace, console: Console) -> tuple[Results, bool]:
    """Measure; return the results and whether the user broke off, in which case they are what there is."""
    from .progress import Ticker

    results, cells, plan, pins = _prepare(arguments)
    interrupted = False
    with Ticker(console, plan.rounds, results.rows) as ticker:
        try:
            measure.run_rounds(cells, results.rows, plan, pins, ticker.tell)
        except KeyboardInterrupt:
            interrupted = True
            results.notes.append("broken off by the user")
    results.settings["rounds_done"] = _rounds_done(results.rows)
    return results, interrupted


def _rounds_done(rows: list[Row]) -> str:
    """How many samples the figures rest on: "7", or "2-3" where the time ran out within a round."""
    counts = {len(outcome.samples) for row in rows for outcome in row.outcomes.values() if outcome.good}
    return "-".join(map(str, sorted({min(counts, default=0), max(counts, default=0)})))


def _write_json(results: Results, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(results.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchError(f"cannot write the results: {error}") from error


def _chart(arguments: argparse.Namespace, results: Results, beside: Path | None, console: Console) -> None:
    stem = arguments.chart or beside
    if arguments.no_chart or stem is None:
        return
    from .chart import draw

    svg, png = draw(results, stem)
    console.print(f"chart: {svg} and {png.name}", highlight=False, soft_wrap=True)


def _default_json(results: Results) -> Path:
    stamp = datetime.datetime.fromisoformat(results.created).strftime("%Y-%m-%d-%H%M%S")
    return Path("bench-results") / f"{stamp}.json"


def _measure_and_show(arguments: argparse.Namespace, console: Console) -> int:
    from .report import show

    results, interrupted = _run(arguments, console)
    show(results, console)
    path = arguments.json or _default_json(results)
    _write_json(results, path)
    console.print(f"results: {path}", highlight=False, soft_wrap=True)
    if any(row.good() for row in results.rows):
        _chart(arguments, results, path.with_suffix(""), console)
    if interrupted:
        return 130
    return 1 if any(o.failed for row in results.rows for o in row.outcomes.values()) else 0


def _dispatch(arguments: argparse.Namespace) -> int:
    if arguments.list:
        _list(arguments)
        return 0
    _require_extra("rich", *([] if arguments.no_chart else ["matplotlib"]))
    from rich.console import Console

    console = Console()
    if arguments.render is None:
        return _measure_and_show(arguments, console)
    from .report import show

    results = Results.read(arguments.render)
    show(results, console)
    _chart(arguments, results, None, console)
    return 0


def main(argv: list[str]) -> int:
    """Run *argv*; return 0, 1 if a measurement failed, 2 for wrong use, 130 if broken off."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    try:
        return _dispatch(arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
