"""Runs a suite's tests on one loop, to the end even where a test crashes or hangs the interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .prepare import Place
from .suites import Suite

PLUGIN = Path(__file__).parent / "plugin"
POLL_SECONDS = 0.2
MOST_RESUMPTIONS = 10


@dataclass
class Outcome:
    """What became of one test."""

    outcome: str
    why: str = ""
    seconds: float = 0


@dataclass
class Run:
    """What one run of a suite, or of some of its tests, gave."""

    tests: dict[str, Outcome] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=lambda: {"asyncio": 0, "pinloop": 0})
    children: int = 0
    """Loops of the ordered kind made in processes that the tests started."""
    trouble: list[str] = field(default_factory=list)
    seconds: float = 0

    def passed(self) -> set[str]:
        return {name for name, test in self.tests.items() if test.outcome == "passed"}

    def counted(self) -> dict[str, int]:
        """How many tests ended each way."""
        counts: dict[str, int] = {}
        for test in self.tests.values():
            counts[test.outcome] = counts.get(test.outcome, 0) + 1
        return counts


@dataclass(frozen=True)
class Setting:
    """What does not change from run to run of one suite."""

    suite: Suite
    place: Place
    pinloop: Path
    environment: dict[str, str]
    """What the servers say of where they are."""
    extra: tuple[str, ...] = ()
    """More arguments for pytest."""


def run(setting: Setting, loop: str, label: str, only: set[str] | None = None) -> Run:
    """Run the suite on "asyncio" or "pinloop"; resumed after each test that ends or hangs the interpreter."""
    result, began = Run(), time.monotonic()
    deadline = began + setting.suite.suite_minutes * 60
    logs = setting.place.folder / "logs"
    logs.mkdir(exist_ok=True)
    for turn in range(MOST_RESUMPTIONS + 1):
        stem = logs / f"{label}-{loop}-{turn}"
        ending = one_process(setting, loop, stem, only, set(result.tests), deadline)
        finished = read_log(stem.with_suffix(".jsonl"), loop, result, ending)
        if finished or time.monotonic() > deadline:
            break
        if turn == MOST_RESUMPTIONS:
            result.trouble.append(f"given up after {turn} resumptions")
    if time.monotonic() > deadline:
        result.trouble.append(f"stopped after {setting.suite.suite_minutes} minutes")
    result.seconds = time.monotonic() - began
    return result


def one_process(
    setting: Setting, loop: str, stem: Path, only: set[str] | None, done: set[str], deadline: float
) -> str:
    """One pytest process; how it ended, in words."""
    suite, log, orders = setting.suite, stem.with_suffix(".jsonl"), stem.with_suffix(".orders")
    orders.write_text(
        json.dumps(
            {
                "loop": loop,
                "place": suite.place,
                "log": str(log),
                "only": None if only is None else sorted(only),
                "done": sorted(done),
                "deselect": dict(suite.deselect),
            }
        )
    )
    log.unlink(missing_ok=True)
    arguments = [argument.format_map(setting.environment) for argument in (*suite.arguments, *suite.tests)]
    command = [str(setting.place.python), "-m", "pytest", "-p", "pinloop_ecosystem", "-o", "addopts="]
    command += ["-p", "no:cacheprovider", f"--timeout={suite.test_seconds}", "--color=no", "-q", "-rN"]
    command += ["--continue-on-collection-errors", f"--rootdir={setting.place.tree}"]
    command += [*setting.extra, *arguments]
    path = [str(PLUGIN)] if setting.pinloop.suffix == ".whl" else [str(PLUGIN), str(setting.pinloop)]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PINLOOP_"))},
        "PYTHONPATH": os.pathsep.join(path),
        "PINLOOP_ECOSYSTEM": str(orders),
        "PATH": f"{setting.place.python.parent}{os.pathsep}{os.environ['PATH']}",
        **suite.environment,
        **setting.environment,
    }
    with stem.with_suffix(".out").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=setting.place.tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return watch(process, log, suite, deadline)
        finally:
            kill_group(process)


def watch(process: subprocess.Popen[bytes], log: Path, suite: Suite, deadline: float) -> str:
    """Wait for the end; kill what has not begun or ended a test for longer than a test may take."""
    patience = suite.test_seconds + 60
    size, since = -1, time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        seen = log.stat().st_size if log.exists() else 0
        if seen != size:
            size, since = seen, now
        if now - since > patience:
            return f"hung for {patience} s and was killed"
        if now > deadline:
            return "was killed when the suite's time was over"
        time.sleep(POLL_SECONDS)
    if process.returncode < 0:
        return f"was ended by {signal.Signals(-process.returncode).name}"
    return f"exited with {process.returncode}"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def entries(log: Path) -> Iterator[dict[str, Any]]:
    if log.exists():
        for line in log.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue


def read_log(log: Path, loop: str, result: Run, ending: str) -> bool:
    """Add what a process wrote down to the result; whether it came to its end."""
    running, finished, made, progress = "", False, {"asyncio": 0, "pinloop": 0}, False
    for entry in entries(log):
        made = entry.get("made", made)
        result.children += entry.get("child", {}).get(loop, 0)
        if "start" in entry:
            running, progress = entry["start"], True
        elif "test" in entry:
            running = ""
            result.tests[entry["test"]] = Outcome(entry["outcome"], entry["why"], entry["seconds"])
        elif "broken" in entry:
            result.tests[entry["broken"]] = Outcome("failed", "[collect] " + entry["why"])
        elif "end" in entry:
            # 0 and 1: all ran; 5: there was none; the rest means that pytest itself gave up.
            finished = True
            if entry["end"] not in (0, 1, 5) and not any("broken" in other for other in entries(log)):
                result.trouble.append(f"pytest ended with {entry['end']}")
    for name, number in made.items():
        result.made[name] += number
    if not finished and running:
        result.tests[running] = Outcome("failed", f"[crash] the interpreter {ending}")
    elif not finished:
        result.trouble.append(f"the interpreter {ending}" + ("" if progress else " before its first test"))
    return finished or not running
