#!/usr/bin/env python3
"""Instructions per operation, counted by valgrind: the figure that a noisy machine cannot blur.

    python benchmarks/callgrind.py --loop pinloop,uvloop --cells 'sleep0*'

A cell runs in a fresh process, warmed up, once with a small and once with a large count; what both have in
common goes in the difference, and what is left are the operations. System calls count as the few instructions
that enter them. The clock is one that moves by looking at it (`steady_clock.c`), so that runs repeat exactly.
Beside the scheduler cells there are `socketpair-echo` and `tcp-sock-echo`: two Protocols, or two tasks with
`sock_recv` and `sock_sendall`, that send 1 KiB to and fro; and `udp-window`: two datagram endpoints with 16
datagrams of 1 KiB under way. All are counted per message received. `call-soon-inbox` is call_soon_threadsafe
from the loop's own thread, `interpreter` what a switch costs where there is no loop.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from callgrind_child import TWO_THREADS, cells

from pinloop.bench import loops
from pinloop.bench.errors import BenchError

HERE = Path(__file__).resolve().parent
FEW, MANY = 3_000, 9_000
SWARM = {
    "sleep0-1000": (10_000, 20_000),
    "floor-switch": (10_000, 20_000),
    "ring-10000": (100_000, 200_000),
    "skynet": (1_110, 11_110),
}
"""Cells that do not run any count of operations."""
PATIENCE = 600.0
"""Seconds for one process."""
TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


class Valgrind:
    """Runs cells under callgrind. Raises `BenchError` if valgrind or a C compiler is missing."""

    def __init__(self, folder: Path) -> None:
        """Compile the clock into *folder*, and keep the profiles there."""
        if not installed():
            raise BenchError("valgrind is not installed (Debian: apt install valgrind)")
        self._folder, self._clock = folder, folder / "steady_clock.so"
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        command = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(self._clock)]
        try:
            subprocess.run(
                [*command, str(HERE / "steady_clock.c"), "-ldl"], check=True, capture_output=True, text=True
            )
        except FileNotFoundError:
            raise BenchError(f"no C compiler: {compiler[0]!r} is not on PATH") from None
        except subprocess.CalledProcessError as error:
            raise BenchError(f"cannot compile the clock: {error.stderr.strip()}") from None

    def profiles(self, loop: str, cell: str) -> tuple[str, str]:
        """What callgrind wrote about the small and the large run; see `counts`.

        Raises `BenchError` if the process fails.
        """
        few, many = counts(cell)
        out = self._folder / f"{loop}.{cell}"
        command = ["valgrind", "-q", "--tool=callgrind", "--dump-before=getpriority"]
        command += [
            f"--callgrind-out-file={out}",
            sys.executable,
            str(HERE / "callgrind_child.py"),
            loop,
            cell,
            str(few),
            str(many),
        ]
        environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONASYNCIODEBUG": ""}
        if cell != TWO_THREADS:
            environment["LD_PRELOAD"] = str(self._clock)
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"no end after {PATIENCE:.0f} s") from None
        # Part 1 ends at the first mark, part 2 at the second, and so on.
        parts = [Path(f"{out}.{part}") for part in (2, 4)]
        if done.returncode or not all(part.exists() for part in parts):
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise BenchError(f"valgrind ended with status {done.returncode}: {last}")
        first, second = (part.read_text() for part in parts)
        return first, second

    def count(self, loop: str, cell: str) -> float:
        """Instructions per operation. Raises `BenchError` if the process fails."""
        first, second = (_total(profile) for profile in self.profiles(loop, cell))
        few, many = counts(cell)
        return (second - first) / (many - few)


def counts(cell: str) -> tuple[int, int]:
    """How many operations the small run of a cell has, and the large one."""
    return SWARM.get(cell, (FEW, MANY))


def _total(profile: str) -> int:
    found = TOTAL.search(profile)
    if found is None:
        raise BenchError("callgrind's output has no total")
    return int(found[1])


def installed() -> bool:
    """Whether there is a valgrind."""
    return shutil.which("valgrind") is not None


@contextlib.contextmanager
def valgrind() -> Iterator[Valgrind]:
    """A `Valgrind` with a folder that goes when the block is left. Raises `BenchError`."""
    with tempfile.TemporaryDirectory() as folder:
        yield Valgrind(Path(folder))


def show_row(under: Valgrind, name: str, chosen: list[str]) -> bool:
    """Measure and print one cell for all loops; return whether all went well."""
    print(f"{cells.TITLES[name]:34}", end="", flush=True)
    problems = []
    for loop in chosen:
        try:
            print(f"{under.count(loop, name):10.0f}", end="", flush=True)
        except BenchError as error:
            print(f"{'failed':>10}", end="", flush=True)
            problems.append(f"    {loop}: {error}")
    print(*["", *problems], sep="\n")
    return not problems


def show_table(chosen: list[str], names: list[str]) -> bool:
    """Measure and print all; return whether all went well. Raises `BenchError` if nothing can be measured."""
    with valgrind() as under:
        print("instructions per operation".ljust(34) + "".join(f"{loop:>10}" for loop in chosen))
        went_well = [show_row(under, name, chosen) for name in names]
    return all(went_well)


def main() -> int:
    """Parse the command line and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop", metavar="A,B,…")
    parser.add_argument("--cells", default="*", metavar="PATTERN")
    arguments = parser.parse_args()
    names = [name for name in cells.CELLS if fnmatch.fnmatchcase(name, arguments.cells)]
    if not names:
        print(f"callgrind: no cell matches; known: {', '.join(cells.CELLS)}", file=sys.stderr)
        return 2
    try:
        return 0 if show_table(list(loops.select(arguments.loop.split(","))), names) else 1
    except BenchError as error:
        print(f"callgrind: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
