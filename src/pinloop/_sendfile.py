"""Sending files: by sendfile(2) where the kernel can, else by reading and writing."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import stat
from typing import IO, TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from ._endpoints import Endpoints

_BLOCK = 256 * 1024  # bytes read at a time
_WRITE = 16 * 1024  # bytes written to a transport at a time: little is counted as sent that is not

# ----------------------------------------------------------------- checks --


def _check_file(file: Any, offset: object, count: object) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def _regular_fd(file: Any) -> int:
    """The fd of a file that sendfile(2) can read from; SendfileNotAvailableError if it is not one."""
    try:
        fd: int = file.fileno()
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is the last two
        regular = False
    if not regular:
        raise asyncio.SendfileNotAvailableError("not a regular file")
    return fd


def _native_error(exc: OSError, sent: int) -> Exception:
    """What a failed sendfile(2) is to be told as; a fallback may follow only if nothing was sent."""
    if sent == 0:
        return asyncio.SendfileNotAvailableError("os.sendfile call failed")
    if exc.errno == errno.ENOTCONN:
        return ConnectionError(errno.ENOTCONN, "socket is not connected")
    return exc


async def _read(loop: Endpoints, file: Any, view: memoryview) -> int:
    """Read into `view`, in a thread if a disk may be behind it; 0 at the end."""
    if isinstance(file, io.BytesIO):
        return int(file.readinto(view))
    read: int | None = await loop.run_in_executor(None, file.readinto, view)
    return read or 0


class _Blocks:
    """The parts of a file, one after the other; keeps the file's position at what was sent."""

    def __init__(self, loop: Endpoints, file: Any, offset: int, count: int | None) -> None:
        self.sent = 0
        self._loop, self._file, self._offset, self._count = loop, file, offset, count
        self._buffer = memoryview(bytearray(min(count or _BLOCK, _BLOCK)))
        if hasattr(file, "seek"):
            file.seek(offset)

    async def next(self) -> memoryview:
        """The next part; empty at the end.  Good until the next call."""
        room = len(self._buffer)
        if self._count is not None:
            room = min(room, self._count - self.sent)
        if room == 0:
            return self._buffer[:0]
        return self._buffer[: await _read(self._loop, self._file, self._buffer[:room])]

    def finish(self) -> None:
        if hasattr(self._file, "seek"):
            self._file.seek(self._offset + self.sent)


# ---------------------------------------------------------------- sockets --


async def sock_sendfile(
    loop: Endpoints, sock: socket.socket, file: IO[bytes], offset: int, count: int | None, fallback: bool
) -> int:
    """See Loop.sock_sendfile."""
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    _core.refuse_tls_socket(sock)
    _check_file(file, offset, count)
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    try:
        return await loop._sock_sendfile_native(sock, file, offset, count)
    except asyncio.SendfileNotAvailableError:
        if not fallback:
            raise
    return await _sock_fallback(loop, sock, file, offset, count)


async def sock_native(
    loop: Endpoints, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
) -> int:
    """By sendfile(2), or SendfileNotAvailableError with nothing sent."""
    fd = _regular_fd(file)
    call = loop._sock_sendfile(sock, fd, offset, count)
    try:
        sent: int = await call
        return sent
    except OSError as exc:
        failure = _native_error(exc, call.bytes_sent)
        raise failure from (None if failure is exc else exc)
    finally:
        os.lseek(fd, offset + call.bytes_sent, os.SEEK_SET)


async def _sock_fallback(
    loop: Endpoints, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
) -> int:
    blocks = _Blocks(loop, file, offset, count)
    try:
        while block := await blocks.next():
            call: Any = _core.Loop.sock_sendall(loop, sock, block)
            try:
                await call
            finally:
                blocks.sent += call.bytes_sent
        return blocks.sent
    finally:
        blocks.finish()


# ------------------------------------------------------------- transports --


async def sendfile(
    loop: Endpoints, transport: Any, file: IO[bytes], offset: int, count: int | None, fallback: bool
) -> int:
    """See Loop.sendfile."""
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    native = isinstance(transport, _core.StreamTransport)
    if not native and not _takes_fallback(transport):
        raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
    _check_file(file, offset, count)
    if native:
        try:
            return await loop._sendfile_native(transport, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
    if not fallback:
        raise RuntimeError(
            f"fallback is disabled and native sendfile is not supported for transport {transport!r}"
        )
    return await _transport_fallback(loop, transport, file, offset, count)


def _takes_fallback(transport: Any) -> bool:
    """Whether bytes written to the transport reach the peer as a stream.

    asyncio's transports, and those modelled on them, say so in an attribute of this name, by the
    enum's value; others are asked for their kind.
    """
    mode = getattr(transport, "_sendfile_compatible", None)
    if mode is None:
        # Datagram transports are, and are no streams.
        return isinstance(transport, asyncio.Transport) and not isinstance(
            transport, asyncio.DatagramTransport
        )
    return bool(mode is not asyncio.constants._SendfileMode.UNSUPPORTED)  # type: ignore[attr-defined]


async def transport_native(
    loop: Endpoints, transport: Any, file: IO[bytes], offset: int, count: int | None
) -> int:
    """By sendfile(2) after what was written before, or SendfileNotAvailableError with nothing sent."""
    fd = _regular_fd(file)
    sending = _core.send_file(transport, fd, offset, count)
    resume = transport.is_reading()
    transport.pause_reading()
    try:
        return await sending.done
    except OSError as exc:
        failure = _native_error(exc, sending.bytes_sent) if not transport.is_closing() else exc
        raise failure from (None if failure is exc else exc)
    finally:
        sending.cancel()
        os.lseek(fd, offset + sending.bytes_sent, os.SEEK_SET)
        if resume:
            transport.resume_reading()


async def _transport_fallback(
    loop: Endpoints, transport: Any, file: IO[bytes], offset: int, count: int | None
) -> int:
    blocks = _Blocks(loop, file, offset, count)
    stand_in = _StandIn(loop, transport)
    try:
        await stand_in.drain()
        while block := await blocks.next():
            for start in range(0, len(block), _WRITE):
                piece = block[start : start + _WRITE]
                stand_in.check()
                transport.write(piece)
                blocks.sent += len(piece)
                await stand_in.drain()
        return blocks.sent
    finally:
        blocks.finish()
        stand_in.leave()


class _StandIn(asyncio.Protocol):
    """Takes a protocol's place while a file is written: it hears of the write buffer and of the end."""

    def __init__(self, loop: Endpoints, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resume_reading = transport.is_reading()
        self._was_paused = self._paused = _writing_is_paused(transport)
        self._failure: Exception | None = None
        self._changed: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)

    def check(self) -> None:
        """Raise if the connection is gone or on its way out."""
        if self._failure is not None:
            raise self._failure
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        self.check()
        while self._paused and self._failure is None:
            self._changed = self._loop.create_future()
            try:
                await self._changed
            finally:
                self._changed = None
        if self._failure is not None:
            raise self._failure

    def leave(self) -> None:
        """Give the protocol its place back, and tell it what has changed meanwhile."""
        if self._failure is not None:
            return
        self._transport.set_protocol(self._protocol)
        if self._resume_reading:
            self._transport.resume_reading()
        if self._paused and not self._was_paused:
            self._protocol.pause_writing()
        elif self._was_paused and not self._paused:
            self._protocol.resume_writing()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._failure = exc or ConnectionError("Connection is closed by peer")
        self._wake()
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)  # from a transport that could not stop at once

    def eof_received(self) -> bool | None:
        keep_open: bool | None = self._protocol.eof_received()
        return keep_open


def _writing_is_paused(transport: Any) -> bool:
    """Whether the transport's protocol was told pause_writing, and not yet resume_writing."""
    told = getattr(transport, "_protocol_paused", None)
    if told is None:
        _, high = transport.get_write_buffer_limits()
        told = transport.get_write_buffer_size() > high
    return bool(told)
