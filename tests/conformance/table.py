"""The tables of `docs/conformance.md`, one per setting: a row per module, a column per version of Python.

The file is its own store: what it says of other versions is read back and written again.
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

HEAD = """# Conformance

CPython's own tests of asyncio, run with pinloop's loop in place of the stdlib's. Each column was written by
`make conformance CONFORMANCE_ARGS="--write docs/conformance.md"` on that Python. How the loop gets in there
is told in [`tests/conformance/child.py`](../tests/conformance/child.py).

A cell is *passed / failed / skipped*. Skipped are the tests that look into the stdlib's own loop, and a few
that count on a [difference](compatibility.md) told elsewhere; each has its reason in
[`skip.txt`](../tests/conformance/skip.txt). Not counted are those that leave themselves out, being for
another platform or wanting something that the machine does not have, nor those that fail on asyncio's own
loop as well: a test that fails is run once more there, to tell a difference of pinloop's from a machine
without pseudo-terminals.
"""

TAIL = """
A test that makes one of the stdlib's loops counts as failed, so none passes on the wrong one. The tests
that make no loop at all are about futures, handles, policies and the like by themselves.
"""


@dataclass
class Counts:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0  # by the skip list
    left_out: int = 0  # by themselves
    alike: int = 0  # failed, and on the stdlib's own loop as well
    on_pinloop: int = 0  # made a loop of pinloop's
    with_classes: int = 0  # met a task or future of the setting's class

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped, "
            f"{self.left_out} left out by themselves, {self.alike} fail on asyncio's loop as well; "
            f"{self.on_pinloop} made a pinloop loop, {self.with_classes} met its tasks or futures"
        )


SECTION = "\n## "

Column = dict[str, str]  # row -> cell


def this_python() -> str:
    return platform.python_version()


def cells(counts: dict[str, Counts]) -> Column:
    """The column of one version."""
    column = {module: f"{each.passed} / {each.failed} / {each.skipped}" for module, each in counts.items()}
    total = sum(counts.values(), Counts())
    column["**all**"] = f"{total.passed} / {total.failed} / {total.skipped}"
    column["*with a loop of pinloop's*"] = str(total.on_pinloop)
    column["*with the setting's tasks or futures*"] = str(total.with_classes)
    column["*left themselves out*"] = str(total.left_out)
    column["*fail on asyncio's own loop as well*"] = str(total.alike)
    return column


def parse(text: str) -> dict[str, Column]:
    """The columns of a table, by version."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("| ---")
    ]
    if not rows:
        return {}
    versions = rows[0][1:]
    return {
        version: {row[0]: row[at] for row in rows[1:] if row[at]} for at, version in enumerate(versions, 1)
    }


def render(columns: dict[str, Column]) -> str:
    """One table."""
    versions = sorted(columns, key=_order)
    last = list(cells({}))
    names = sorted({row for column in columns.values() for row in column if row not in last}) + last
    lines = [["module", *versions], ["---"] * (len(versions) + 1)]
    lines += [[name, *(columns[version].get(name, "") for version in versions)] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _order(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def update(file: Path, counts: dict[str, Counts], title: str = "", about: str = "") -> None:
    """Put the counts of this Python into `file`, in the place of what it said of the same minor version.

    The table is the one under `title`, or the first; `about` is written below the title.
    """
    text = file.read_text("utf-8") if file.exists() else ""
    parts = {each.partition("\n")[0]: each for each in text.split(SECTION)[1:]}
    parts[""] = text.split(SECTION)[0]
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}."
    columns = {
        version: column
        for version, column in parse(parts.get(title, "")).items()
        if not version.startswith(minor)
    }
    columns[this_python()] = cells(counts)
    parts[title] = f"{title}\n\n{about}\n\n{render(columns)}" if title else f"{HEAD}\n{render(columns)}{TAIL}"
    file.write_text(SECTION.join([parts.pop(""), *parts.values()]), "utf-8")
