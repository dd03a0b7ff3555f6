"""Unix signals as callbacks of the loop.

CPython's C-level handler writes each signal's number to the wake-up fd, here a pipe that
the loop watches: that is what ends a poll without a race, and what tells which came.
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
        self._installed = False  # our pipe is the process's wake-up fd
        self._previous = _NO_FD  # the one that was there before

    def enter(self) -> None:
        """The loop begins to run: make sure that any signal ends its poll."""
        if threading.current_thread() is threading.main_thread() and not self._installed:
            self._install()

    def leave(self) -> None:
        """The loop stops running.  With handlers set, signals go on being collected for the next run."""
        if self._installed and not self._handlers:
            self._uninstall()

    def add(self, sig: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """See Loop.add_signal_handler."""
        _check_signal(sig)
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signal handlers can only be set in the main thread")
        if not self._installed:
            self._install()
        entry = (callback, args, contextvars.copy_context())
        try:
            # The Python-level handler has nothing to do: the number in the pipe is the message.
            signal.signal(sig, _ignore)
            signal.siginterrupt(sig, False)
        except OSError as exc:
            if sig not in self._handlers:
                self._uninstall_if_idle()
            raise RuntimeError(f"sig {sig} cannot be caught") from exc
        self._handlers[sig] = entry

    def remove(self, sig: int) -> bool:
        """See Loop.remove_signal_handler."""
        _check_signal(sig)
        if self._handlers.pop(sig, None) is None:
            return False
        signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        self._uninstall_if_idle()
        return True

    def close(self) -> None:
        """Give every signal its default handling back and close the pipe."""
        if threading.current_thread() is threading.main_thread():
            for sig in list(self._handlers):
                self.remove(sig)
            if self._installed:
                self._uninstall()
        self._handlers.clear()
        if self._pipe is not None:
            self._loop.remove_reader(self._pipe[0])
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def _uninstall_if_idle(self) -> None:
        if self._installed and not self._handlers and not self._loop.is_running():
            self._uninstall()

    def _install(self) -> None:
        if self._pipe is None:
            self._pipe = os.pipe()
            for fd in self._pipe:
                os.set_blocking(fd, False)
            self._loop.add_reader(self._pipe[0], self._arrived)
        try:
            # A full pipe holds enough wakes already.
            self._previous = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        except ValueError as exc:  # a sub-interpreter
            raise RuntimeError(str(exc)) from exc
        self._installed = True

    def _uninstall(self) -> None:
        assert self._pipe is not None
        ours = self._pipe[1]
        current = signal.set_wakeup_fd(self._previous)
        if current != ours:  # somebody replaced ours meanwhile: theirs stays
            signal.set_wakeup_fd(current)
        self._installed = False
        self._previous = _NO_FD

    def _arrived(self) -> None:
        assert self._pipe is not None
        try:
            numbers = os.read(self._pipe[0], 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in self._handlers:
                callback, args, context = self._handlers[number]
                self._loop.call_soon(callback, *args, context=context)


def _check_signal(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _ignore(sig: int, frame: object) -> None:
    """A handler must be set, or the default action would be taken."""


def check_not_coroutine(callback: object, method: str) -> None:
    """Raise TypeError for a coroutine or a coroutine function."""
    if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
