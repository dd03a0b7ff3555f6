"""`python -m pinloop top`: the loops of other processes, live."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .metrics import Metrics
from .watching import WatchedLoop, WatchedProcess, read_process, read_tasks, watched_processes

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_TICK = os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 100  # of /proc/PID/stat, per second
_LONG_AWAY = 0.1  # seconds: shown in red
_BUSY = 0.9  # load: shown in yellow
NOBODY = (
    "no process is watched; one is if it calls pinloop.publish_metrics(), "
    "or has PINLOOP_WATCH=1 in its environment"
)


@dataclass(frozen=True, slots=True)
class Thread:
    """What the system tells of a thread."""

    core: int
    """On which core it ran last."""
    cpu: float
    """Seconds of CPU that it has used."""


def thread_of(pid: int, thread_id: int | None) -> Thread | None:
    """The thread of another process that runs a loop; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/task/{thread_id}/stat").read_text(encoding="ascii", errors="replace")
        # The second field, its name, is in parentheses and may contain any.
        fields = text.rpartition(")")[2].split()
        return Thread(int(fields[36]), (int(fields[11]) + int(fields[12])) / _TICK)
    except (OSError, ValueError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class Look:
    """A process at one moment, or what went wrong."""

    pid: int
    process: WatchedProcess | None
    problem: str
    threads: dict[int, Thread]
    """Of each loop, by its number, that which runs it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One loop, from one look to the next."""

    pid: int
    program: str
    loop: WatchedLoop | None
    """None for a process that has none, or does not answer."""
    problem: str
    core: int | None
    cpu: float | None
    """The share of a core that its thread took."""
    since: Metrics
    """What happened in between."""
    seconds: float
    """How long that was; 0 at the first look."""

    def rate(self, count: float) -> float:
        """So many, per second."""
        return count / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.loop
        return {
            "pid": self.pid,
            "program": self.program,
            "problem": self.problem,
            "loop": None if found is None else found.number,
            "thread": None if found is None else found.thread,
            "core": self.core,
            "cpu": self.cpu,
            "seconds": self.seconds,
            "metrics": None if found is None else found.metrics.as_dict(),
            "since": None if found is None else self.since.as_dict(),
        }


def look(pid: int) -> Look:
    """Ask a process; a problem is part of what is seen."""
    try:
        process = read_process(pid)
    except ProcessLookupError:
        raise
    except TimeoutError:
        return Look(pid, None, "does not answer: stopped, or in C code that keeps the GIL", {})
    except (OSError, ValueError) as error:
        return Look(pid, None, str(error), {})
    threads = {loop.number: thread_of(pid, loop.thread_id) for loop in process.loops}
    return Look(pid, process, "", {number: found for number, found in threads.items() if found is not None})


def rows_between(before: Look | None, now: Look) -> list[Row]:
    """A row for each loop of a process; *before* is the look before, if there was one."""
    process = now.process
    if process is None:
        return [Row(now.pid, "", None, now.problem, None, None, Metrics(), 0.0)]
    program = short_program(process.program)
    if not process.loops:
        return [Row(now.pid, program, None, "no loop is open", None, None, Metrics(), 0.0)]
    rows = []
    known: dict[int, WatchedLoop] = {}
    seconds = 0.0
    if before is not None and before.process is not None:
        known = {loop.number: loop for loop in before.process.loops}
        seconds = max(process.time - before.process.time, 0.0)
    for loop in process.loops:
        thread = now.threads.get(loop.number)
        earlier = before.threads.get(loop.number) if before is not None else None
        cpu = (thread.cpu - earlier.cpu) / seconds if thread and earlier and seconds else None
        core = thread.core if thread is not None else None
        since, passed = loop.metrics, 0.0
        # One that has done less than before is another process's, which got the number.
        if loop.number in known and loop.metrics.turns >= known[loop.number].metrics.turns:
            since, passed = loop.metrics - known[loop.number].metrics, seconds
        rows.append(Row(now.pid, program, loop, "", core, cpu, since, passed))
    return rows


def short_program(words: tuple[str, ...]) -> str:
    """A command line without the interpreter, its path and its options."""
    rest = list(words[1:])
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        del rest[: 2 if rest[0] in ("-W", "-X") else 1]
    if not rest:
        return Path(words[0]).name if words else "?"
    if rest[0] == "-c":
        return "-c ..."
    if rest[0] != "-m":
        rest[0] = Path(rest[0]).name
    return " ".join(rest)


class Top:
    """Looks at processes again and again."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._before: dict[int, Look] = {}
        self.gone: list[int] = []
        """Those of the processes asked for that are not watched, or have ended."""

    def rows(self) -> list[Row]:
        """A look at each, beside the one before. Raises OSError where processes cannot be looked for."""
        looks, rows = {}, []
        self.gone = []
        for pid in self._pids or watched_processes():
            try:
                looks[pid] = look(pid)
            except ProcessLookupError:
                self.gone.append(pid)
                continue
            rows += rows_between(self._before.get(pid), looks[pid])
        self._before = looks
        return rows


# ------------------------------------------------------------------------ as a table --


def seconds_text(seconds: float) -> str:
    """A duration in three digits or so."""
    if seconds == float("inf"):
        return "> 8 s"
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:
            value = seconds * factor
            return f"{value:.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"
    return f"{seconds:.1f} s"


def number_text(number: float) -> str:
    """A count in three digits or so: 1.2k, 35M."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5:
            digits = 1 if unit and abs(number) < 9.95 else 0
            return f"{number:.{digits}f}{unit}"
        number /= 1000
    return f"{number:.0f}P"


def share_text(share: float | None) -> str:
    """As percent."""
    return "-" if share is None else f"{100 * share:.0f} %"


def _away_text(row: Row) -> str:
    assert row.loop is not None
    away = row.loop.metrics.away
    if away == 0:
        return "-"
    text = seconds_text(away)
    return f"[bold red]{text}[/]" if away >= _LONG_AWAY else text


def _load_text(row: Row) -> str:
    text = share_text(row.since.load)
    return f"[yellow]{text}[/]" if row.since.load >= _BUSY else text


def _metrics_of(row: Row) -> Metrics:
    assert row.loop is not None
    return row.loop.metrics


def _loop_text(row: Row) -> str:
    assert row.loop is not None
    return f"{row.loop.number} {row.loop.thread or 'not running'}".replace("[", "\\[")


@dataclass(frozen=True, slots=True)
class Column:
    """Something that is shown of a loop."""

    title: str
    text: Callable[[Row], str]
    """What stands in it, with rich's markup."""
    rank: int
    """Where there is no room for all, those of a lower rank stay."""
    left: bool = False


COLUMNS = (
    Column("pid", lambda row: str(row.pid), 0),
    Column("program", lambda row: _short(row.program, 24).replace("[", "\\["), 9, left=True),
    Column("loop", _loop_text, 1, left=True),
    Column("core", lambda row: "-" if row.core is None else str(row.core), 7),
    Column("cpu", lambda row: share_text(row.cpu), 8),
    Column("load", _load_text, 2),
    Column("away", _away_text, 3),
    Column("turns/s", lambda row: number_text(row.rate(row.since.turns)), 15),
    Column("calls/s", lambda row: number_text(row.rate(row.since.callbacks)), 10),
    Column("events/s", lambda row: number_text(row.rate(row.since.events)), 14),
    Column("ready", lambda row: number_text(_metrics_of(row).ready), 13),
    Column("tasks", lambda row: number_text(_metrics_of(row).tasks), 5),
    Column("timers", lambda row: number_text(_metrics_of(row).timers), 16),
    Column("conns", lambda row: number_text(_metrics_of(row).connections), 6),
    Column("in B/s", lambda row: number_text(row.rate(row.since.bytes_received)), 11),
    Column("out B/s", lambda row: number_text(row.rate(row.since.bytes_sent)), 12),
    Column("lag p50", lambda row: seconds_text(row.since.lag.quantile(0.5)), 17),
    Column("p99", lambda row: seconds_text(row.since.lag.quantile(0.99)), 4),
    Column("max", lambda row: seconds_text(row.since.lag.quantile(1)), 4),
)
_MARKUP = re.compile(r"\[/?[a-z ]*\]")


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def columns_for(rows: list[Row], width: int) -> list[tuple[Column, list[str]]]:
    """What is shown of these loops in so many characters: columns with their texts."""
    filled = [(column, [column.text(row) for row in rows]) for column in COLUMNS]
    chosen = []
    width += 1  # three between two columns, two for the edges
    for column, texts in sorted(filled, key=lambda each: each[0].rank):
        width -= 3 + max(len(column.title), *(len(_MARKUP.sub("", text)) for text in texts))
        if width < 0:
            break
        chosen.append(column)
    return [(column, texts) for column, texts in filled if column in chosen]


def view_of(rows: list[Row], width: int) -> Group:
    """The rows as rich shows them: a table, and what is wrong below it."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    seen: list[RenderableType] = []
    loops = [row for row in rows if row.loop is not None]
    if loops:
        shown = columns_for(loops, width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, _ in shown:
            table.add_column(column.title, justify="left" if column.left else "right", no_wrap=True)
        for at in range(len(loops)):
            table.add_row(*(texts[at] for _, texts in shown))
        seen.append(table)
    seen += [Text(f"{row.pid} {row.program}: {row.problem}", style="red") for row in rows if row.loop is None]
    return Group(*seen)


# ------------------------------------------------------------------------ command line --


def main(argv: list[str]) -> int:
    """`python -m pinloop top`; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pinloop top",
        description="The loops of watched processes, live: those named, or all of this user's.",
        epilog="load: share of the time in which the loop was busy; away: since when it has not asked the "
        "kernel, right now; lag: how long it did not, each time. Ctrl-C ends it.",
    )
    parser.add_argument("pid", nargs="*", type=int, help="a process")
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="SECONDS", help="1 if not given")
    parser.add_argument("--once", action="store_true", help="show one interval and end")
    parser.add_argument("--json", action="store_true", help="a JSON list per interval and line, for programs")
    options = parser.parse_args(argv)
    try:
        return _watch(Top(options.pid), options)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"pinloop top: {error}", file=sys.stderr)
        return 1


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be from 0.05 to 3600 seconds, not {text}")
    return seconds


def _watch(top: Top, options: argparse.Namespace) -> int:
    if not top.rows() and (options.pid or options.once or options.json):
        print(f"pinloop top: {_none(top, options.pid)}", file=sys.stderr)
        return 1
    time.sleep(options.interval)
    if options.json:
        return _print_json(top, options)
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        print("pinloop top needs rich: pip install 'pinloop[top]'; --json does without", file=sys.stderr)
        return 1
    console = Console()
    if options.once:
        console.print(view_of(top.rows(), console.width))
        return 0
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            rows = top.rows()
            if not rows and options.pid:
                break
            live.update(view_of(rows, console.width) if rows else NOBODY, refresh=True)
            time.sleep(options.interval)
    print(f"pinloop top: {_none(top, options.pid)}", file=sys.stderr)
    return 0


def _print_json(top: Top, options: argparse.Namespace) -> int:
    while True:
        rows = top.rows()
        print(json.dumps([row.as_dict() for row in rows]), flush=True)
        if options.once or (not rows and options.pid):
            return 0
        time.sleep(options.interval)


def _none(top: Top, pids: list[int]) -> str:
    if not pids:
        return NOBODY
    return f"not watched, or ended: {', '.join(map(str, top.gone))}"


def tasks_main(argv: list[str]) -> int:
    """`python -m pinloop tasks`; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pinloop tasks",
        description="What every task of a watched process does: its state, scopes and stack.",
    )
    parser.add_argument("pid", type=int, help="a process")
    options = parser.parse_args(argv)
    try:
        print(read_tasks(options.pid), end="")
    except (OSError, ValueError) as error:
        print(f"pinloop tasks: {error}", file=sys.stderr)
        return 1
    return 0
