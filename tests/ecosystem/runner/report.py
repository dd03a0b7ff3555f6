"""What the runner tells: on the terminal suite by suite, and the table in docs/ecosystem.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .judge import Verdict
from .suites import Suite

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BEGIN, END = "<!-- results: written by the runner -->", "<!-- end of results -->"
HEAD = (
    "| suite | version | Python | pass on asyncio | and on pinloop | differ | unsteady | flaky on asyncio |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def summary(verdict: Verdict) -> str:
    """One line about a suite."""
    counts = verdict.asyncio.counted()
    others = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()) if name != "passed")
    return (
        f"{len(verdict.asyncio.passed())} pass on asyncio ({others or 'no others'}; "
        f"{verdict.asyncio.seconds:.0f} s), "
        f"{len(verdict.pinloop.passed())} on pinloop ({verdict.pinloop.seconds:.0f} s), "
        f"{len(verdict.differ)} differ; pinloop loops made: {verdict.pinloop.made['pinloop']}, "
        f"stock ones beside them: {verdict.pinloop.made['asyncio']}, "
        f"pinloop loops in child processes: {verdict.pinloop.children}"
    )


def details(verdict: Verdict) -> str:
    """Each test that needs a word; those that say the same in the end are listed together, one in full."""
    lines = [f"  TROUBLE: {what}" for what in verdict.trouble]
    groups: dict[str, list[str]] = {}
    for name, why in verdict.differ.items():
        groups.setdefault(gist(why), []).append(name)
    for said, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        lines.append(f"  DIFFER, {len(names)}: {said}")
        lines += [f"    {name}" for name in names]
        lines.append(indented(verdict.differ[names[0]]))
    for name, why in verdict.unsteady.items():
        lines.append(f"  unsteady: {name}: failed on pinloop, passed there when run again\n{indented(why)}")
    for name in verdict.flaky:
        lines.append(f"  flaky: {name}: failed on asyncio too when run again; not counted")
    return "\n".join(lines)


def gist(why: str) -> str:
    """The line of a failure that tells most: the last that pytest marks as the error, else the last."""
    lines = [line.strip() for line in why.splitlines() if line.strip()] or [""]
    marked = [line for line in lines if line.startswith("E ")]
    return (marked or lines)[-1][:160]


def indented(why: str, lines: int = 25) -> str:
    return "\n".join("      | " + line for line in why.strip().splitlines()[-lines:])


def row(suite: Suite, verdict: Verdict) -> tuple[str, ...]:
    passed = verdict.asyncio.passed()
    return (
        suite.name,
        suite.version,
        PYTHON,
        str(len(passed)),
        str(len(passed) - len(verdict.differ) - len(verdict.flaky)),
        str(len(verdict.differ)),
        str(len(verdict.unsteady)),
        str(len(verdict.flaky)),
    )


def write(path: Path, cells: tuple[str, ...]) -> None:
    """Put a row into the document's table; that of the same suite and Python makes way, the others stay."""
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    known: dict[tuple[str, str], tuple[str, ...]] = {}
    for line in table.splitlines():
        old = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if len(old) == len(cells) and re.fullmatch(r"3\.\d+", old[2]):
            known[old[0], old[2]] = old
    known[cells[0], cells[2]] = cells
    ordered = sorted(known.values(), key=lambda row: (row[0], float(row[2])))
    lines = "".join(f"| {' | '.join(row)} |\n" for row in ordered)
    path.write_text(f"{before}{BEGIN}\n\n{HEAD}{lines}\n{END}{after}")
