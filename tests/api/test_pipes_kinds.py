"""connect_read_pipe and connect_write_pipe: what they take and refuse, and who else is told."""

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

from tests.api.pipes import Reader, connect_reader, connect_writer, pipe_files
from tests.api.support import ON_PINLOOP, only_pinloop, turns
from tests.conftest import Run

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
