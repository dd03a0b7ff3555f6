"""What flows through a TLS connection: in order, none lost, and no faster than the other end takes it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Recorder, turns, unlike_asyncio
from tests.conftest import Context, Run
from tests.tls import (
    TLS_1_2,
    BlockingPeer,
    client_context,
    connect_peer,
    pattern,
    serving,
    tls_pair,
)

MIB = 1 << 20
EMPTY = pytest.param("empty", marks=unlike_asyncio("asks for a buffer again and again"))


class Buffered(Recorder, asyncio.BufferedProtocol):
    """A Recorder with a buffer of its own."""

    size = 1000
    kind: Any = memoryview

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(self.size)

    def get_buffer(self, sizehint: int) -> Any:
        return self.kind(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        Recorder.data_received(self, bytes(self.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if data:
            raise AssertionError("told by the wrong method")
        super().data_received(data)


def buffered(size: int, kind: Any = memoryview) -> type[Buffered]:
    """A Buffered whose buffer has this size."""
    return type(f"Buffered{size}", (Buffered,), {"size": size, "kind": staticmethod(kind)})


@contextlib.asynccontextmanager
async def peer_of(
    protocol: Recorder, **of_client: Any
) -> AsyncIterator[tuple[asyncio.Transport, BlockingPeer]]:
    """A server's transport, and the blocking peer at the other end."""
    async with serving(lambda: protocol) as address:
        peer = await asyncio.to_thread(connect_peer, address, client_context(**of_client))
        with peer:
            transport = await protocol.made
            try:
                yield transport, peer
            finally:
                transport.abort()
                await protocol.lost


async def closed(*protocols: Recorder) -> None:
    """Close the first one's connection and wait until both ends are gone."""
    protocols[0].made.result().close()
    for protocol in protocols:
        await protocol.lost


# ------------------------------------------------------------------------- bytes --


def write_bytes(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(data)


def write_changing(transport: asyncio.Transport, data: bytes) -> None:
    buffer = bytearray(data)
    transport.write(buffer)
    buffer[:] = bytes(len(buffer))


def write_view(transport: asyncio.Transport, data: bytes) -> None:
    buffer = bytearray(b"before" + data + b"after")
    view = memoryview(buffer)[6 : 6 + len(data)]
    transport.write(view)
    buffer[:] = bytes(len(buffer))
    view.release()


def write_lines(transport: asyncio.Transport, data: bytes) -> None:
    third = len(data) // 3
    changing = bytearray(data[third : 2 * third])
    transport.writelines([data[:third], b"", memoryview(changing), data[2 * third :]])
    changing[:] = bytes(len(changing))


def write_generated(transport: asyncio.Transport, data: bytes) -> None:
    step = max(1, len(data) // 50)
    transport.writelines(data[i : i + step] for i in range(0, len(data), step))


def write_little(transport: asyncio.Transport, data: bytes) -> None:
    for i in range(0, len(data), 1000):
        transport.write(data[i : i + 1000])


ways = [write_bytes, write_changing, write_view, write_lines, write_generated, write_little]


@pytest.mark.parametrize("write", ways)
@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 40_000, 200_000, 3 * MIB + 5])
def test_bytes_of_any_kind_and_size(
    run: Run, write: Callable[[asyncio.Transport, bytes], None], size: int
) -> None:
    async def main() -> None:
        data = pattern(size)
        async with peer_of(Recorder()) as (transport, peer):
            write(transport, data)
            transport.write(b"END")
            got = await asyncio.to_thread(peer.read_exactly, size + 3)
            assert got == data + b"END"

    run(main())


@pytest.mark.parametrize(
    "factory",
    [
        Recorder,
        buffered(1),
        buffered(1000),
        buffered(16_384),
        buffered(300_000),
        pytest.param(
            buffered(1000, lambda buffer: buffer),
            marks=unlike_asyncio("reads into a slice, which is a copy, of a bytearray"),
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 16_385, 100_000, 3 * MIB])
def test_bytes_received_by_any_kind_of_protocol(run: Run, factory: type[Recorder], size: int) -> None:
    async def main() -> None:
        data = pattern(size if factory.__name__ != "Buffered1" else min(size, 50_000))
        async with peer_of(protocol := factory()) as (_, peer):
            sending = asyncio.create_task(asyncio.to_thread(peer.write, data))
            assert await protocol.receive(len(data)) == data
            await sending

    run(main())


def test_both_ends_write_at_once(run: Run) -> None:
    """Neither waits for the other to read first."""

    async def main() -> None:
        client, server = Recorder(), Recorder()
        first, second = await tls_pair(client, server)
        up, down = pattern(8 * MIB), pattern(8 * MIB, 5)
        for i in range(0, len(up), 100_000):
            first.write(up[i : i + 100_000])
            second.write(down[i : i + 100_000])
        assert await server.receive(len(up)) == up
        assert await client.receive(len(down)) == down
        await closed(client, server)

    run(main())


def test_written_as_soon_as_it_is_connected(run: Run) -> None:
    class Greeting(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.made.result().write(b"welcome")

    async def main() -> None:
        client, server = Greeting(), Greeting()
        await tls_pair(client, server)
        assert await client.receive(7) == b"welcome"
        assert await server.receive(7) == b"welcome"
        await closed(client, server)

    run(main())


@unlike_asyncio("takes anything that has a length, and closes the connection when it meets it")
@pytest.mark.parametrize("data", ["text", None, 5, ["x"], object()])
def test_what_is_no_bytes(run: Run, data: Any) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(client, server)
        with pytest.raises(TypeError):
            transport.write(data)
        with pytest.raises(TypeError):
            transport.writelines([b"not sent either", data])
        transport.write(b"goes on")
        assert await server.receive(7) == b"goes on"
        await closed(client, server)

    run(main())


@unlike_asyncio("makes a record of each write")
def test_small_writes_of_a_turn_share_a_record(run: Run) -> None:
    async def main() -> None:
        async with peer_of(Recorder(), version=TLS_1_2) as (transport, peer):
            for i in range(100):
                transport.write(b"%3d" % i)
            transport.writelines([b"four", b"more", b"little", b"ones"])
            data = await asyncio.to_thread(peer.read_exactly, 318)
            assert data.endswith(b" 99fourmorelittleones")
            assert len([size for kind, size in peer.records if kind == 23]) == 1
            for _ in range(3):
                transport.write(b"a turn each")
                await turns(2)
            await asyncio.to_thread(peer.read_exactly, 33)
            assert len([size for kind, size in peer.records if kind == 23]) == 4

    run(main())


# --------------------------------------------------------------------- protocols --


def test_another_protocol_takes_over(run: Run) -> None:
    async def main() -> None:
        first = Recorder()
        async with peer_of(first) as (transport, peer):
            protocols: list[Any] = [first, buffered(7)(), Recorder(), buffered(100_000)()]
            for i, protocol in enumerate(protocols):
                if i:
                    protocol.made.set_result(transport)
                    transport.set_protocol(protocol)
                assert transport.get_protocol() is protocol
                await asyncio.to_thread(peer.write, b"for number %d" % i)
                assert await protocol.receive(12) == b"for number %d" % i
            transport.abort()
            assert await protocols[-1].lost is None
            assert not first.lost.done()
            first.lost.set_result(None)

    run(main())


def test_another_protocol_from_within_data_received(run: Run) -> None:
    """The rest of what came with it goes to the new one."""

    class Handing(Recorder):
        def data_received(self, data: bytes) -> None:
            self.data += data
            following.made.set_result(self.made.result())
            self.made.result().set_protocol(following)

    following: Any = None

    async def main() -> None:
        nonlocal following
        following = buffered(64)()
        first = Handing()
        async with peer_of(first) as (_, peer):
            data = pattern(500_000)
            sending = asyncio.create_task(asyncio.to_thread(peer.write, data))
            await following.receive(1)
            got = await following.receive(len(data) - len(first.data))
            assert bytes(first.data) + got == data
            await sending
            first.lost.set_result(None)
            following.made.result().abort()
            await following.lost

    run(main())


@pytest.mark.parametrize("fault", ["raises", EMPTY, "read-only", "no buffer", "updated raises"])
def test_buffers_that_will_not_do(run: Run, loop_errors: list[Context], fault: str) -> None:
    class Faulty(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            if fault == "raises":
                raise ZeroDivisionError
            answers: dict[str, Any] = {"empty": bytearray(), "read-only": b"read only", "no buffer": 5}
            return answers.get(fault, memoryview(self.buffer))

        def buffer_updated(self, nbytes: int) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        async with peer_of(protocol := Faulty()) as (_, peer):
            await asyncio.to_thread(peer.write, b"x")
            assert isinstance(
                await protocol.lost, (ZeroDivisionError, RuntimeError, TypeError, BufferError, ValueError)
            )

    run(main())
    assert len(loop_errors) == 1
    loop_errors.clear()


# ------------------------------------------------------------------------ pausing --


class Pausing(Recorder):
    """Pauses at each piece it gets."""

    pieces = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data:
            self.pieces += 1
            self.made.result().pause_reading()


def test_nothing_is_delivered_while_reading_is_paused(run: Run) -> None:
    async def main() -> None:
        async with peer_of(protocol := Pausing()) as (transport, peer):
            data = pattern(2 * MIB)
            sending = asyncio.create_task(asyncio.to_thread(peer.write, data))
            await protocol.receive(1)
            while len(protocol.data) < len(data):
                assert not transport.is_reading()
                before = protocol.pieces
                await turns(5)
                assert protocol.pieces == before
                transport.resume_reading()
                assert transport.is_reading()
                await protocol.receive(len(protocol.data) + 1)
            assert protocol.data == data
            await sending
            transport.resume_reading()

    run(main())


def test_paused_and_resumed_again_and_again(run: Run) -> None:
    async def main() -> None:
        async with peer_of(protocol := Recorder()) as (transport, peer):
            for _ in range(3):
                transport.resume_reading()
                transport.pause_reading()
                transport.pause_reading()
            await asyncio.to_thread(peer.write, b"one")
            await turns(10)
            assert not protocol.data
            transport.resume_reading()
            transport.resume_reading()
            assert await protocol.receive(3) == b"one"
            transport.pause_reading()
            transport.resume_reading()
            transport.pause_reading()
            await asyncio.to_thread(peer.write, b"two")
            await turns(10)
            assert protocol.data == b"one"
            transport.resume_reading()
            assert await protocol.receive(6) == b"onetwo"

    run(main())


def test_the_peer_is_held_up_while_reading_is_paused(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        first, second = await tls_pair(client, server)
        second.pause_reading()
        first.write(bytes(30 * MIB))
        for _ in range(200):
            await turns(5)
        if ON_PINLOOP:  # asyncio does not count what it has encrypted
            assert first.get_write_buffer_size() > MIB  # most of it waits here
        second.resume_reading()
        assert len(await server.receive(30 * MIB)) == 30 * MIB
        await closed(client, server)

    run(main())


# ------------------------------------------------------------------------- pressure --


class Pressed(Recorder):
    """Notes what it is told of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.resumed = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        if not self.resumed.done():
            self.resumed.set_result(None)


LIMITS = [
    (None, None),
    pytest.param((0, 0), marks=unlike_asyncio("may forget to call resume_writing")),
    (1, 0),
    (10_000, 10),
    (70_000, 70_000),
    (100_000, None),
    (4 * MIB, 1),
]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_writer_is_told_when_to_stop_and_when_to_go_on(run: Run, limits: tuple[Any, Any]) -> None:
    async def main() -> None:
        async with peer_of(protocol := Pressed()) as (transport, peer):
            transport.set_write_buffer_limits(*limits)
            sent = 0
            while not protocol.told:
                transport.write(bytes(100_000))
                sent += 100_000
                await turns(1)
                assert sent < 60 * MIB
            if ON_PINLOOP:
                assert transport.get_write_buffer_size() > 0
            got = await asyncio.to_thread(peer.read_exactly, sent)
            assert len(got) == sent
            await protocol.resumed
            assert protocol.told == ["pause", "resume"]
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_limits_that_make_no_sense(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(client, server)
        for limits in ({"high": -1}, {"low": 5, "high": 4}, {"low": -1}):
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(**limits)
        transport.set_write_buffer_limits(high=100)
        assert transport.get_write_buffer_limits() == (25, 100)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        await closed(client, server)

    run(main())


def test_writing_again_from_within_resume_writing(run: Run) -> None:
    class Streaming(Pressed):
        left = 40

        def pump(self) -> None:
            while self.left and (not self.told or self.told[-1] == "resume"):
                self.left -= 1
                self.made.result().write(bytes(500_000))

        def resume_writing(self) -> None:
            super().resume_writing()
            self.pump()

    async def main() -> None:
        async with peer_of(protocol := Streaming()) as (transport, peer):
            transport.set_write_buffer_limits(high=100_000)
            protocol.pump()
            got = await asyncio.to_thread(peer.read_exactly, 40 * 500_000)
            assert len(got) == 40 * 500_000

    run(main())
