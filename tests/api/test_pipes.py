"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, sockets and terminals."""

import asyncio
import contextvars
import gc
import io
import os
import pty
import socket
import tty
from pathlib import Path
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Recorder, only_pinloop, turns
from tests.conftest import Run


class Writer(asyncio.BaseProtocol):
    """Notes what a writing end is told; `lost` can be awaited."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.transport: Any = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.told.append("made")
        self.transport = transport

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(exc)


class Reader(Recorder):
    """The same of a reading end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)
        self.made.set_result(transport)  # type: ignore[arg-type]


def pipe_files() -> tuple[io.FileIO, io.FileIO]:
    """The reading and the writing end of a new pipe."""
    r, w = os.pipe()
    return io.FileIO(r, "rb"), io.FileIO(w, "wb")


async def read_to_end(fd: int, size: int = 1 << 16) -> bytes:
    """Everything up to the end, up to `size` bytes at a time, read while the loop runs."""
    os.set_blocking(fd, False)
    got = bytearray()
    while True:
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            await asyncio.sleep(0)
            continue
        if not data:
            return bytes(got)
        got += data


async def connect_reader(pipe: Any) -> tuple[Any, Reader]:
    return await asyncio.get_running_loop().connect_read_pipe(Reader, pipe)


async def connect_writer(pipe: Any) -> tuple[Any, Writer]:
    return await asyncio.get_running_loop().connect_write_pipe(Writer, pipe)


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


# ------------------------------------------------------------- what else is a pipe --


def test_fifos(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        r = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
        w = io.FileIO(path, "wb")
        _, reader = await connect_reader(r)
        transport, writer = await connect_writer(w)
        transport.write(b"through the file system")
        await reader.receive(23)
        transport.close()
        await writer.lost
        assert await reader.lost is None

    run(main())


@only_pinloop  # asyncio takes any readiness for the end
def test_a_fifo_opened_both_ways_is_not_taken_for_closed(run: Run, tmp_path: Path) -> None:
    """It is readable, and hung up only when nobody at all has it open."""

    async def main() -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        both = io.FileIO(os.open(path, os.O_RDWR), "r+b")
        transport, writer = await connect_writer(both)
        transport.write(b"x")
        await turns(5)
        assert not writer.lost.done()
        assert os.read(both.fileno(), 10) == b"x"
        transport.close()
        assert await writer.lost is None

    run(main())


def test_sockets(run: Run) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        _, reader = await connect_reader(near)
        transport, writer = await connect_writer(far)
        assert transport.get_extra_info("pipe") is far
        transport.write(b"by socket")
        await reader.receive(9)
        transport.close()
        await writer.lost
        assert await reader.lost is None
        assert near.fileno() == -1 == far.fileno()

    run(main())


def test_a_socket_whose_peer_closes_is_lost_to_its_writer(run: Run) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        _, writer = await connect_writer(near)
        far.close()
        assert await writer.lost is None

    run(main())


def open_terminal() -> tuple[io.FileIO, int]:
    """A pseudo-terminal: its master for both ways, and the number of its raw slave."""
    try:
        master, slave = pty.openpty()
    except OSError as exc:  # a container without /dev/pts
        pytest.skip(f"no pseudo-terminals here: {exc}")
    tty.setraw(slave)
    return io.FileIO(master, "r+b"), slave


def test_a_terminal_in_both_directions_by_one_file_object(run: Run) -> None:
    async def main() -> None:
        master, slave = open_terminal()
        _, reader = await connect_reader(master)
        transport, writer = await connect_writer(master)
        transport.write(b"ping")
        assert os.read(slave, 10) == b"ping"
        os.write(slave, b"pong")
        assert await reader.receive(4) == b"pong"
        os.close(slave)
        assert isinstance(await reader.lost, OSError)  # EIO is how a terminal says EOF
        transport.close()
        assert await writer.lost is None

    run(main())


def test_a_terminal_is_not_watched_for_its_reader(run: Run) -> None:
    async def main() -> None:
        master, slave = open_terminal()
        transport, writer = await connect_writer(master)
        os.write(slave, b"readable, which says nothing about the writing end")
        await turns(5)
        assert not writer.lost.done()
        transport.close()
        await writer.lost
        os.close(slave)

    run(main())


def test_the_null_device_can_be_written_to(run: Run) -> None:
    async def main() -> None:
        transport, writer = await connect_writer(io.FileIO(os.devnull, "wb"))
        transport.write(bytes(1_000_000))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        assert await writer.lost is None

    run(main())


def test_a_device_that_cannot_be_polled_is_reported(run: Run, loop_errors: list[Any]) -> None:
    async def main() -> None:
        transport, reader = await connect_reader(io.FileIO(os.devnull, "rb"))
        await turns(2)
        assert [type(error["exception"]) for error in loop_errors] == [PermissionError]
        transport.close()
        assert await reader.lost is None

    run(main())
    loop_errors.clear()


# --------------------------------------------------------------------- bad input --


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_regular_file_is_refused_and_stays_the_callers(run: Run, tmp_path: Path, direction: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connect = getattr(loop, f"connect_{direction}_pipe")
        with open(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await connect(asyncio.Protocol, file)
            file.write(b"still open")

    run(main())


@pytest.mark.parametrize("direction", ["read", "write"])
def test_what_is_no_file_at_all(run: Run, direction: str) -> None:
    async def main() -> None:
        connect = getattr(asyncio.get_running_loop(), f"connect_{direction}_pipe")
        r, w = pipe_files()
        if ON_PINLOOP:  # asyncio leaves half a transport, whose finalizer fails
            with pytest.raises(AttributeError):
                await connect(asyncio.Protocol, r.fileno())
            os.fstat(r.fileno())
            r.close()
            with pytest.raises(ValueError, match="closed file"):
                await connect(asyncio.Protocol, r)
        with pytest.raises(ZeroDivisionError):
            await connect(lambda: 1 // 0, w)
        assert not w.closed
        r.close()
        w.close()

    run(main())


@pytest.mark.parametrize("data", ["text", None, 3, [1]])
def test_only_bytes_are_written(run: Run, data: Any) -> None:
    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await connect_writer(w)
        with pytest.raises((TypeError, AssertionError)):
            transport.write(data)
        transport.close()
        await protocol.lost
        r.close()

    run(main())


# ---------------------------------------------------------------- who else is told --


def test_cancellation_while_connecting_closes_the_pipe(run: Run) -> None:
    async def main() -> None:
        r, w = pipe_files()
        task = asyncio.create_task(connect_reader(r))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(3)
        assert r.closed
        w.close()

    run(main())


def test_callbacks_run_in_the_context_of_the_connect(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[str, str]] = []

    class Seeing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(("made", variable.get()))

        def data_received(self, data: bytes) -> None:
            seen.append(("data", variable.get()))

        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(("lost", variable.get()))
            lost.set()

    lost = asyncio.Event()

    async def main() -> None:
        r, w = pipe_files()
        variable.set("connecting")
        await asyncio.get_running_loop().connect_read_pipe(Seeing, r)
        variable.set("later")
        w.write(b"x")
        w.close()
        await lost.wait()

    run(main())
    assert seen == [("made", "connecting"), ("data", "connecting"), ("lost", "connecting")]


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_a_protocol_that_fails_is_reported(run: Run, loop_errors: list[Any], method: str) -> None:
    class Failing(Reader):
        pass

    def fail(self: Any, *args: Any) -> None:
        getattr(Reader, method)(self, *args)
        raise ZeroDivisionError(method)

    setattr(Failing, method, fail)

    async def main() -> None:
        r, w = pipe_files()
        transport, protocol = await asyncio.get_running_loop().connect_read_pipe(Failing, r)
        transport.close()
        await protocol.lost
        await turns(2)
        assert r.closed
        w.close()

    run(main())
    assert [type(error["exception"]) for error in loop_errors] == [ZeroDivisionError]
    loop_errors.clear()


def test_a_transport_that_is_not_closed_warns(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        r, w = pipe_files()
        transport, _ = await loop.connect_read_pipe(asyncio.Protocol, r)
        transport.pause_reading()
        w.close()

    def run_and_collect() -> None:
        run(main())
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed transport"):
        run_and_collect()
