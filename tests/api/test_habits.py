"""What asyncio does without any document's promise, and what programs have come to rely on."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import Recorder

Run = Callable[..., Any]


async def pair() -> tuple[tuple[asyncio.Transport, Recorder], tuple[asyncio.Transport, Recorder]]:
    """Two transports joined by a socket pair, with their protocols."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    return (
        await loop.create_connection(Recorder, sock=one),
        await loop.create_connection(Recorder, sock=other),
    )


async def spin() -> None:
    """Have work ready in each turn, for ever."""
    while True:
        await asyncio.sleep(0)


async def hang_up(*ends: tuple[asyncio.Transport, Recorder]) -> None:
    for transport, protocol in ends:
        transport.close()
        await protocol.lost


@pytest.mark.parametrize("size", [1, 100_000])
def test_what_is_written_arrives_two_turns_later(run: Run, size: int) -> None:
    # Tests of protocols count turns, with work ready in each of them.
    async def main() -> None:
        near, far = await pair()
        busy = asyncio.ensure_future(spin())
        for n in range(1, 20):
            near[0].write(bytes(size))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(far[1].data) == n * size
        busy.cancel()
        await hang_up(near, far)

    run(main())


def test_an_end_is_seen_a_few_turns_later(run: Run) -> None:
    async def main() -> None:
        near, far = await pair()
        busy = asyncio.ensure_future(spin())
        near[0].write_eof()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert far[1].eof.done()
        # The eof, the close that it leads to, and connection_lost: a turn for each.
        for _ in range(3):
            await asyncio.sleep(0)
        assert near[1].lost.done()
        busy.cancel()
        await hang_up(near, far)

    run(main())


def test_a_closed_connection_is_seen_to_be_closed_a_few_turns_later(run: Run) -> None:
    async def main() -> None:
        near, far = await pair()
        busy = asyncio.ensure_future(spin())
        near[0].close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert far[1].eof.done()
        busy.cancel()
        await hang_up(near, far)

    run(main())


@pytest.mark.parametrize("context", [None, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)])
def test_a_server_tells_its_tls_context(run: Run, context: ssl.SSLContext | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context) as server:
            assert server._ssl_context is context  # type: ignore[attr-defined]

    run(main())


def test_what_is_written_just_before_an_abort_arrives(run: Run) -> None:
    async def main() -> None:
        near, far = await pair()
        near[0].write(b"the reason")
        near[0].abort()
        assert await near[1].lost is None
        assert await far[1].receive(10) == b"the reason"
        await hang_up(far)

    run(main())


def test_a_method_of_one_transport_can_be_replaced(run: Run) -> None:
    async def main() -> None:
        near, far = await pair()
        kept: list[bytes] = []
        near[0].write = kept.append  # type: ignore[method-assign, assignment]
        near[0].write(b"never sent")
        del near[0].write
        near[0].write(b"sent")
        assert await far[1].receive(4) == b"sent"
        assert kept == [b"never sent"]
        await hang_up(near, far)

    run(main())


def test_a_transport_carries_what_others_note_on_it(run: Run) -> None:
    async def main() -> None:
        near, far = await pair()
        near[0].note = near  # type: ignore[attr-defined]
        assert near[0].note is near  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            far[0].note  # type: ignore[attr-defined]  # noqa: B018
        await hang_up(near, far)

    run(main())


def test_a_loop_tells_that_it_is_closed(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = loop_factory()
    assert loop._closed is False  # type: ignore[attr-defined]
    loop.close()
    assert loop._closed is True  # type: ignore[attr-defined]


def test_the_writing_end_of_a_pipe_has_no_reading_to_pause(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        with open(reader, "rb", 0), open(writer, "wb", 0) as pipe:
            transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
            for method in ("pause_reading", "resume_reading", "is_reading"):
                with pytest.raises(NotImplementedError):
                    getattr(transport, method)()
            transport.abort()
            await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_callbacks_of_a_closed_socket_are_found_by_the_socket(
    loop: asyncio.AbstractEventLoop, kind: str
) -> None:
    add, remove = getattr(loop, f"add_{kind}"), getattr(loop, f"remove_{kind}")
    ours, theirs = socket.socketpair()
    with theirs:
        add(theirs, print)
        add(ours, print)
        ours.close()
        assert remove(ours) is True
        with pytest.raises(ValueError):
            remove(ours)
        assert remove(theirs) is True
        assert remove(theirs) is False
