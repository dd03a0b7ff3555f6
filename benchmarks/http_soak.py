#!/usr/bin/env python3
"""Real HTTP traffic: 100,000 requests over 200 keep-alive connections, and not one error.

    python benchmarks/http_soak.py --loop pinloop

Three parts: uvicorn with httptools and aiohttp's server, both under the compiled load program; and aiohttp's
client on the loop against aiohttp's server on it, which compares every body.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from pinloop.bench import loops, measure
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.process import Child, allow_open_files
from pinloop.bench.servers.http import HELLO

PATIENCE = 600.0


async def fetch_all(port: int, requests: int, connections: int) -> None:
    """Send *requests* with aiohttp's client. Raises `MeasurementError` unless all are answered rightly."""
    import aiohttp

    left = requests
    right = 0
    first_error = ""

    async def fetch_one(session: aiohttp.ClientSession) -> None:
        nonlocal left, right, first_error
        left -= 1
        try:
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                right += response.status == 200 and await response.read() == HELLO
        except Exception as error:
            first_error = first_error or f"{type(error).__name__}: {error}"

    async def fetch_some(session: aiohttp.ClientSession) -> None:
        while left > 0 and not first_error:
            await fetch_one(session)

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(fetch_some(session))
    if right != requests:
        raise MeasurementError(f"only {right} of {requests} requests were answered rightly: {first_error}")


def show(loop: str, what: str, requests: int, connections: int, rate: float) -> None:
    """Print what went well."""
    traffic = f"{requests} requests, {connections} connections"
    print(f"{loop:10} {what:14} {traffic}, 0 errors, {rate:.0f}/s", flush=True)


def soak_server(loop: str, server: str, requests: int, connections: int) -> None:
    """The compiled load program against *server* on *loop*. Raises `MeasurementError` for any error."""
    with Child(measure.server_command(loop, server), None, PATIENCE) as serving:
        port = serving.answer()["port"]
        with Child(measure.load_command("http", port, connections), None, PATIENCE) as load:
            load.answer()
            report = measure.check_load(load.ask(f"count {requests}"))
    if report["requests"] != requests:
        raise MeasurementError(f"{report['requests']} of {requests} requests were answered")
    rate = report["requests"] / report["seconds"]
    show(loop, server, requests, connections, rate)


def soak_client(loop: str, requests: int, connections: int) -> None:
    """aiohttp's client on *loop*, in this process. Raises `MeasurementError` for any error."""
    with Child(measure.server_command(loop, "http-aiohttp"), None, PATIENCE) as serving:
        port = serving.answer()["port"]
        begun = time.monotonic()
        with asyncio.Runner(loop_factory=loops.named(loop).load()) as runner:
            runner.run(fetch_all(port, requests, connections))
        rate = requests / (time.monotonic() - begun)
    show(loop, "aiohttp client", requests, connections, rate)


def main() -> int:
    """Parse the command line and soak each loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop", metavar="A,B,…")
    parser.add_argument("--requests", type=int, default=100_000, metavar="N")
    parser.add_argument("--connections", type=int, default=200, metavar="N")
    arguments = parser.parse_args()
    try:
        chosen = loops.select(arguments.loop.split(","))
        allow_open_files(arguments.connections + 200)
        for loop in chosen:
            for server in ("http-uvicorn", "http-aiohttp"):
                soak_server(loop, server, arguments.requests, arguments.connections)
            soak_client(loop, arguments.requests, arguments.connections)
    except (BenchError, MeasurementError) as error:
        print(f"http_soak: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
