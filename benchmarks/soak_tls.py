#!/usr/bin/env python3
"""Open and close a hundred thousand TLS connections, and look for what stays behind.

    python benchmarks/soak_tls.py --loop pinloop --connections 100000

Client and server run on one loop in this process. Each connection echoes one message; a third of them is
closed by the client, a third by the server, a third aborted, and for every ten there is one that leaves in
the middle of its handshake. Open files, resident memory and objects tracked by the garbage collector are
sampled along the way. Fails if they grow after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import time

from soak import SAMPLES, growth, show

from pinloop.bench import loops
from pinloop.bench.child import census
from pinloop.bench.errors import BenchError, MeasurementError
from pinloop.bench.load_tls import client_context
from pinloop.bench.process import allow_open_files
from pinloop.bench.servers import tls

WIDTH = 50
MESSAGE = bytes(64)
GROWTH_ALLOWED = {"fds": 0, "objects": 500, "rss": 4 << 20}
"""Over the whole soak: at a hundred thousand connections 4 MiB are forty bytes each."""


class Echo(asyncio.Protocol):
    """Sends back what it gets; closes if it is of the second kind."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)  # type: ignore[attr-defined]
        if data[:1] == b"\x01":
            self.transport.close()


class Client(asyncio.Protocol):
    """Sends a message, and leaves in one of three ways once it has come back."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.missing = len(MESSAGE)
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        self.transport = transport
        transport.write(bytes([self.kind]) + MESSAGE[1:])  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Leave when all is back; of the second kind the server does."""
        self.missing -= len(data)
        if not self.missing and self.kind != 1:
            (self.transport.close if self.kind == 0 else self.transport.abort)()  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell."""
        self.over.set_result(self.missing)


async def leave_early(port: int) -> None:
    """A connection that sends half a greeting."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01\x02\x00\x01")
    writer.close()
    await writer.wait_closed()


async def connect_some(port: int, context: ssl.SSLContext, first: int, count: int) -> None:
    """Connect `count` times, one after the other. Raises `MeasurementError` for a message that is lost."""
    loop = asyncio.get_running_loop()
    for number in range(first, first + count):
        _, protocol = await loop.create_connection(
            lambda kind=number % 3: Client(kind), "127.0.0.1", port, ssl=context, server_hostname=""
        )
        if await protocol.over:
            raise MeasurementError("a message did not come back")
        if number % 10 == 0:
            await leave_early(port)


async def soak(connections: int) -> list[dict[str, float]]:
    """Run the soak; return the samples."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=tls.context())
    port = server.sockets[0].getsockname()[1]
    context = client_context()
    each = max(1, connections // SAMPLES // WIDTH)
    samples = []
    begun = time.monotonic()
    for done in range(1, SAMPLES + 1):
        await asyncio.gather(*(connect_some(port, context, i, each) for i in range(WIDTH)))
        await asyncio.sleep(0.1)
        samples.append(census())
        show(done * each * WIDTH, time.monotonic() - begun, samples[-1])
    server.close()
    await server.wait_closed()
    return samples


def main() -> int:
    """Parse the command line and soak each loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", default="pinloop", metavar="A,B,…")
    parser.add_argument("--connections", type=int, default=100_000, metavar="N")
    arguments = parser.parse_args()
    grown = []
    try:
        allow_open_files(4 * WIDTH + 200)
        for loop in loops.select(arguments.loop.split(",")):
            print(loop)
            with asyncio.Runner(loop_factory=loops.named(loop).load()) as runner:
                samples = runner.run(soak(arguments.connections))
            grown += [f"{loop}: {line}" for line in growth(samples, GROWTH_ALLOWED)]
    except (BenchError, MeasurementError) as error:
        print(f"soak_tls: {error}", file=sys.stderr)
        return 1
    print(*(grown or ["nothing grew"]), sep="\n")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
