#!/usr/bin/env python3
"""Open and close a million connections, and look for what stays behind.

    python benchmarks/soak_connections.py --loop pinloop --connections 1000000

Each connection echoes one message; half leave by close, half by reset. The server's open files, resident
memory and objects tracked by the garbage collector are sampled along the way. Fails if they grow after the
first tenth.
"""

from __future__ import annotations

import argparse
import sys
import time

from soak import SAMPLES, growth, show

from pinloop.bench import cpus, loops, measure
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.process import Child, allow_open_files

WIDTH = 50
GROWTH_ALLOWED = {"fds": 0, "objects": 200, "rss": 4 << 20}
"""Over the whole soak: at a million connections 4 MiB are four bytes each."""


def settled(server: Child, fds: float | None) -> dict[str, float]:
    """The census once every connection is gone, or after ten seconds."""
    ends = time.monotonic() + 10
    while True:
        census = server.ask("census")
        if fds is None or census["fds"] <= fds or time.monotonic() > ends:
            return census
        time.sleep(0.1)


def soak(loop: str, connections: int) -> list[dict[str, float]]:
    """Run the soak; return the samples. Raises `MeasurementError` if a connection fails."""
    pins = cpus.choose()
    step = max(WIDTH, connections // SAMPLES)
    samples = []
    with Child(measure.server_command(loop, "echo-protocol"), pins.server, 30) as server:
        port = server.answer()["port"]
        fresh = server.ask("census")
        sources = 20 if sys.platform == "linux" else 0
        command = measure.load_command("connect", port, WIDTH, size=64, sources=sources)
        with Child(command, pins.loads[0], 600) as load:
            load.answer()
            begun = time.monotonic()
            for done in range(step, connections + 1, step):
                measure.check_load(load.ask(f"count {step}"))
                samples.append(settled(server, fresh["fds"]))
                show(done, time.monotonic() - begun, samples[-1])
    return samples


def main() -> int:
    """Parse the command line and soak each loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop", metavar="A,B,…")
    parser.add_argument("--connections", type=int, default=1_000_000, metavar="N")
    arguments = parser.parse_args()
    grown = []
    try:
        chosen = loops.select(arguments.loop.split(","))
        allow_open_files(WIDTH + 200)
        for loop in chosen:
            print(loop)
            grown += [f"{loop}: {line}" for line in growth(soak(loop, arguments.connections), GROWTH_ALLOWED)]
    except (BenchError, MeasurementError) as error:
        print(f"soak_connections: {error}", file=sys.stderr)
        return 1
    print(*(grown or ["nothing grew"]), sep="\n")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
