"""What the tests of streams share: the loops they run on, and a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pinloop
from tests.api.support import ON_PINLOOP

Pair = tuple[Any, Any]

LOOPS = [asyncio.new_event_loop, *([pinloop.new_event_loop] if ON_PINLOOP else [])]


@contextlib.asynccontextmanager
async def connected(streams: Any, **options: Any) -> AsyncIterator[tuple[Pair, Pair]]:
    """(reader, writer) at the client's end of a connection, and at the server's."""
    accepted: asyncio.Future[Pair] = asyncio.get_running_loop().create_future()

    def accept(reader: Any, writer: Any) -> None:
        accepted.set_result((reader, writer))

    server = await streams.start_server(accept, "127.0.0.1", 0, **options)
    async with server:
        near = await streams.open_connection(*server.sockets[0].getsockname()[:2], **options)
        far = await accepted
        yield near, far
        for _, writer in (near, far):
            writer.close()
        for _, writer in (near, far):
            with contextlib.suppress(OSError):
                await writer.wait_closed()
