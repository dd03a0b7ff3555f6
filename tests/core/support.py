"""What the tests of the native floors share."""

import asyncio
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pinloop
from pinloop import _core

Connect = Callable[..., tuple[Any, socket.socket]]  # the fixture of this name

READ, WRITE, EDGE, OTHER = 1, 2, 4, 8  # a Poller's masks
MS = 1_000_000  # ns
SECOND = 1_000_000_000  # ns


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """One turn: what is ready runs, the kernel is asked once without waiting, its events are dispatched."""
    loop.stop()
    loop.run_forever()


def run_until(loop: asyncio.AbstractEventLoop, condition: Callable[[], object], limit: float = 10.0) -> None:
    """Make turns until `condition` holds; fail after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s"
        turn(loop)


def scripted(script: Iterable[Any] = ()) -> tuple[pinloop.Loop, _core.ScriptedPoller]:
    """A loop on a ScriptedPoller; its errors are raised where they are reported."""
    poller = _core.ScriptedPoller(script)
    loop = pinloop.Loop(poller)
    loop.set_exception_handler(raise_reported)
    return loop, poller


def raise_reported(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler for loops where none is expected."""
    raise SystemExit(f"reported: {context}")


def waits(poller: _core.ScriptedPoller) -> list[int]:
    """The timeouts, in ns, of the waits that a scripted poller was asked for."""
    return [call[1] for call in poller.calls if call[0] == "wait"]


class Recorder(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self, keep_open: bool = False) -> None:
        self.keep_open = keep_open  # after the peer's EOF
        self.told: list[str] = []  # the methods called, but for data_received
        self.got = b""
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.got += data

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.append(exc)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, keep_open: bool = False, size: int = 1000) -> None:
        super().__init__(keep_open)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> Any:
        assert sizehint == -1
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.got += self.buffer[:nbytes]

    def data_received(self, data: bytes) -> None:
        raise AssertionError("told by the wrong method")


def pipe_files() -> tuple[io.FileIO, io.FileIO]:
    """The reading and the writing end of a new pipe."""
    r, w = os.pipe()
    return io.FileIO(r, "rb"), io.FileIO(w, "wb")


class Pipe:
    """A pipe (or a pair of `files`) with a transport at each end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, files: tuple[Any, Any] | None = None) -> None:
        self.loop = loop
        r, w = files or pipe_files()
        self.files = (r, w)
        self.reader, self.writer = Recorder(), Recorder()
        self.rt: Any = loop.run_until_complete(loop.connect_read_pipe(lambda: self.reader, r))[0]
        self.wt: Any = loop.run_until_complete(loop.connect_write_pipe(lambda: self.writer, w))[0]

    def has_read(self, size: int) -> bool:
        return len(self.reader.got) >= size

    def end(self) -> None:
        self.rt.close()
        self.wt.abort()
        if not self.loop.is_closed():
            run_until(self.loop, lambda: self.reader.lost and self.writer.lost)


def socket_pair(buffer_size: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected non-blocking stream sockets, with small kernel buffers if a size is given."""
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
        if buffer_size is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_size)
    return pair


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback; the first one non-blocking, the second one blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname(), timeout=10)
        far, _ = listening.accept()
    near.setblocking(False)
    far.settimeout(10)
    return near, far


def read_available(sock: socket.socket) -> bytes:
    """Everything that waits on a non-blocking socket."""
    parts = []
    try:
        while part := sock.recv(1 << 20):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def run_python(code: str, *args: str, timeout: float = 30.0, memory: int | None = None) -> str:
    """What `code` prints in a fresh interpreter, which must exit with 0 (within `memory` bytes, if given)."""
    if memory is not None:
        code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))\n{code}"
    env = dict(os.environ)
    env["PYTHONPATH"] = os.path.dirname(os.path.dirname(pinloop.__file__))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        env=env, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
