#!/usr/bin/env python3
"""A million tasks on one thread: what each weighs while it waits, and what it costs to come and go.

    python benchmarks/million_tasks.py --loop pinloop,uvloop,asyncio

`future`  each task awaits a future of its own; then all of them are set
`sleep`   each awaits asyncio.sleep(3600); then all are cancelled
`skynet`  a tree: each task makes ten and sums up what they return, down to the leaves

Every figure is of a fresh process, and a round measures one loop after the other. Memory is the growth of
the resident set once all tasks wait (for skynet, its highest), with their coroutines, futures and timers, and
with the list that keeps them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from apart import cells, loops, part

child, cpus, errors, process = (part(name) for name in ("child", "cpus", "errors", "process"))

PATIENCE = 600.0


@dataclass
class Meter:
    """CPU and memory from here on."""

    tasks: int

    def __post_init__(self) -> None:
        self._rss = child.census()["rss"]
        self._cpu = time.process_time_ns()

    def cpu_us(self) -> float:
        """Microseconds of CPU per task since the last time."""
        before, self._cpu = self._cpu, time.process_time_ns()
        return (self._cpu - before) / self.tasks / 1e3

    def bytes(self) -> float:
        """Bytes that the process has grown by, per task; what is garbage is collected first."""
        grown = (child.census()["rss"] - self._rss) / self.tasks
        self._cpu = time.process_time_ns()
        return grown


# ---- what is measured, in a process of its own


async def of_future(tasks: int) -> dict[str, float]:
    """Tasks that await a future each."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[int]] = []

    async def wait() -> int:
        future: asyncio.Future[int] = loop.create_future()
        futures.append(future)
        return await future

    meter = Meter(tasks)
    waiting = [loop.create_task(wait()) for _ in range(tasks)]
    await asyncio.sleep(0)
    come_us = meter.cpu_us()
    size = meter.bytes()
    for future in futures:
        future.set_result(1)
    total = 0
    for task in waiting:
        total += await task
    if total != tasks:
        raise RuntimeError(f"{total} of {tasks} tasks have ended well")
    return {"bytes": size, "come_us": come_us, "go_us": meter.cpu_us()}


async def of_sleep(tasks: int) -> dict[str, float]:
    """Tasks that sleep."""
    loop = asyncio.get_running_loop()
    meter = Meter(tasks)
    waiting = [loop.create_task(asyncio.sleep(3600)) for _ in range(tasks)]
    await asyncio.sleep(0)
    come_us = meter.cpu_us()
    size = meter.bytes()
    for task in waiting:
        task.cancel()
    await asyncio.sleep(0)
    cancelled = 0
    for task in waiting:
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
    if cancelled != tasks:
        raise RuntimeError(f"{cancelled} of {tasks} tasks were cancelled")
    return {"bytes": size, "come_us": come_us, "go_us": meter.cpu_us()}


async def of_skynet(tasks: int) -> dict[str, float]:
    """The cell of that name, with the greatest power of ten that is not above *tasks* for its leaves."""
    before = child.census()["rss"]
    begun = time.process_time_ns()
    made = await cells.CELLS["skynet"](tasks)
    spent = time.process_time_ns() - begun
    return {"bytes": (highest_rss() - before) / made, "come_us": spent / made / 1e3, "go_us": 0.0}


def highest_rss() -> int:
    """The largest resident set that this program has had, in bytes."""
    try:
        with open("/proc/self/status") as status:
            (line,) = [line for line in status if line.startswith("VmHWM:")]
    except OSError:
        kilo = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo
    # On Linux ru_maxrss also remembers the process that this one was forked from.
    return int(line.split()[1]) * 1024


WHAT: dict[str, Callable[[int], Awaitable[dict[str, float]]]] = {
    "future": of_future,
    "sleep": of_sleep,
    "skynet": of_skynet,
}


def run_child(loop: str, what: str, tasks: int) -> None:
    """Measure, and print the figures."""

    async def main() -> None:
        print(json.dumps(await WHAT[what](tasks)), flush=True)

    with asyncio.Runner(loop_factory=loops.named(loop).load()) as runner:
        runner.run(main())


# ---- the comparison


def measure(loop: str, what: str, tasks: int) -> dict[str, float]:
    """The figures of one process. Raises `MeasurementError`."""
    command = [sys.executable, __file__, "--child", "--loop", loop, "--what", what, "--tasks", str(tasks)]
    with process.Child(command, cpus.choose().server, PATIENCE) as measured:
        figures: dict[str, float] = measured.answer()
        return figures


def show(what: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians of one kind, beside those of asyncio if it takes part."""
    medians = {
        loop: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for loop, rounds in found.items()
    }
    for loop, figures in medians.items():
        base = medians.get("asyncio", figures)
        words = f"{what:8}{loop:10}{figures['bytes']:8.0f} bytes ({figures['bytes'] / base['bytes']:.2f} ×)"
        words += f"{figures['come_us']:9.2f} µs"
        if what == "skynet":
            words += f" ({figures['come_us'] / base['come_us']:.2f} ×)"
        else:
            both, of_base = (one["come_us"] + one["go_us"] for one in (figures, base))
            words += f" to come,{figures['go_us']:7.2f} µs to go ({both / of_base:.2f} ×)"
        print(words, flush=True)


def main() -> int:
    """Parse the command line, measure in rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop,uvloop,asyncio", metavar="A,B,…")
    parser.add_argument("--what", default="future,sleep,skynet", metavar="A,B,…")
    parser.add_argument("--tasks", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments.loop, arguments.what, arguments.tasks)
        return 0
    try:
        chosen = list(loops.select(arguments.loop.split(",")))
        unknown = [what for what in arguments.what.split(",") if what not in WHAT]
        if unknown:
            raise errors.BenchError(f"unknown: {', '.join(unknown)}; known: {', '.join(WHAT)}")
        print(f"{arguments.tasks} tasks, per task; × is beside asyncio")
        for what in arguments.what.split(","):
            found: dict[str, list[dict[str, float]]] = {loop: [] for loop in chosen}
            for _ in range(arguments.rounds):
                for loop in chosen:
                    found[loop].append(measure(loop, what, arguments.tasks))
            show(what, found)
    except (errors.BenchError, errors.MeasurementError) as error:
        print(f"million_tasks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
