"""`python -m pinloop top` and `tasks`: what they show of running processes."""

import contextlib
import dataclasses
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinloop import top
from pinloop.metrics import BUCKETS, Histogram, Metrics
from pinloop.watching import WatchedLoop, WatchedProcess
from tests.api.support import ON_PINLOOP, environment

pytestmark = pytest.mark.skipif(not ON_PINLOOP, reason="only pinloop's loops can be watched")

PROGRAM = """
import asyncio, sys, pinloop

async def main():
    async def beat():
        while True:
            await asyncio.sleep(0.001)
    asyncio.create_task(beat(), name="beat")
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

pinloop.run(main())
"""


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the sockets, with a short name."""
    with tempfile.TemporaryDirectory(prefix="w") as parent:
        monkeypatch.setenv("PINLOOP_WATCH_DIR", f"{parent}/f")
        monkeypatch.delenv("PINLOOP_WATCH", raising=False)
        yield Path(parent, "f")


@pytest.fixture
def child(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """A watched process with a loop that beats."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"PINLOOP_WATCH": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pinloop", *words]


def run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = environment() | {"COLUMNS": "200"} | variables
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=30, check=False, env=env)


def rich_or_skip() -> None:
    pytest.importorskip("rich", reason="the extra `top` is not installed")


# ---------------------------------------------------------------------------- as a program --


def test_json_of_all_processes_and_of_one(child: Any) -> None:
    for words in ([], [str(child.pid)]):
        done = run("top", *words, "--json", "--once", "--interval", "0.1")
        assert (done.returncode, done.stderr) == (0, "")
        (row,) = json.loads(done.stdout)
        assert (row["pid"], row["program"], row["loop"], row["thread"]) == (
            child.pid,
            "-c ...",
            0,
            "MainThread",
        )
        assert row["seconds"] >= 0.1
        assert 0 < row["since"]["turns"] < row["metrics"]["turns"]
        since = Metrics.from_dict(row["since"])
        assert since.busy + since.idle == pytest.approx(row["seconds"], rel=0.5)
        if sys.platform == "linux":
            assert 0 <= row["core"] < os.cpu_count()
            assert 0 <= row["cpu"] <= 1.5


def test_json_goes_on_until_the_reader_leaves(child: Any) -> None:
    with subprocess.Popen(
        command("top", "--json", "--interval", "0.05"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        turns: list[int] = []
        while len(set(turns)) < 3:
            turns.append(json.loads(process.stdout.readline())[0]["metrics"]["turns"])
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""
    assert turns == sorted(turns)


def test_json_ends_with_the_process_asked_for(child: Any) -> None:
    with subprocess.Popen(
        command("top", str(child.pid), "--json", "--interval", "0.05"),
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())
        child.kill()
        assert json.loads(process.stdout.read().splitlines()[-1]) == []
    assert process.returncode == 0


def test_a_table(child: Any) -> None:
    rich_or_skip()
    done = run("top", "--once", "--interval", "0.1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert re.split(r" {2,}", lines[0].strip())[:8] == [
        "pid", "program", "loop", "core", "cpu", "load", "away", "turns/s"
    ]  # fmt: skip
    row = re.split(r" {2,}", lines[-1].strip())
    assert row[:3] == [str(child.pid), "-c ...", "0 MainThread"]


def test_the_live_view_shows_interval_after_interval_until_ctrl_c(child: Any) -> None:
    rich_or_skip()
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"this system has no pseudo-terminals: {error}")
    env = environment() | {"TERM": "xterm", "COLUMNS": "200", "LINES": "20"}
    words = command("top", "--interval", "0.1")
    shown, end = b"", time.monotonic() + 20
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        try:
            while shown.count(b"load") < 3:
                assert time.monotonic() < end, shown
                if select.select([ours], [], [], 1)[0]:
                    shown += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
                while os.read(ours, 65536):
                    pass
        finally:
            process.kill()
            os.close(ours)
    assert process.returncode == 0
    assert str(child.pid).encode() in shown


def test_tasks(child: Any) -> None:
    done = run("tasks", str(child.pid))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Task 'beat' " in done.stdout
    assert ", in main.<locals>.beat\n" in done.stdout


# ------------------------------------------------------------------------------- without --


def test_where_nobody_is_watched() -> None:
    for words in (["--once"], ["--json"]):
        done = run("top", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no process is watched" in done.stderr


def test_a_process_that_is_not_watched() -> None:
    done = run("top", str(os.getpid()))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"not watched, or ended: {os.getpid()}" in done.stderr
    done = run("tasks", str(os.getpid()))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"process {os.getpid()} is not watched" in done.stderr


def test_a_folder_that_is_not_ones_own(place: Path) -> None:
    place.mkdir(mode=0o755)
    done = run("top", "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert "its mode should be 0700" in done.stderr


@pytest.mark.parametrize(
    "words", [["x"], ["--interval", "0"], ["--interval", "nan"], ["--interval", "x"], ["--what"]]
)
def test_what_makes_no_sense(words: list[str]) -> None:
    done = run("top", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m pinloop top")


def test_without_rich_it_says_what_is_missing(child: Any, tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), environment().get("PYTHONPATH", "")])
    done = run("top", "--once", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'pinloop[top]'" in done.stderr


# ----------------------------------------------------------------------------- its parts --


def process_of(*loops: WatchedLoop, at: float = 0.0) -> WatchedProcess:
    return WatchedProcess(1, ("python", "-m", "server"), at, loops)


def loop_of(number: int = 0, **metrics: Any) -> WatchedLoop:
    return WatchedLoop(number, "MainThread", 1, Metrics(loops=1, **metrics))


def look_at(process: WatchedProcess | None, *, cpu: float = 0.0, problem: str = "") -> top.Look:
    return top.Look(1, process, problem, {0: top.Thread(3, cpu)} if process else {})


def test_rates_are_of_the_time_in_between() -> None:
    before = look_at(process_of(loop_of(turns=100, bytes_sent=5), at=10), cpu=1)
    after = look_at(process_of(loop_of(turns=400, bytes_sent=5), loop_of(1, turns=7), at=12), cpu=2)
    first, second = top.rows_between(before, after)
    assert (first.core, first.cpu, first.seconds) == (3, 0.5, 2)
    assert (first.rate(first.since.turns), first.rate(first.since.bytes_sent)) == (150, 0)
    assert (second.seconds, second.since.turns, second.rate(7), second.cpu) == (0, 7, 0, None)
    (alone,) = top.rows_between(None, before)
    assert (alone.seconds, alone.rate(100)) == (0, 0)


def test_a_process_that_got_the_number_of_another() -> None:
    before, after = (look_at(process_of(loop_of(turns=turns), at=at)) for turns, at in ((900, 1), (5, 2)))
    (row,) = top.rows_between(before, after)
    assert (row.seconds, row.since.turns) == (0, 5)


def test_a_process_without_loops_and_one_that_does_not_answer() -> None:
    rich_or_skip()
    from rich.console import Console

    rows = top.rows_between(None, look_at(process_of()))
    rows += top.rows_between(None, look_at(None, problem="does not [answer]"))
    assert [row.as_dict()["problem"] for row in rows] == ["no loop is open", "does not [answer]"]
    console = Console(width=80, file=io.StringIO())
    console.print(top.view_of(rows, 80))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "1 -m server: no loop is open",
        "1 : does not [answer]",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 130, 200])
def test_what_has_no_room_is_left_out_by_its_rank(width: int) -> None:
    rich_or_skip()
    from rich.console import Console

    loop = loop_of(away=0.2, busy=1.0, bytes_sent=10**7, tasks=12)
    (row,) = top.rows_between(None, look_at(process_of(dataclasses.replace(loop, thread="[b]odd"))))
    console = Console(width=width, file=io.StringIO())
    console.print(top.view_of([row], width))
    _, head, _, line, *_ = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    titles = re.split(r" {2,}", head.strip())
    known = {column.title: column for column in top.COLUMNS}
    assert max(known[title].rank for title in titles) <= min(
        (column.rank for column in top.COLUMNS if column.title not in titles), default=99
    )
    assert (len(titles) == len(top.COLUMNS)) == (width == 200)
    assert "0 [b]odd" in line
    assert "…" not in line
    if width >= 40:
        assert "200 ms" in line


def test_colours_of_what_is_wrong() -> None:
    (row,) = top.rows_between(None, look_at(process_of(loop_of(away=0.5, busy=1.0))))
    columns = {column.title: column.text(row) for column in top.COLUMNS}
    assert columns["away"] == "[bold red]500 ms[/]"
    assert columns["load"] == "[yellow]100 %[/]"
    (row,) = top.rows_between(None, look_at(process_of(loop_of(away=0.01, busy=1.0, idle=1.0))))
    columns = {column.title: column.text(row) for column in top.COLUMNS}
    assert (columns["away"], columns["load"]) == ("10 ms", "50 %")


def test_lags_are_those_of_the_interval() -> None:
    counts = [0] * BUCKETS
    counts[3] = 99
    counts[20] = 1
    early = Histogram(tuple(counts), 1.0)
    late = dataclasses.replace(early, counts=(*counts[:5], 10, *counts[6:]))
    before, after = (look_at(process_of(loop_of(lag=lag))) for lag in (early, late))
    (row,) = top.rows_between(before, after)
    columns = {column.title: column.text(row) for column in top.COLUMNS}
    assert (columns["lag p50"], columns["max"]) == ("32 µs", "32 µs")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"), (1e-6, "1 µs"), (1.5e-6, "1.5 µs"), (0.000512, "512 µs"), (0.001024, "1.0 ms"),
        (0.0123, "12 ms"), (0.9999, "1.0 s"), (4.2, "4.2 s"), (75, "75.0 s"), (float("inf"), "> 8 s"),
    ],
)  # fmt: skip
def test_seconds_in_words(seconds: float, text: str) -> None:
    assert top.seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (1000, "1.0k"), (12_345, "12k"), (1_500_000, "1.5M"), (3e18, "3000P")],
)
def test_numbers_in_words(number: float, text: str) -> None:
    assert top.number_text(number) == text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "?"),
        (("/usr/bin/python3",), "python3"),
        (("python", "/srv/app.py", "--port", "1"), "app.py --port 1"),
        (("python", "-X", "dev", "-W", "error", "-u", "-m", "server"), "-m server"),
        (("python", "-c", "import x"), "-c ..."),
    ],
)
def test_command_lines_in_words(words: tuple[str, ...], text: str) -> None:
    assert top.short_program(words) == text


def test_a_thread_that_is_not_there() -> None:
    assert top.thread_of(os.getpid(), None) is None
    assert top.thread_of(1 << 30, 1) is None
