#!/usr/bin/env python3
"""How long an echo takes on a server that is busy for 70 % of its time.

    python benchmarks/latency.py --loop pinloop,uvloop,asyncio

First each server's capacity is found: the CPU that a request costs it when there is always one waiting. Then
requests of 1 KiB come at random times (Poisson, the same in every run) at 70 % of that, over 50 connections,
whether the earlier ones are answered or not. A latency counts from the time at which the request was due: a
server that stalls pays for all that would have come meanwhile.

Two tables: at 70 % of each loop's own capacity, and all loops at 70 % of the least capacity, so at one rate.
A round measures the loops one after the other and begins with another one each time. Figures are medians over
the rounds, ratios the median over the rounds of pinloop's to that loop's.

The client never sleeps shortly before a request is due: it needs a CPU of its own, and the machine no other
work. The column of the lag tells by how much it was late itself, on average; where that is not small beside
the median, the table measures the machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

from pinloop.bench import cpus, loops, measure, native
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.process import Child

PATIENCE = 60.0
CONNECTIONS, SIZE = 50, 1024
WARM_UP = "seconds 0.3"
PINLOOP = loops.PINLOOP.name


@dataclass(frozen=True)
class Latency:
    """One run. Times in µs.

    `busy` is the share of the time for which the server used its CPU, `lag` by how much the client was late.
    """

    rate: float
    busy: float
    p50: float
    p99: float
    p999: float
    lag: float


Plan = dict[str, list[Latency]]


def with_server(loop: str, use: Callable[[Child, Child], Latency | float]) -> Latency | float:
    """Start an echo server and the load program, and use them. Raises `MeasurementError`."""
    pins = cpus.choose()
    with Child(measure.server_command(loop, "echo-protocol"), pins.server, PATIENCE) as server:
        port = server.answer()["port"]
        command = measure.load_command("echo", port, CONNECTIONS, size=SIZE)
        with Child(command, pins.loads[0], PATIENCE) as load:
            load.answer()
            measure.check_load(load.ask(WARM_UP))
            return use(server, load)


def capacity(loop: str, seconds: float) -> float:
    """Requests per second that would take all of a CPU."""

    def use(server: Child, load: Child) -> float:
        before = server.ask("cpu")
        report = measure.check_load(load.ask(f"seconds {seconds}"))
        after = server.ask("cpu")
        return float(report["requests"] / (after["cpu_ns"] - before["cpu_ns"]) * 1e9)

    found = with_server(loop, use)
    assert isinstance(found, float)
    return found


def latency(loop: str, rate: float, seconds: float) -> Latency:
    """One run at that rate."""

    def use(server: Child, load: Child) -> Latency:
        before = server.ask("cpu")
        report = measure.check_load(load.ask(f"rate {rate} seconds {seconds}"))
        after = server.ask("cpu")
        busy = (after["cpu_ns"] - before["cpu_ns"]) / 1e9 / report["seconds"]
        return Latency(rate, busy, report["p50_us"], report["p99_us"], report["p999_us"], report["lag_us"])

    found = with_server(loop, use)
    assert isinstance(found, Latency)
    return found


def run_rounds(rates: dict[str, float], rounds: int, seconds: float) -> Plan:
    """All loops at their rates, in turn."""
    found: Plan = {loop: [] for loop in rates}
    names = list(rates)
    for number in range(rounds):
        first = number % len(names)
        for loop in names[first:] + names[:first]:
            found[loop].append(latency(loop, rates[loop], seconds))
    return found


def show(title: str, found: Plan) -> None:
    """Print one table."""
    print(f"\n{title}\n{'':10}{'requests/s':>12}{'busy':>7}", end="")
    print(f"{'p50 µs':>10}{'p99 µs':>10}{'p99.9 µs':>10}{'lag µs':>10}", end="")
    print(f"{'pinloop / it, p99':>20}" if PINLOOP in found else "")
    for loop, runs in found.items():
        one = Latency(
            *(statistics.median(getattr(run, name) for run in runs) for name in Latency.__annotations__)
        )
        print(
            f"{loop:10}{one.rate:12.0f}{one.busy:7.0%}{one.p50:10.1f}{one.p99:10.1f}{one.p999:10.1f}{one.lag:10.1f}",
            end="",
        )
        if PINLOOP in found:
            pairs = zip(found[PINLOOP], runs, strict=True)
            print(f"{statistics.median(ours.p99 / its.p99 for ours, its in pairs):20.2f}", end="")
        print(flush=True)


def compare(chosen: list[str], load: float, rounds: int, seconds: float) -> None:
    """Find the capacities, then both tables. Raises `MeasurementError`."""
    found = {loop: [capacity(loop, seconds / 2)] for loop in chosen}
    for _ in range(1, rounds):
        for loop in chosen:
            found[loop].append(capacity(loop, seconds / 2))
    own = {loop: load * statistics.median(each) for loop, each in found.items()}
    show(f"{load:.0%} of each loop's own capacity", run_rounds(own, rounds, seconds))
    if len(chosen) > 1:
        one = dict.fromkeys(chosen, min(own.values()))
        show(f"one rate: {load:.0%} of the least capacity", run_rounds(one, rounds, seconds))


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop,uvloop,asyncio", metavar="A,B,…")
    parser.add_argument("--load", type=float, default=0.7, metavar="SHARE")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S")
    arguments = parser.parse_args()
    try:
        chosen = list(loops.select(arguments.loop.split(",")))
        native.program("load")
        print(f"echo of {SIZE} bytes, {CONNECTIONS} connections; {cpus.choose().note}")
        compare(chosen, arguments.load, arguments.rounds, arguments.seconds)
    except (BenchError, MeasurementError) as error:
        print(f"latency: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
