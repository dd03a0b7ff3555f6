#!/usr/bin/env python3
"""The tables of docs/serving-cost.md: an app on every core, by pinloop's `serve` and by uvicorn on uvloop.

    python benchmarks/serving.py                                    # print the tables
    python benchmarks/serving.py --write docs/serving-cost.md       # and put them there
    python benchmarks/serving.py --rounds 1 --seconds 2 --load own

Each measurement starts a server, loads it for a second, then for `--seconds` with what counts: requests, and
the CPU that all processes of the server took meanwhile, by /proc. The load is wrk's where it is installed,
else `serving_load.py`'s. The contenders take turns, and each round begins with another. A rolling restart is
a SIGHUP under the load of `serving_load.py`, which counts what fails.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import family
from comparison import BEGIN, END, put_between

import pinloop
from pinloop.bench.errors import BenchError

FOLDER = Path(__file__).parent
PATIENCE = 30.0
"""Seconds that a server has to start, and to end."""
CONNECTIONS, FRESH = 48, 16


def pinloop_serve(workers: int, port: int) -> list[str]:
    quiet = ["--no-access-log", "--log-level", "warning"]
    where = ["--port", str(port), "--workers", str(workers), "--app-dir", str(FOLDER)]
    return [sys.executable, "-m", "pinloop", "serve", "serving_app:app", *where, *quiet]


def uvicorn_on_uvloop(workers: int, port: int) -> list[str]:
    quiet = ["--no-access-log", "--log-level", "warning"]
    where = ["--port", str(port), "--workers", str(workers), "--app-dir", str(FOLDER)]
    return [sys.executable, "-m", "uvicorn", "serving_app:app", "--loop", "uvloop", *where, *quiet]


KINDS: dict[str, Callable[[int, int], list[str]]] = {
    "pinloop serve": pinloop_serve,
    "uvicorn on uvloop": uvicorn_on_uvloop,
}
US = "pinloop serve"
NEEDS = {"pinloop serve": ("uvicorn",), "uvicorn on uvloop": ("uvicorn", "uvloop")}

Contender = tuple[str, int]
"""A kind, and the number of its workers."""


# ---- the server


class Server:
    """A server that runs."""

    def __init__(self, kind: str, workers: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.workers = workers
        self.process = subprocess.Popen(KINDS[kind](workers, self.port), cwd=FOLDER)

    def wait_ready(self) -> None:
        """Wait until each worker has answered."""
        seen: set[bytes] = set()
        end = time.monotonic() + PATIENCE
        while len(seen) < self.workers:
            if self.process.poll() is not None or time.monotonic() > end:
                raise BenchError(f"the server did not start: status {self.process.returncode}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda sock=sock: sock.recv(4096), b""))  # type: ignore[misc]
                seen.add(answer.rpartition(b"from ")[2])
                continue
            time.sleep(0.05)

    def cpu(self) -> float:
        """The seconds of CPU of all its processes so far, those that have ended included."""
        return family.cpu(self.process.pid)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for pid in reversed(family.members(self.process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def serving(kind: str, workers: int) -> Iterator[Server]:
    server = Server(kind, workers)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


# ---- the load


def own_load(port: int, seconds: float, keep: int = CONNECTIONS, fresh: int = 0) -> Any:
    with own_process(port, seconds, keep, fresh) as process:
        return own_result(process)


def own_process(port: int, seconds: float, keep: int, fresh: int, servers: int = 0) -> subprocess.Popen[str]:
    words = [str(port), "--seconds", str(seconds), "--keep", str(keep), "--fresh", str(fresh)]
    words += ["--servers", str(servers)]
    command = [sys.executable, str(FOLDER / "serving_load.py"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def own_result(process: subprocess.Popen[str]) -> Any:
    output, _ = process.communicate()
    if process.returncode:
        raise BenchError(f"the load ended with status {process.returncode}")
    return json.loads(output)


def wrk(port: int, seconds: float) -> Any:
    """What wrk says, in the words of our own."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise BenchError(f"wrk ended with status {done.returncode}: {done.stderr.strip()}")
    return parsed(done.stdout)


UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def parsed(output: str) -> dict[str, Any]:
    """The output of wrk, read. Raises BenchError if that is not what it is."""
    requests = re.search(r"(\d+) requests in ", output)
    times = dict(re.findall(r"(50|99)% +([\d.]+(?:us|ms|s))", output))
    if requests is None or len(times) < 2:
        raise BenchError(f"wrk said {output!r}")
    failed = {}
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    if errors is not None:
        names = ("connect", "read", "write", "timeout")
        failed = {name: int(count) for name, count in zip(names, errors.groups(), strict=True) if int(count)}
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if others is not None:
        failed["status"] = int(others[1])
    found: dict[str, Any] = {"requests": int(requests[1]), "failed": failed}
    for name, text in times.items():
        number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
        found[f"p{name}"] = float(number) * UNITS[unit]
    return found


LOADS: dict[str, Callable[[int, float], Any]] = {"wrk": wrk, "own": own_load}


# ---- measuring


@dataclass
class Found:
    """What the rounds gave for one contender."""

    per_cpu: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    failed: int = 0


def measure(found: Found, contender: Contender, seconds: float, load: str) -> None:
    """One round of one contender."""
    with serving(*contender) as server:
        LOADS[load](server.port, 1.0)  # warm
        cpu, began = server.cpu(), time.perf_counter()
        result = LOADS[load](server.port, seconds)
        cpu, taken = server.cpu() - cpu, time.perf_counter() - began
    found.per_cpu.append(result["requests"] / max(cpu, 1 / family.TICK))
    found.per_second.append(result["requests"] / taken)
    found.p50.append(result["p50"])
    found.p99.append(result["p99"])
    found.failed += sum(result["failed"].values())


def restart(kind: str, workers: int, seconds: float) -> dict[str, Any]:
    """A SIGHUP under load, once a quarter of the time is over. It goes on until all workers were replaced."""
    with (
        serving(kind, workers) as server,
        own_process(server.port, seconds, CONNECTIONS - FRESH, FRESH, 2 * workers) as process,
    ):
        time.sleep(seconds / 4)
        server.process.send_signal(signal.SIGHUP)
        result: dict[str, Any] = own_result(process)
    return result


# ---- showing


def figure(values: list[float], scale: float = 1.0, digits: int = 0) -> str:
    middle = statistics.median(values)
    spread = statistics.median(abs(value - middle) for value in values)
    return f"{middle * scale:.{digits}f} ± {spread * scale:.{digits}f}"


def requests_table(measured: dict[Contender, Found], load: str) -> list[str]:
    lines = [
        f"## Requests, by {'wrk' if load == 'wrk' else 'serving_load.py'}",
        "",
        "| | workers | requests per CPU second | requests per second | p50, ms | p99, ms | failed |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (kind, workers), found in sorted(measured.items(), key=lambda item: (item[0][1], item[0][0])):
        if found.per_cpu:
            shown = [figure(found.per_cpu), figure(found.per_second)]
            shown += [figure(found.p50, 1e3, 2), figure(found.p99, 1e3, 2), str(found.failed)]
            lines.append(f"| {' | '.join([kind, str(workers), *shown])} |")
    lines.append("")
    for workers in sorted({workers for _, workers in measured}):
        ratios = {kind: advantage(measured, kind, workers) for kind in KINDS}
        words = f"{workers} worker{'s' if workers > 1 else ''}"
        lines += [
            f"- {words}: {ratio:.2f} times the requests per CPU second of {kind}."
            for kind, ratio in ratios.items()
            if ratio is not None
        ]
    return [*lines, ""]


def advantage(measured: dict[Contender, Found], kind: str, workers: int) -> float | None:
    """The median, over the rounds, of how many times as much pinloop serves for the same CPU."""
    ours, theirs = (measured.get((name, workers), Found()).per_cpu for name in (US, kind))
    if kind == US or not ours or len(ours) != len(theirs):
        return None
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def restart_table(restarted: dict[Contender, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "## A rolling restart under load",
        "",
        "| | workers | SIGHUPs | requests answered | failed | processes that answered | p99, ms |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for (kind, workers), results in restarted.items():
        failed: dict[str, int] = {}
        for result in results:
            for name, count in result["failed"].items():
                failed[name] = failed.get(name, 0) + count
        total = sum(failed.values())
        words = (
            f"{total} ({', '.join(f'{name}: {count}' for name, count in failed.items())})" if total else "0"
        )
        answered = sum(result["requests"] for result in results)
        servers = "/".join(str(len(result["servers"])) for result in results)
        p99 = figure([result["p99"] for result in results], 1e3, 1)
        lines.append(f"| {kind} | {workers} | {len(results)} | {answered} | {words} | {servers} | {p99} |")
    return [*lines, ""]


def versions() -> str:
    found = [f"CPython {platform.python_version()}", f"pinloop {pinloop.__version__}"]
    names = [name for name in ("uvicorn", "uvloop", "httptools") if importlib.util.find_spec(name)]
    found += [f"{name} {metadata.version(name)}" for name in names]
    found.append(f"{len(os.sched_getaffinity(0))} CPUs")
    return ", ".join(found)


def report(
    measured: dict[Contender, Found], restarted: Any, options: Any, missing: list[str], problems: list[str]
) -> str:
    """All tables, between the marks of a page."""
    today = datetime.datetime.now(datetime.UTC).date()
    words = shlex.join(["python", "benchmarks/serving.py", *sys.argv[1:]])
    lines = [BEGIN, "", f"{today}: {versions()}; {options.rounds} rounds. By `{words}`.", ""]
    lines += requests_table(measured, options.load)
    if restarted:
        lines += restart_table(restarted)
    if missing:
        lines += [f"Left out: {'; '.join(missing)}.", ""]
    if problems:
        lines += ["Failed:", "", *(f"- {problem}" for problem in problems), ""]
    return "\n".join([*lines, END])


def run(options: Any) -> str:
    """Measure all rounds; the report."""
    kinds, left_out, problems = [], [], []
    for kind in KINDS:
        missing = [name for name in NEEDS[kind] if not importlib.util.find_spec(name)]
        if missing:
            left_out.append(f"{kind} ({', '.join(missing)} is not installed)")
        else:
            kinds.append(kind)
    contenders = [(kind, int(workers)) for workers in options.workers.split(",") for kind in kinds]
    measured = {contender: Found() for contender in contenders}
    restarted: dict[Contender, list[dict[str, Any]]] = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        first = number % max(1, len(contenders))
        for contender in contenders[first:] + contenders[:first]:
            try:
                measure(measured[contender], contender, options.seconds, options.load)
                if options.restarts and contender[1] > 1:
                    result = restart(*contender, options.restart_seconds)
                    restarted.setdefault(contender, []).append(result)
            except BenchError as error:
                problems.append(f"{contender[0]}, {contender[1]} workers: {error}")
    options.failed = bool(problems)
    return report(measured, restarted, options, left_out, problems)


def main() -> int:
    """Parse the command line, measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load in each measurement (5)")
    parser.add_argument("--workers", default="1,2", help="numbers of workers (1,2)")
    parser.add_argument("--load", choices=LOADS, default="wrk" if shutil.which("wrk") else "own")
    parser.add_argument("--no-restarts", dest="restarts", action="store_false", help="no rolling restarts")
    parser.add_argument("--restart-seconds", type=float, default=8.0, help="of load around a SIGHUP (8)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables there")
    options = parser.parse_args()
    text = run(options)
    print(text)
    try:
        if options.write:
            put_between(text, options.write)
    except BenchError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 1
    return int(options.failed)


if __name__ == "__main__":
    sys.exit(main())
