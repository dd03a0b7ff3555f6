"""Cancelling what waits for the network: it ends, and nothing stays open."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.api.support import silent_address

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


@pytest.fixture
def silent() -> Iterator[tuple[Any, ...]]:
    with silent_address() as address:
        yield address


def cancelled_after(turns: int, coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        task = asyncio.ensure_future(coro)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel("mine")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    return main()


def test_cancelling_a_connect_ends_it(run: Run, silent: tuple[Any, ...]) -> None:
    run(cancelled_after(5, asyncio.open_connection(*silent)))


def test_a_timeout_ends_a_connect(run: Run, silent: tuple[Any, ...]) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.open_connection(*silent)

    run(main())


def test_cancelling_a_lookup_ends_the_connect(loop: Loop) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(3600)

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    loop.run_until_complete(cancelled_after(3, asyncio.open_connection("a.name", 80)))


def test_cancelling_serve_forever_ends_it(run: Run) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        await cancelled_after(3, server.serve_forever())
        assert not server.is_serving()

    run(main())


def test_cancelling_a_read_leaves_the_stream_usable(run: Run) -> None:
    async def main() -> bytes:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"reply\n")
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await cancelled_after(3, reader.readline())
            writer.write(b"request\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert run(main()) == b"reply\n"
