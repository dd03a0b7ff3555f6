"""A server that sends a file by `loop.sendfile`, as often as it is asked."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from typing import IO

from .sockets import BACKLOG

FIRST, LAST = b"pinloop>", b"<pinloop"
"""The first and the last bytes of each file: `native/fetch.c` looks for them."""
ASK = 8
"""An order is the size of the file wanted, in bytes, as a big-endian number of this length."""
PATIENCE = 3.0


def sparse_file(size: int) -> IO[bytes]:
    """A temporary file of *size* bytes, all hole but for its two ends: no disk is needed, or waited for.

    It has no name: the parent ends this process by a signal, and nobody would be left to delete it.
    """
    made = tempfile.TemporaryFile()  # noqa: SIM115 - the server keeps it
    made.write(FIRST)
    made.seek(size - len(LAST))
    made.write(LAST)
    made.flush()
    return made


class FileProtocol(asyncio.Protocol):
    """Sends a file for each order."""

    def __init__(self, files: dict[int, IO[bytes]], first: asyncio.Future[None]) -> None:
        self._files = files
        self._first = first
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Begin to send: a client waits for one file before it asks for the next."""
        self._asked += data
        if len(self._asked) >= ASK:
            size, self._asked = int.from_bytes(self._asked[:ASK], "big"), self._asked[ASK:]
            self._sending = asyncio.get_running_loop().create_task(self._send(size))

    async def _send(self, size: int) -> None:
        try:
            if size not in self._files:
                self._files[size] = sparse_file(size)
            file = self._files[size]
            file.seek(0)  # as a server finds it that has just opened it
            await asyncio.get_running_loop().sendfile(self._transport, file)
        except BaseException as error:
            self._transport.abort()
            if self._first.done():
                raise
            self._first.set_exception(error)
        else:
            if not self._first.done():
                self._first.set_result(None)


def _arrived(client: socket.socket) -> bool:
    """Whether the smallest file has arrived; raises `RuntimeError` if something else has."""
    try:
        got = client.recv(len(FIRST + LAST), socket.MSG_PEEK)
    except BlockingIOError:
        return False
    if not (FIRST + LAST).startswith(got) or not got:
        raise RuntimeError("sendfile() did not send the file")
    return got == FIRST + LAST


async def send(listener: socket.socket) -> object:
    """Serve files; raises `NotImplementedError` at once if the loop has no `sendfile`."""
    loop = asyncio.get_running_loop()
    files: dict[int, IO[bytes]] = {}
    first: asyncio.Future[None] = loop.create_future()
    address = listener.getsockname()
    server = await loop.create_server(lambda: FileProtocol(files, first), sock=listener, backlog=BACKLOG)
    # The system accepts the connection and keeps the bytes, so the client may be in this very thread.
    with socket.create_connection(address) as client:
        client.setblocking(False)
        client.send(len(FIRST + LAST).to_bytes(ASK, "big"))
        try:
            async with asyncio.timeout(PATIENCE):
                await first
                # A loop that sends by way of the transport's buffer need not have done so yet.
                while await asyncio.sleep(0.001, not _arrived(client)):
                    pass
        except TimeoutError:
            raise RuntimeError(f"sendfile() sent nothing for {PATIENCE:.0f} seconds") from None
    return server
