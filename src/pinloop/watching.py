"""Looking at the loops of another process: what `python -m pinloop top` is made of.

A process is watched if it asks for that: by `pinloop.publish_metrics()`, or by `PINLOOP_WATCH=1` in its
environment. Then a thread of it answers at a Unix socket in a folder that only its user can enter. Until
somebody asks, the thread sleeps; the loops are neither woken nor stopped when somebody does.

What goes over the socket is JSON, either way. Whoever reads it believes none of it: an answer is bounded in
size and time, and what is not of the expected form is an error.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _watch_files
from ._registry import live_loops
from .dumps import format_tasks
from .metrics import Metrics

VARIABLE = "PINLOOP_WATCH"

_LONGEST_REQUEST = 4096  # bytes
_LONGEST_ANSWER = 32 << 20  # bytes
_MOST_LOOPS = 1000
_MOST_TASKS = 1000
_PATIENCE = 2.0  # seconds, with one who asks


# -------------------------------------------------------------- in the watched process --


class _Publication:
    """The socket of this process, and the thread that answers there."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.listener, self.path = _watch_files.listen()
        self.wake, self._waker = socket.socketpair()
        self.thread = threading.Thread(target=self._serve, name="pinloop-watch", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Remove the socket and end the thread."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._waker.close()
        if self.thread is not threading.current_thread():
            self.thread.join(_PATIENCE)

    def forget(self) -> None:
        """In a forked child, which has no such thread: give the descriptors up; the file is the parent's."""
        for sock in (self.listener, self.wake, self._waker):
            sock.close()

    def _serve(self) -> None:
        with self.listener, self.wake:
            poll = select.poll()
            poll.register(self.listener, select.POLLIN)
            poll.register(self.wake, select.POLLIN)
            self.listener.setblocking(False)
            while True:
                ready = [fd for fd, _ in poll.poll()]
                if self.wake.fileno() in ready:
                    return
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    time.sleep(0.05)  # out of descriptors, mostly
                    continue
                # Who asks badly or leaves early is told nothing, and costs nobody else anything.
                with connection, contextlib.suppress(OSError, ValueError, RecursionError):
                    _answer(connection)


def _answer(connection: socket.socket) -> None:
    connection.settimeout(_PATIENCE)
    if _watch_files.peer_uid(connection) not in (None, 0, os.geteuid()):
        return
    request = json.loads(_read(connection, _LONGEST_REQUEST, _PATIENCE, until=b"\n"))
    try:
        if request == {"want": "metrics"}:
            answer = _describe()
        elif request == {"want": "tasks"}:
            answer = {"text": format_tasks(most=_MOST_TASKS)}
        else:
            answer = {"error": "it knows no such question"}
    except Exception as error:  # the thread has to live on
        answer = {"error": f"{type(error).__name__}: {error}"}
    connection.sendall(json.dumps(answer).encode())


def _describe() -> dict[str, Any]:
    names = {each.ident: each for each in threading.enumerate()}
    loops = []
    for loop in live_loops()[:_MOST_LOOPS]:
        if loop.is_closed():
            continue
        thread = names.get(loop._thread_id)
        loops.append(
            {
                "number": loop._number,
                "thread": thread.name if thread is not None else None,
                "thread_id": thread.native_id if thread is not None else None,
                "metrics": loop.metrics().as_dict(),
            }
        )
    # `sys.argv` is a program's to change, and may hold anything.
    program = [str(each)[:200] for each in getattr(sys, "orig_argv", [])[:20]]
    return {"pid": os.getpid(), "program": program, "time": time.monotonic(), "loops": loops}


_publication: _Publication | None = None
_lock = threading.Lock()


def publish_metrics() -> Path:
    """Let the user of this process look at its loops from other processes; where its socket is.

    With `python -m pinloop top`, that is, and `read_process`. A thread answers who asks; it ends, and
    the socket goes, with the process or by `pinloop.watching.stop_publishing`. Called again it does nothing.
    A child that is forked is not watched until it calls this, or makes a loop with `PINLOOP_WATCH=1` in its
    environment.

    The socket is in `$PINLOOP_WATCH_DIR`, or else in `$XDG_RUNTIME_DIR/pinloop`, or in `pinloop-UID` in the
    folder for temporary files. Raises PermissionError if that folder can be entered by others, OSError if
    the socket cannot be made.
    """
    global _publication  # noqa: PLW0603 - there is one per process
    with _lock:
        if _publication is None:
            _publication = _Publication()
        return _publication.path


def stop_publishing() -> None:
    """Be watched no more. Does nothing if the process was not."""
    global _publication
    with _lock:
        publication, _publication = _publication, None
    if publication is not None:
        publication.close()


def publish_if_asked() -> None:
    """`publish_metrics` where `PINLOOP_WATCH` says so; a loop is being made. A failure is a warning."""
    if _publication is None and os.environ.get(VARIABLE, "0") not in ("", "0"):
        try:
            publish_metrics()
        except OSError as error:
            warnings.warn(f"{VARIABLE} is set, but {error}", RuntimeWarning, stacklevel=4)


def _forked() -> None:
    global _publication, _lock  # noqa: PLW0603
    publication, _publication = _publication, None
    _lock = threading.Lock()  # another thread of the parent may have held it
    if publication is not None:
        publication.forget()


os.register_at_fork(after_in_child=_forked)
atexit.register(stop_publishing)


# ------------------------------------------------------------------- in any other process --


@dataclass(frozen=True, slots=True)
class WatchedLoop:
    """One loop of another process."""

    number: int
    """Of the loops that the process has made, from 0 on."""
    thread: str | None
    """The name of the thread that runs it; None if none does."""
    thread_id: int | None
    """The number by which the system knows that thread."""
    metrics: Metrics
    """What it has done so far."""


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """Another process, as it was at one moment."""

    pid: int
    program: tuple[str, ...]
    """Its command line, cut short."""
    time: float
    """When that was, in seconds of the system's monotonic clock: what rates are computed by."""
    loops: tuple[WatchedLoop, ...]
    """Its loops that are open, in the order in which they were made."""


def watched_processes() -> list[int]:
    """The numbers of the processes of this user that are watched.

    What killed ones have left is removed. Raises PermissionError if the folder can be entered by others.
    """
    return _watch_files.watched()


def read_process(pid: int, *, timeout: float = 5.0) -> WatchedProcess:
    """Ask a watched process for its loops, for up to *timeout* seconds.

    Raises ProcessLookupError if it is not watched or has ended, TimeoutError if it does not answer (it is
    stopped, or runs C code that keeps the GIL), ValueError if what answers makes no sense, PermissionError if
    it may be another user's.
    """
    answer = _ask(pid, {"want": "metrics"}, timeout)
    try:
        loops = [
            WatchedLoop(
                _typed(each["number"], int),
                _text(each["thread"]),
                None if each["thread_id"] is None else _typed(each["thread_id"], int),
                Metrics.from_dict(_typed(each["metrics"], dict)),
            )
            for each in _typed(answer["loops"], list)
        ]
        program = tuple(_text(each) or "" for each in _typed(answer["program"], list))
        return WatchedProcess(pid, program, float(_typed(answer["time"], (int, float))), tuple(loops))
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"what process {pid} answers makes no sense: {error!r}") from error


def read_tasks(pid: int, *, timeout: float = 10.0) -> str:
    """Ask a watched process what `dump_tasks` would write. Arguments and errors are `read_process`'s."""
    text = _text(_ask(pid, {"want": "tasks"}, timeout).get("text"))
    if text is None:
        raise ValueError(f"what process {pid} answers makes no sense")
    return text


def _ask(pid: int, request: dict[str, str], timeout: float) -> dict[str, Any]:
    with _watch_files.connect(pid, timeout) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = _read(connection, _LONGEST_ANSWER, timeout)
    if not answer:
        raise ProcessLookupError(f"process {pid} has ended")
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"what process {pid} answers is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"what process {pid} answers is no object")
    if "error" in found:
        raise ValueError(f"process {pid} cannot tell: {_text(str(found['error']))}")
    return found


def _read(connection: socket.socket, limit: int, timeout: float, *, until: bytes = b"") -> bytes:
    """All up to the end, or up to a line's; ValueError if it is more than *limit* bytes, TimeoutError."""
    end = time.monotonic() + timeout
    found = bytearray()
    while not until or until not in found:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        part = connection.recv(65536)
        if not part:
            break
        found += part
        if len(found) > limit:
            raise ValueError(f"more than {limit} bytes")
    return bytes(found)


def _typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r:.50}")
    return value


def _text(value: Any) -> str | None:
    """Text without what a terminal would obey."""
    if value is None:
        return None
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in _typed(value, str)
    )
