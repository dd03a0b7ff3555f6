"""loop.sock_sendfile and loop.sendfile."""

import asyncio
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.api.support import ON_PINLOOP, Recorder, only_pinloop, turns
from tests.conftest import Run

DATA = os.urandom(4096) * 5000  # 20 MB: more than the kernel holds of a connection

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("sendfile") / "data"
    found.write_bytes(DATA)
    return found


@pytest.fixture
def file(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as opened:
        yield opened


class NoFd(io.BytesIO):
    """A file that only a fallback can send."""


def in_memory(file: IO[bytes]) -> Any:
    return NoFd(file.read())


def in_memory_by_thread(file: IO[bytes]) -> Any:
    return io.BufferedReader(NoFd(file.read()))  # type: ignore[arg-type]


def as_it_is(file: IO[bytes]) -> Any:
    return file


kinds = pytest.mark.parametrize("kind", [as_it_is, in_memory, in_memory_by_thread])

parts = pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, DATA),
        (0, 10, DATA[:10]),
        (5_000_000, None, DATA[5_000_000:]),
        (1_000, 3_000_001, DATA[1_000:3_001_001]),
        (0, 2 * len(DATA), DATA),
        (len(DATA), None, b""),
        (2 * len(DATA), 5, b""),
    ],
)


async def receive_all(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    got = bytearray()
    while part := await loop.sock_recv(sock, 1 << 18):
        got += part
    return bytes(got)


# ---------------------------------------------------------------- sockets --


@kinds
@parts
def test_a_file_over_a_socket(
    run: Run, pair: Pair, file: IO[bytes], kind: Any, offset: int, count: int | None, expected: bytes
) -> None:
    async def main() -> None:
        near, far = pair
        loop = asyncio.get_running_loop()
        sent = kind(file)
        receiving = loop.create_task(receive_all(far))
        assert await loop.sock_sendfile(near, sent, offset, count) == len(expected)
        near.close()
        assert await receiving == expected
        if expected or ON_PINLOOP:  # with nothing sent, some versions of asyncio leave the position alone
            assert sent.tell() == offset + len(expected)

    run(main())


def test_a_file_between_other_bytes(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        near, far = pair
        loop = asyncio.get_running_loop()
        receiving = loop.create_task(receive_all(far))
        await loop.sock_sendall(near, b"head")
        assert await loop.sock_sendfile(near, file) == len(DATA)
        await loop.sock_sendall(near, b"tail")
        near.close()
        assert await receiving == b"head" + DATA + b"tail"

    run(main())


def test_an_empty_file(run: Run, pair: Pair, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "empty").touch()
        with (tmp_path / "empty").open("rb") as empty:
            assert await asyncio.get_running_loop().sock_sendfile(pair[0], empty) == 0

    run(main())


def test_without_a_fallback(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.sock_sendfile(pair[0], file, count=10, fallback=False) == 10
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sock_sendfile(pair[0], io.BytesIO(b"x"), fallback=False)

    run(main())


@only_pinloop
def test_a_pipe_is_read_not_taken_for_empty(run: Run, pair: Pair) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            os.write(writing, b"through a pipe")
            os.close(writing)
            unseekable = Unseekable(pipe)
            assert await asyncio.get_running_loop().sock_sendfile(pair[0], unseekable) == 14
            assert pair[1].recv(100) == b"through a pipe"

    run(main())


class Unseekable:
    def __init__(self, file: Any) -> None:
        self.fileno, self.readinto = file.fileno, file.readinto


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"offset": -1}, ValueError, "offset must be a non-negative integer"),
        ({"offset": "1"}, TypeError, "offset must be a non-negative integer"),
        ({"count": 0}, ValueError, "count must be a positive integer"),
        ({"count": -1}, ValueError, "count must be a positive integer"),
        ({"count": "1"}, TypeError, "count must be a positive integer"),
    ],
)
def test_bad_arguments(
    run: Run, pair: Pair, file: IO[bytes], arguments: Any, error: type[Exception], match: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(error, match=match):
            await loop.sock_sendfile(pair[0], file, **arguments)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, pair[0])
        with pytest.raises(error, match=match):
            await loop.sendfile(transport, file, **arguments)
        transport.abort()

    run(main())


def test_a_text_file_and_a_datagram_socket(run: Run, path: Path, file: IO[bytes]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                await loop.sock_sendfile(sock, file)
            with path.open(encoding="latin1") as text, pytest.raises(ValueError, match="binary mode"):
                await loop.sock_sendfile(sock, text)

    run(main())


def test_a_blocking_socket_in_debug_mode(run: Run, file: IO[bytes]) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="the socket must be non-blocking"):
            await asyncio.get_running_loop().sock_sendfile(sock, file)

    run(main(), debug=True)


@kinds
def test_cancelled_the_file_stands_where_it_stopped(run: Run, pair: Pair, file: IO[bytes], kind: Any) -> None:
    async def main() -> None:
        near, far = pair
        loop = asyncio.get_running_loop()
        sent = kind(file)
        task = loop.create_task(loop.sock_sendfile(near, sent))
        first = await loop.sock_recv(far, 1000)
        await turns(20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        near.close()
        rest = await receive_all(far)
        assert first + rest == DATA[: len(first + rest)]
        if ON_PINLOOP:  # asyncio does not set it when it is cancelled
            assert sent.tell() == len(first + rest)

    run(main())


@kinds
def test_a_peer_that_closes_in_the_middle(run: Run, pair: Pair, file: IO[bytes], kind: Any) -> None:
    async def main() -> None:
        near, far = pair
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.sock_sendfile(near, kind(file)))
        await loop.sock_recv(far, 1000)
        await turns(20)
        far.close()
        with pytest.raises(ConnectionError):
            await task

    run(main())


# ------------------------------------------------------------- transports --


async def connected(far: socket.socket, near: socket.socket) -> tuple[Any, Recorder, asyncio.Task[bytes]]:
    """A transport of `near`, its protocol, and a task that takes all that comes at `far`."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(Recorder, near)
    return transport, protocol, loop.create_task(receive_all(far))


@kinds
@parts
def test_a_file_through_a_transport(
    run: Run, pair: Pair, file: IO[bytes], kind: Any, offset: int, count: int | None, expected: bytes
) -> None:
    async def main() -> None:
        transport, protocol, receiving = await connected(*pair)
        sent = kind(file)
        transport.write(b"head")
        assert await asyncio.get_running_loop().sendfile(transport, sent, offset, count) == len(expected)
        transport.write(b"tail")
        transport.close()
        assert await receiving == b"head" + expected + b"tail"
        if expected or ON_PINLOOP:  # with nothing sent, some versions of asyncio leave the position alone
            assert sent.tell() == offset + len(expected)
        assert await protocol.lost is None

    run(main())


@kinds
def test_after_a_full_write_buffer(run: Run, pair: Pair, file: IO[bytes], kind: Any) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        protocol = Flow()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, near)
        head = bytes(8_000_000)
        transport.write(head)
        assert protocol.told == ["pause"]
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await turns(2)
        receiving = loop.create_task(receive_all(far))
        assert await task == len(DATA)
        transport.write(b"tail")
        transport.close()
        assert await receiving == head + DATA + b"tail"
        assert protocol.told[:2] == ["pause", "resume"]
        assert protocol.told.count("pause") == protocol.told.count("resume")
        await protocol.lost

    run(main())


class Flow(asyncio.Protocol):
    def __init__(self) -> None:
        self.told: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@kinds
def test_what_comes_meanwhile_is_delivered_afterwards(
    run: Run, pair: Pair, file: IO[bytes], kind: Any
) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        far.send(b"before")
        await protocol.receive(6)
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await turns(3)
        far.send(b"meanwhile")
        await turns(10)
        assert protocol.data == b"before"
        assert not transport.is_reading()
        assert transport.get_protocol() is protocol or kind is not as_it_is
        receiving = loop.create_task(receive_all(far))
        await task
        assert transport.is_reading()
        assert transport.get_protocol() is protocol
        assert await protocol.receive(15) == b"beforemeanwhile"
        transport.close()
        assert await receiving == DATA

    run(main())


def test_reading_that_was_paused_stays_paused(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        transport, _, receiving = await connected(*pair)
        transport.pause_reading()
        for sent in (file, NoFd(b"x")):
            await asyncio.get_running_loop().sendfile(transport, sent)
            assert not transport.is_reading()
        transport.close()
        assert await receiving == DATA + b"x"

    run(main())


def test_writing_meanwhile_is_refused(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        task = loop.create_task(loop.sendfile(transport, file))
        await turns(2)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.writelines([b"x"])
        receiving = loop.create_task(receive_all(far))
        await task
        transport.write(b"x")
        transport.close()
        assert await receiving == DATA + b"x"

    run(main())


@only_pinloop
def test_an_eof_meanwhile_comes_after_the_file(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        task = loop.create_task(loop.sendfile(transport, file))
        await turns(2)
        transport.write_eof()
        assert await receive_all(far) == DATA
        assert await task == len(DATA)
        transport.close()

    run(main())


@only_pinloop
def test_one_file_at_a_time(run: Run, pair: Pair, path: Path) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        with path.open("rb") as first, path.open("rb") as second:
            task = loop.create_task(loop.sendfile(transport, first))
            await turns(2)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                await loop.sendfile(transport, second)
            receiving = loop.create_task(receive_all(far))
            await task
            await loop.sendfile(transport, second)
        transport.close()
        assert await receiving == DATA + DATA

    run(main())


End = Callable[[Any, socket.socket], object]


@kinds
@pytest.mark.parametrize(
    "end",
    [
        lambda transport, far: transport.abort(),
        lambda transport, far: far.close(),
    ],
    ids=["abort", "peer"],
)
def test_the_connection_ends_in_the_middle(
    run: Run, pair: Pair, file: IO[bytes], kind: Any, end: End, request: pytest.FixtureRequest
) -> None:
    if not ON_PINLOOP and kind is as_it_is and "abort" in request.node.name:
        pytest.skip("asyncio leaves sendfile waiting for a socket that is closed")

    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await loop.sock_recv(far, 1000)
        await turns(20)
        end(transport, far)
        with pytest.raises(ConnectionError):
            await task
        transport.abort()
        await protocol.lost

    run(main())


@only_pinloop
def test_closing_with_a_file_under_way(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        _, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        task = loop.create_task(loop.sendfile(transport, file))
        await turns(2)
        transport.close()
        with pytest.raises(ConnectionError, match="Connection closed during sendfile"):
            await task
        await protocol.lost

    run(main())


@kinds
def test_cancelled_the_transport_goes_on(run: Run, pair: Pair, file: IO[bytes], kind: Any) -> None:
    async def main() -> None:
        far, near = pair
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        task = loop.create_task(loop.sendfile(transport, kind(file)))
        await turns(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.get_protocol() is protocol
        transport.write(b"tail")
        transport.close()
        got = await receive_all(far)
        assert got == DATA[: len(got) - 4] + b"tail"
        await protocol.lost

    run(main())


def test_transports_that_take_no_file(run: Run, file: IO[bytes]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        datagrams, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
            await loop.sendfile(datagrams, file)
        datagrams.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(datagrams, file)

    run(main())


def test_what_needs_a_fallback_that_is_not_wanted(run: Run, pair: Pair) -> None:
    async def main() -> None:
        transport, _, receiving = await connected(*pair)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await asyncio.get_running_loop().sendfile(transport, NoFd(b"x"), fallback=False)
        transport.close()
        assert await receiving == b""

    run(main())


def test_other_tasks_run_meanwhile(run: Run, pair: Pair, file: IO[bytes]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _, receiving = await connected(*pair)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = loop.create_task(tick())
        await loop.sendfile(transport, file)
        assert ticks > 5
        ticking.cancel()
        transport.close()
        assert await receiving == DATA

    run(main())
