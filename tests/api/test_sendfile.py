"""loop.sock_sendfile."""

import asyncio
import io
import os
import socket
from pathlib import Path
from typing import IO, Any

import pytest

from tests.api.sendfile import DATA, Pair, kinds, part, parts, receive_all
from tests.api.support import ON_PINLOOP, only_pinloop, turns
from tests.conftest import Run


@kinds
@parts
def test_a_file_over_a_socket(
    run: Run, pair: Pair, file: IO[bytes], kind: Any, offset: int, count: int | None
) -> None:
    expected = part(offset, count)

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
