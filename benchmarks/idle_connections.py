#!/usr/bin/env python3
"""What an idle connection costs: many are held while others are served.

    python benchmarks/idle_connections.py --loop pinloop,uvloop,asyncio

Prints resident memory of the server per idle connection, and what the active ones paid for their company.
Fails if a connection is lost. Memory of the kernel is not in it: it is the same for every loop.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from pinloop.bench import cpus, loops, measure
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.process import Child, allow_open_files

PATIENCE = 60.0
PORTS_PER_ADDRESS = 20_000


@dataclass(frozen=True)
class Finding:
    """What one server was found to need."""

    bytes_per_idle: float
    alone_us: float
    company_us: float


def wait_for_fds(server: Child, count: int) -> dict[str, float]:
    """Wait until the server has accepted them all; return its census. Raises `MeasurementError`."""
    ends = time.monotonic() + PATIENCE
    while True:
        census = server.ask("census")
        if census["fds"] >= count:
            return census
        if time.monotonic() > ends:
            raise MeasurementError(
                f"only {census['fds']:.0f} of {count} files are open after {PATIENCE:.0f} s"
            )
        time.sleep(0.1)


def serve(server: Child, active: Child, seconds: float) -> float:
    """Drive the active connections; return the server's CPU per request in µs."""
    before = server.ask("cpu")
    report = measure.check_load(active.ask(f"seconds {seconds}", timeout=seconds + PATIENCE))
    after = server.ask("cpu")
    return float(after["cpu_ns"] - before["cpu_ns"]) / 1e3 / float(report["requests"])


def measure_loop(loop: str, idle: int, active: int, seconds: float) -> Finding:
    """Start a server on *loop* and measure it. Raises `MeasurementError`."""
    pins = cpus.choose()
    with Child(measure.server_command(loop, "echo-protocol"), pins.server, PATIENCE) as server:
        port = server.answer()["port"]
        with Child(measure.load_command("echo", port, active), pins.loads[0], PATIENCE) as busy:
            busy.answer()
            # What is made once, by the first requests, is not the price of a connection.
            serve(server, busy, 0.5)
            alone_us = serve(server, busy, seconds)
            before = server.ask("census")
            sources = 1 + idle // PORTS_PER_ADDRESS if sys.platform == "linux" else 0
            command = measure.load_command("idle", port, idle, sources=sources)
            with Child(command, pins.loads[0], PATIENCE) as held:
                held.answer()
                after = wait_for_fds(server, int(before["fds"]) + idle)
                company_us = serve(server, busy, seconds)
                alive = held.ask("alive")["alive"]
    if alive != idle:
        raise MeasurementError(f"{idle - alive} of {idle} idle connections were lost")
    return Finding((after["rss"] - before["rss"]) / idle, alone_us, company_us)


def main() -> int:
    """Parse the command line and measure each loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop,uvloop,asyncio", metavar="A,B,…")
    parser.add_argument("--idle", type=int, default=10_000, metavar="N")
    parser.add_argument("--active", type=int, default=100, metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    try:
        chosen = loops.select(arguments.loop.split(","))
        allow_open_files(arguments.idle + arguments.active + 200)
        print(f"{arguments.idle} idle connections, {arguments.active} active ones (1 KiB echo)")
        for loop in chosen:
            found = measure_loop(loop, arguments.idle, arguments.active, arguments.seconds)
            print(
                f"{loop:10} {found.bytes_per_idle:7.0f} bytes of RSS per idle connection;"
                f"  {found.alone_us:.2f} µs per request alone, {found.company_us:.2f} beside them",
                flush=True,
            )
    except (BenchError, MeasurementError) as error:
        print(f"idle_connections: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
