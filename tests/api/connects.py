"""What the tests of create_connection share: a server, an end to a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.api.support import Echo, Made, Recorder, address_of


@contextlib.asynccontextmanager
async def echo_server(host: str = "127.0.0.1") -> AsyncIterator[tuple[tuple[Any, ...], Made]]:
    """The address of a server that echoes, and the protocols it makes."""
    made = Made(Echo)
    server = await asyncio.get_running_loop().create_server(made, host, 0)
    async with server:
        yield address_of(server), made
        for protocol in made:
            if protocol.made.done():
                protocol.made.result().abort()


async def hang_up(transport: asyncio.BaseTransport, protocol: Recorder) -> None:
    """Close the transport, and await that its protocol is told."""
    transport.close()
    assert await protocol.lost is None
