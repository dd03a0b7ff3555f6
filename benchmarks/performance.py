#!/usr/bin/env python3
"""Where the time of a call_soon, a task switch and an echo goes: tables and picture of docs/performance.md.

    python benchmarks/performance.py                                # print the tables
    python benchmarks/performance.py --write docs/performance.md    # and put them, and performance.svg, there

Needs valgrind, a C compiler, matplotlib (`pinloop[bench]`), and perf for the kernel's part of the echo.
Instructions come from callgrind, each part's nanoseconds from its share of them and the CPU time without it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import callgrind
import profiles

from pinloop import __version__
from pinloop.bench import cpus, loops, measure, native
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.process import Child

TIMED = (50_000, 150_000)
"""Operations of the two runs whose CPU time is measured."""
REPEATS = 5
PERF_SECONDS = 3.0
TOP = 10
"""How many functions a table names."""
SMALL = 0.01
"""Parts below this share are put together."""
REST = "the rest"


@dataclass(frozen=True)
class Subject:
    """An operation, and the same work without a loop. `cell` and `floor` are names of cells.

    Where most of the time is the kernel's, the instructions do not tell where the time goes, only where the
    program's own part of it does.
    """

    name: str
    title: str
    cell: str
    floor: str
    kernel: bool = False


SUBJECTS = (
    Subject("call-soon", "call_soon", "call-soon-batch", "floor-call-soon"),
    Subject("switch", "task switch", "sleep0-1000", "floor-switch"),
    Subject("echo", "echo over a socket pair, 1 KiB", "socketpair-echo", "floor-echo", kernel=True),
)


@dataclass
class Finding:
    """What one operation costs: nanoseconds of CPU, and instructions of each function."""

    ns: float
    costs: dict[profiles.Spot, float]

    @property
    def instructions(self) -> float:
        """All of them."""
        return sum(self.costs.values())

    def parts(self) -> dict[str, float]:
        """Instructions by part, most first; small parts together at the end."""
        found = profiles.by_part(self.costs)
        large = {part: cost for part, cost in found.items() if cost >= SMALL * self.instructions}
        rest = self.instructions - sum(large.values())
        return large | ({REST: rest} if rest > 0.5 else {})


@dataclass
class Served:
    """An echo server: microseconds of CPU per request, and samples by part."""

    us: float
    samples: Counter[str] = field(default_factory=Counter)

    def part_us(self, part: str) -> float:
        """Microseconds per request spent in a part."""
        return self.us * self.samples[part] / self.samples.total()


# ---- measuring


def compile_floors(folder: Path) -> None:
    """Put the module `floors` into *folder*. Raises `BenchError`."""
    target = folder / f"floors{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    command = [*compiler, "-O2", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", "-o", str(target)]
    done = subprocess.run(
        [*command, str(callgrind.HERE / "floors.c")], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise BenchError(f"cannot compile floors.c: {done.stderr.strip()}")


def count(under: callgrind.Valgrind, cell: str) -> dict[profiles.Spot, float]:
    """Instructions of each function per operation. Raises `BenchError`."""
    few, many = (profiles.read_callgrind(text) for text in under.profiles("pinloop", cell))
    fewer, more = callgrind.counts(cell)
    return profiles.difference(many, few, more - fewer)


def time_cell(cell: str) -> float:
    """Median nanoseconds of CPU per operation, over some processes. Raises `BenchError`."""
    command = [sys.executable, str(callgrind.HERE / "callgrind_child.py"), "pinloop", cell, *map(str, TIMED)]
    found = []
    for _ in range(REPEATS):
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=callgrind.PATIENCE
        )
        if done.returncode:
            raise BenchError(f"{cell} failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
        few, many = json.loads(done.stdout)
        found.append((many - few) / (TIMED[1] - TIMED[0]))
    return statistics.median(found)


def find_all() -> dict[str, Finding]:
    """Each subject's cell and floor. Raises `BenchError`."""
    found = {}
    with callgrind.valgrind() as under:
        for subject in SUBJECTS:
            for cell in (subject.cell, subject.floor):
                print(f"measuring {cell}", file=sys.stderr, flush=True)
                found[cell] = Finding(time_cell(cell), count(under, cell))
    return found


def sample_server(loop: str, seconds: float = PERF_SECONDS) -> Served:
    """Where an echo server's CPU goes while 20 connections keep it busy. Raises `MeasurementError`."""
    pins = cpus.choose()
    with (
        tempfile.TemporaryDirectory() as folder,
        Child(measure.server_command(loop, "echo-protocol"), pins.server, 15) as server,
    ):
        port = server.answer()["port"]
        with Child(measure.load_command("echo", port, 20, size=1024), pins.loads[0], 15 + seconds) as load:
            load.answer()
            measure.check_load(load.ask("seconds 0.3"))
            data = Path(folder) / "perf.data"
            command = ["perf", "record", "-q", "-F", "5000", "-e", "cpu-clock", "-g", "-p", str(server.pid)]
            with subprocess.Popen([*command, "-o", str(data)], stderr=subprocess.PIPE) as perf:
                before = server.ask("cpu")
                report = measure.check_load(load.ask(f"seconds {seconds}"))
                after = server.ask("cpu")
                perf.terminate()
                words = perf.communicate(timeout=30)[1].decode(errors="replace").strip()
        script = ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"]
        done = subprocess.run(script, check=False, capture_output=True, text=True, errors="replace")
    served = Served((after["cpu_ns"] - before["cpu_ns"]) / 1e3 / report["requests"])
    served.samples = profiles.read_perf(done.stdout)
    if not served.samples:
        raise MeasurementError(f"perf has no samples: {words or done.stderr.strip()}")
    return served


# ---- tables


def _row(*fields: str) -> str:
    return f"| {' | '.join(fields)} |"


def parts_table(found: Finding, floor: Finding, kernel: bool) -> list[str]:
    """Parts of an operation, then its floor; with *kernel*, nanoseconds only of the whole."""
    lines = [_row("part", "instructions", "share", "ns"), "|---|---:|---:|---:|"]
    for part, cost in found.parts().items():
        share = cost / found.instructions
        lines.append(_row(part, f"{cost:.0f}", f"{share:.0%}", "" if kernel else f"{share * found.ns:.0f}"))
    lines.append(_row("**all**", f"**{found.instructions:.0f}**", "", f"**{found.ns:.0f}**"))
    share = floor.instructions / found.instructions
    lines.append(_row("the floor", f"{floor.instructions:.0f}", f"{share:.0%}", f"{floor.ns:.0f}"))
    return lines


def functions_table(found: Finding) -> list[str]:
    """The functions with the most instructions of their own."""
    lines = [_row("function", "of", "instructions", "share"), "|---|---|---:|---:|"]
    together: dict[tuple[str, str], float] = {}
    for spot, cost in found.costs.items():
        key = (profiles.label(spot.name), profiles.of_file(spot.file))
        together[key] = together.get(key, 0) + cost
    most = sorted(together.items(), key=lambda item: -item[1])[:TOP]
    for (name, whose), cost in most:
        lines.append(_row(name, whose, f"{cost:.0f}", f"{cost / found.instructions:.0%}"))
    return lines


def served_table(ours: Served, floor: Served) -> list[str]:
    """The parts of both servers' time."""
    parts = [part for part, _ in (ours.samples + floor.samples).most_common()]
    # The kernel's first: they are the same work in both.
    parts.sort(key=lambda part: not part.startswith("kernel"))
    lines = [_row("part", "the C floor, µs", "pinloop, µs"), "|---|---:|---:|"]
    lines += [
        _row(part, f"{floor.part_us(part):.2f}", f"{ours.part_us(part):.2f}")
        for part in parts
        if max(ours.part_us(part), floor.part_us(part)) >= 0.005
    ]
    return [*lines, _row("**all**", f"**{floor.us:.2f}**", f"**{ours.us:.2f}**")]


def all_tables(found: dict[str, Finding], served: tuple[Served, Served] | None) -> dict[str, list[str]]:
    """The text of each marked place."""
    release = ".".join(platform.release().split(".")[:2])
    system = f"{platform.system()} {release} on {platform.machine()}"
    tables = {"machine": [f"CPython {platform.python_version()}, pinloop {__version__}, {system}."]}
    for subject in SUBJECTS:
        cell = found[subject.cell]
        tables[f"{subject.name} parts"] = parts_table(cell, found[subject.floor], subject.kernel)
        tables[f"{subject.name} functions"] = functions_table(cell)
    if served:
        tables["tcp echo"] = served_table(*served)
    return tables


def put_tables(text: str, tables: dict[str, list[str]]) -> str:
    """The document with new tables at its marks. Raises `BenchError` if a mark is missing."""
    for name, lines in tables.items():
        pattern = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        body = "\n".join(["", *lines, "", ""])
        text, count = pattern.subn(lambda found, body=body: found[1] + body + found[2], text)
        if count != 1:
            raise BenchError(f"the mark {name!r} is {count} times in the document, not once")
    return text


# ---- the program


def measure_all() -> tuple[dict[str, Finding], tuple[Served, Served] | None]:
    """Everything. Raises `BenchError` or `MeasurementError`."""
    with tempfile.TemporaryDirectory() as folder:
        compile_floors(Path(folder))
        path = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (folder, path) if part)
        found = find_all()
    if shutil.which("perf") is None:
        print("performance: perf is not installed; the table of the TCP echo stays as it is", file=sys.stderr)
        return found, None
    native.program("load")
    print("measuring the echo over TCP", file=sys.stderr, flush=True)
    return found, (sample_server("pinloop"), sample_server(loops.FLOOR))


def main() -> int:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, metavar="PATH", help="the document whose tables are renewed")
    arguments = parser.parse_args()
    try:
        found, served = measure_all()
        tables = all_tables(found, served)
        for name, lines in tables.items():
            print(f"\n{name}", *lines, sep="\n")
        if arguments.write:
            document = arguments.write
            document.write_text(put_tables(document.read_text(encoding="utf-8"), tables), encoding="utf-8")
            from performance_chart import draw

            panels = [(one.title, one.kernel, found[one.cell], found[one.floor]) for one in SUBJECTS]
            draw(panels, served, document.with_suffix(".svg"))
    except (BenchError, MeasurementError, OSError) as error:
        print(f"performance: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
