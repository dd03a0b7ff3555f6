#!/usr/bin/env python3
"""The guard of the hot paths: instructions per operation, against those in `instructions.json`.

    make instructions                                    # fails if a cell needs 3 % more than the file says
    make instructions INSTRUCTIONS_ARGS=--update         # writes this Python's counts into the file

The counts are those of `callgrind.py`. They repeat exactly, and depend on the interpreter and on the
compilers, so the file has a table for each Python version and compilers. Where there is no such table, or the
interpreter alone counts otherwise than it did (another build of the same version), they are shown and nothing
fails. Fewer instructions do not fail either; but until the file is renewed, the next ones to come hide behind
them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import callgrind

import pinloop._core
from pinloop.bench.errors import BenchError

FILE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
REFERENCE = "interpreter"
"""The cell without any loop: it tells whether this is the interpreter of the file."""
REFERENCE_TOLERANCE = 0.02
LEFT_OUT = {callgrind.TWO_THREADS, "tcp-sock-echo", "udp-window", "ring-10000", "skynet"}
"""Two threads do not repeat exactly; the others tell little that those counted do not, and take long."""
UPDATE = "make instructions INSTRUCTIONS_ARGS=--update PYTHON={python}"

Counts = dict[str, int]


@dataclass
class Verdict:
    """What is to be said, line by line, and the cells that got slower."""

    lines: list[str] = field(default_factory=list)
    slower: list[str] = field(default_factory=list)
    outdated: bool = False
    """Whether the file should be renewed."""


def compare(known: Counts, found: Counts) -> Verdict:
    """What has changed from the counts of the file to those of today."""
    verdict = Verdict()
    for name, count in found.items():
        before = known.get(name)
        if before is None:
            verdict.lines.append(f"{name}: {count}, not in the file")
            verdict.outdated = True
            continue
        change = (count - before) / before
        verdict.lines.append(f"{name}: {count}, in the file {before} ({change:+.1%})")
        if change > TOLERANCE:
            verdict.lines[-1] += "  SLOWER"
            verdict.slower.append(name)
        elif change < -TOLERANCE:
            verdict.lines[-1] += "  faster"
            verdict.outdated = True
    for name in known.keys() - found.keys():
        verdict.lines.append(f"{name}: in the file, but there is no such cell")
        verdict.outdated = True
    return verdict


def same_interpreter(known: Counts, found: Counts) -> bool:
    """Whether the interpreter alone counts as it did when the file was written."""
    if REFERENCE not in known:
        return False
    return abs(found[REFERENCE] - known[REFERENCE]) / known[REFERENCE] <= REFERENCE_TOLERANCE


def judge(tables: dict[str, Counts], key: str, found: Counts) -> tuple[int, list[str]]:
    """The exit code for what was *found* on the machine *key*, and what to say."""
    update = UPDATE.format(python=f"python{key.partition(' ')[0]}")
    known = tables.get(key)
    if known is None:
        lines = [f"{name}: {count}" for name, count in found.items()]
        known_keys = "; ".join(tables) or "none"
        return 0, [
            *lines,
            f"instructions: nothing to compare with, {key} is not in the file ({known_keys}); {update}",
        ]
    verdict = compare(known, found)
    if not same_interpreter(known, found):
        return 0, [*verdict.lines, f"instructions: not compared, another build of {key}; {update}"]
    if verdict.slower:
        slower = ", ".join(verdict.slower)
        return 1, [*verdict.lines, f"instructions: more than {TOLERANCE:.0%} slower: {slower}"]
    if verdict.outdated:
        return 0, [
            *verdict.lines,
            f"instructions: nothing slower, but the file is out of date; update it: {update}",
        ]
    return 0, [*verdict.lines, f"instructions: {len(found)} cells as in the file"]


def compiler_of(module: bytes) -> str:
    """The compiler that a module's `.comment` section names: "gcc 12"."""
    for name, pattern in (("clang", rb"clang version (\d+)"), ("gcc", rb"GCC: \([^)]*\) (\d+)")):
        found = re.search(pattern, module)
        if found:
            return f"{name} {int(found[1])}"
    return "unknown"


def machine_key() -> str:
    """What the counts depend on: "3.11 x86_64, gcc 12, module gcc 12"."""
    version = ".".join(platform.python_version_tuple()[:2])
    found = re.match(r"(\w+) (\d+)", platform.python_compiler())
    python = f"{found[1].lower()} {found[2]}" if found else "unknown"
    module = compiler_of(Path(pinloop._core.__file__).read_bytes())
    return f"{version} {platform.machine()}, {python}, module {module}"


def measure() -> Counts:
    """The counts of today. Raises `BenchError`."""
    with callgrind.valgrind() as under:
        found = {}
        for name in callgrind.cells.CELLS:
            if name not in LEFT_OUT:
                found[name] = round(under.count("pinloop", name))
        return found


def read_tables() -> dict[str, Counts]:
    """The file. Raises `BenchError` if it is there and cannot be read."""
    try:
        tables: dict[str, Counts] = json.loads(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot read {FILE}: {error}") from error
    return tables


def write_table(key: str, found: Counts) -> None:
    """Put the counts of one machine into the file, and leave the others as they are."""
    tables = read_tables() | {key: found}
    fresh = FILE.with_suffix(".new")
    fresh.write_text(json.dumps(dict(sorted(tables.items())), indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, FILE)


def main(argv: list[str]) -> int:
    """Count; compare with the file, or write it. Return 1 if a cell got slower or could not be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", action="store_true", help="write the counts into the file")
    arguments = parser.parse_args(argv)
    if not callgrind.installed():
        print("instructions: skipped, valgrind is not installed (Debian: apt install valgrind)")
        return 0
    try:
        tables, key = read_tables(), machine_key()
        found = measure()
        if arguments.update:
            write_table(key, found)
            print(f"instructions: written into {FILE.name} for {key}")
            return 0
        status, lines = judge(tables, key, found)
    except BenchError as error:
        print(f"instructions: {error}")
        return 1
    print(*lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
