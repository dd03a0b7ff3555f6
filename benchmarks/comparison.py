#!/usr/bin/env python3
"""The tables of docs/comparison.md, from the results of `python -m pinloop bench --json`.

    python benchmarks/comparison.py --write docs/comparison.md 314-scheduler.json 314-servers.json 313.json

Each file becomes a table per group of cells (the scheduler's, servers), under a heading that tells which
version of Python it was, in the order in which they are given; files of one version stand together.
"""

from __future__ import annotations

import argparse
import re
import sys
from itertools import groupby
from pathlib import Path

from pinloop.bench.errors import BenchError
from pinloop.bench.loops import FLOOR, PINLOOP
from pinloop.bench.results import Outcome, Results, Row, mean_ratio

US = PINLOOP.name
BEGIN, END = "<!-- measured -->", "<!-- end -->"


def figure(outcome: Outcome | None, server: bool) -> str:
    """The median, in ns, or of servers in µs with the user mode's part of it."""
    if outcome is None or not outcome.good:
        return "–"
    if not server:
        return f"{outcome.median:.0f}" if outcome.median >= 100 else f"{outcome.median:.1f}"
    return f"{outcome.median / 1000:.2f} ({outcome.median / 1000 * outcome.user_share:.2f})"


def line(row: Row, names: list[str], server: bool) -> str:
    best = row.best_peer(US)
    ratio = row.ratio(US, best) if best else None
    cells = [
        f"**{text}**" if name == row.winner() else text
        for name in names
        for text in [figure(row.outcomes.get(name), server)]
    ]
    return f"| {' | '.join([row.title, *cells, f'{ratio:.2f}' if ratio else '–'])} |"


def table(results: Results, rows: list[Row]) -> list[str]:
    server = rows[0].group == "server"
    names = [name for name in [*results.loops, FLOOR] if any(name in row.outcomes for row in rows)]
    unit = "µs of the server per request (in user mode)" if server else "ns per operation"
    heads = [f"{name} {results.loops.get(name, '')}".strip() for name in names]
    lines = [
        f"| {' | '.join([unit, *heads, 'pinloop / best peer'])} |",
        f"|---|{'---:|' * (len(names) + 1)}",
        *(line(row, names, server) for row in rows),
    ]
    if rows[0].group == "scheduler":
        lines += ["", f"Geometric mean over the {len(rows)} cells: {means(results, rows)}."]
    return [*lines, "", f"{results.settings['rounds_done']} rounds.", ""]


def means(results: Results, rows: list[Row]) -> str:
    parts = []
    for other in [None, *(name for name in results.loops if name != US)]:
        found = mean_ratio(rows, US, other)
        if found:
            parts.append(f"{found[0]:.2f} × {other or 'the best peer of each cell'}")
    return ", ".join(parts)


def tables(files: list[Results]) -> str:
    lines = [BEGIN, ""]
    for python, found in groupby(files, key=lambda results: results.machine["python"]):
        lines += [f"## CPython {python}", ""]
        for results in found:
            for group in dict.fromkeys(row.group for row in results.rows):
                lines += table(results, [row for row in results.rows if row.group == group])
    return "\n".join([*lines, END])


def put_between(text: str, path: Path) -> None:
    """Replace what stands between the marks of a page by *text*. Raises `BenchError` if it has none."""
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise BenchError(f"{path} has no place for the tables ({BEGIN} … {END})")
    path.write_text(pattern.sub(lambda _: text, page), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables there")
    arguments = parser.parse_args()
    try:
        text = tables([Results.read(path) for path in arguments.files])
    except BenchError as error:
        print(f"comparison: {error}", file=sys.stderr)
        return 1
    if arguments.write is None:
        print(text)
        return 0
    try:
        put_between(text, arguments.write)
    except BenchError as error:
        print(f"comparison: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
