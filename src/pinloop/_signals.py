"""Unix signals as callbacks of the loop.

While a loop runs in the main thread, CPython's wake-up fd is a pipe that the loop watches:
whenever a signal arrives, also just before the poll begins, the poll ends. Then the Python
handler runs, in the main thread, and schedules the callback. Signals of one kind that are
pending together are told once, as POSIX has it.

Whoever puts another Python handler in place of the loop's does not take its callbacks away, as
with asyncio: the pipe holds the number of each signal, and a number that comes without a call
of the loop's handler is told from there.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._loop import Loop

_NO_FD = -1

if sys.version_info < (3, 12):
    # A child must not write its signals into the pipe that it shares with its parent.
    # From 3.12 on asyncio itself sees to it.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(_NO_FD))


class Signals:
    """The signal handlers of one loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._handlers: dict[int, tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]] = {}
        self._pipe: tuple[int, int] | None = None
        self._previous: int | None = None  # the wake-up fd before ours, while ours is set
        self._told: set[int] = set()  # scheduled by the handler; their numbers are in the pipe still

    def enter(self) -> None:
        """The loop begins to run: make sure that any signal ends its poll."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._pipe is None:
            self._pipe = os.pipe()
            for fd in self._pipe:
                os.set_blocking(fd, False)
            self._loop.add_reader(self._pipe[0], self._drain)
        try:
            # A full pipe holds wakes enough.
            self._previous = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        except ValueError:
            self._previous = None  # a sub-interpreter, which gets no signals

    def leave(self) -> None:
        """The loop stops running: put the wake-up fd back."""
        if self._previous is None or self._pipe is None:
            return
        current = signal.set_wakeup_fd(self._previous)
        if current != self._pipe[1]:  # somebody replaced ours meanwhile: theirs stays
            signal.set_wakeup_fd(current)
        self._drain()
        self._previous = None
        self._told.clear()

    def add(self, sig: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """See Loop.add_signal_handler."""
        _check_signal(sig)
        before = self._handlers.get(sig)
        self._handlers[sig] = (callback, args, contextvars.copy_context())
        try:
            signal.signal(sig, self._arrived)
            signal.siginterrupt(sig, False)
        except (OSError, ValueError) as exc:
            if before is None:
                del self._handlers[sig]
            else:
                self._handlers[sig] = before
            if isinstance(exc, OSError):
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise RuntimeError(str(exc)) from exc  # not the main thread

    def remove(self, sig: int) -> bool:
        """See Loop.remove_signal_handler."""
        _check_signal(sig)
        if sig not in self._handlers:
            return False
        try:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        except ValueError as exc:
            raise RuntimeError(str(exc)) from exc
        del self._handlers[sig]
        return True

    def close(self) -> None:
        """Give every signal its default handling back and close the pipe."""
        if threading.current_thread() is threading.main_thread():
            for sig in list(self._handlers):
                self.remove(sig)
        self._handlers.clear()
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._loop.remove_reader(pipe[0])
            for fd in pipe:
                os.close(fd)
        del self._loop  # nothing here needs it now, and the two would keep each other alive

    def _arrived(self, sig: int, frame: FrameType | None) -> None:
        if self._previous is not None:
            self._told.add(sig)
        self._tell(sig)

    def _tell(self, sig: int) -> None:
        if sig in self._handlers and not self._loop.is_closed():
            callback, args, context = self._handlers[sig]
            self._loop.call_soon_threadsafe(callback, *args, context=context)

    def _drain(self) -> None:
        assert self._pipe is not None
        try:
            numbers = set(os.read(self._pipe[0], 4096))
        except BlockingIOError:
            return
        # The handler of each of them has run by now: handlers come before the next line of Python.
        for sig in numbers:
            if sig in self._told:
                self._told.discard(sig)
            else:
                self._tell(sig)


def _check_signal(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def check_not_coroutine(callback: object, method: str) -> None:
    """Raise TypeError for a coroutine or a coroutine function."""
    if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
