"""connect_read_pipe and connect_write_pipe: what flows, and how it ends."""

import asyncio
import os
from typing import Any

import pytest

from tests.api.pipes import Reader, connect_reader, connect_writer, pipe_files, read_to_end
from tests.api.support import turns
from tests.conftest import Run

# ------------------------------------------------------------------------ reading --


def test_reading_ends_with_eof_and_closes_the_pipe(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_reader(r)
        assert protocol.made.result() is transport
        assert transport.get_extra_info("pipe") is r
        assert transport.get_extra_info("socket", "none") == "none"
        assert transport.get_protocol() is protocol
        assert transport.is_reading()
        w.write(b"hello ")
        await protocol.receive(6)
        w.write(b"world")
        w.close()
        assert await protocol.lost is None
        assert protocol.eof.done()
        assert protocol.data == b"hello world"
        assert transport.is_closing()
        await turns(1)
        assert r.closed

    run(main())


def test_what_eof_received_returns_does_not_keep_a_pipe_open(run: Run) -> None:
    class Stubborn(Reader):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async def main() -> None:
        r, w = pipe_files()
        _, protocol = await asyncio.get_running_loop().connect_read_pipe(Stubborn, r)
        w.close()
        assert await protocol.lost is None

    run(main())


def test_nothing_is_delivered_while_reading_is_paused(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_reader(r)
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        w.write(b"late")
        await turns(5)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.receive(4)
        transport.close()
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert await protocol.lost is None
        w.close()

    run(main())


def test_a_large_amount_arrives_in_order(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        _, reader = await connect_reader(r)
        wt, writer = await connect_writer(w)
        sent = bytes(range(256)) * 8192
        wt.write(sent)
        wt.write_eof()
        assert await writer.lost is None
        assert await reader.lost is None
        assert reader.data == sent
        assert writer.told[-1] == "lost"

    run(main())


def test_streams_over_pipes(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        r, w = pipe_files()
        stream = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), r)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, w)
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        for i in range(100):
            writer.write(b"%d\n" % i)
            await writer.drain()
        writer.close()
        lines = [int(line) async for line in stream]
        assert lines == list(range(100))
        await turns(2)

    run(main())


def test_another_protocol_takes_over(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, first = await connect_reader(r)
        second = Reader()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        w.write(b"x")
        assert await second.receive(1) == b"x"
        w.close()
        assert await second.lost is None
        assert first.data == b""
        assert not first.lost.done()

    run(main())


# ------------------------------------------------------------------------ writing --


def test_a_write_leaves_at_once(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        assert protocol.transport is transport
        assert transport.get_extra_info("pipe") is w
        assert transport.can_write_eof()
        for data in (b"a", bytearray(b"b"), memoryview(b"c"), b""):
            transport.write(data)
        transport.writelines([b"d", b"e"])
        assert transport.get_write_buffer_size() == 0
        assert os.read(r.fileno(), 100) == b"abcde"
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert await protocol.lost is None
        assert os.read(r.fileno(), 100) == b""
        await turns(1)
        assert w.closed
        r.close()

    run(main())


def test_writing_is_paused_and_resumed(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        transport.set_write_buffer_limits(high=1000, low=10)
        sent = os.urandom(300_000)
        transport.write(sent)
        assert protocol.told == ["made", "pause"]
        assert 0 < transport.get_write_buffer_size() < len(sent)
        transport.close()
        assert await read_to_end(r.fileno(), 10_000) == sent
        assert await protocol.lost is None
        assert transport.get_write_buffer_size() == 0
        assert protocol.told == ["made", "pause", "resume", "lost"]
        r.close()

    run(main())


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_what_is_queued_still_leaves_after_close(run: Run, end: str) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        transport.write(bytes(200_000))
        getattr(transport, end)()
        assert transport.is_closing()
        transport.write(b"too late")
        assert await read_to_end(r.fileno()) == bytes(200_000)
        assert await protocol.lost is None
        r.close()

    run(main())


def test_abort_drops_what_is_queued(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        transport.write(bytes(1_000_000))
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost is None
        assert 0 < len(await read_to_end(r.fileno())) < 1_000_000
        r.close()

    run(main())


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [
        (None, None, (16 * 1024, 64 * 1024)),
        (100, None, (25, 100)),
        (None, 100, (100, 400)),
        (100, 7, (7, 100)),
        (0, 0, (0, 0)),
    ],
)
def test_write_buffer_limits(run: Run, high: Any, low: Any, expected: tuple[int, int]) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == expected
        for bad in ((1, 2), (-1, None), (None, -1)):
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(*bad)
        assert transport.get_write_buffer_limits() == expected
        transport.close()
        await protocol.lost
        r.close()

    run(main())


# ---------------------------------------------------------------- the other end goes --


def test_a_writer_notices_that_the_reader_is_gone(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        r.close()
        assert await protocol.lost is None
        assert transport.is_closing()

    run(main())


def test_a_reader_that_goes_with_bytes_queued_is_a_broken_pipe(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        transport.write(bytes(1_000_000))
        r.close()
        assert isinstance(await protocol.lost, BrokenPipeError)
        assert transport.get_write_buffer_size() == 0

    run(main())


def test_a_write_to_nobody_is_a_broken_pipe(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        r.close()
        transport.write(b"to nobody")
        assert isinstance(await protocol.lost, BrokenPipeError)
        for _ in range(10):
            transport.write(b"again")

    run(main(), debug=False)
    assert [record.levelname for record in caplog.records].count("WARNING") >= 1
