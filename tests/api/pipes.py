"""What the tests of pipes share: recording protocols, and pipes to connect them to."""

import asyncio
import io
import os
from typing import Any

from tests.api.support import Recorder


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
