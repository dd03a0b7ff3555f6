"""The exceptions of workers."""

from __future__ import annotations

import pickle
import traceback
import warnings
from typing import Any

__all__ = ["RemoteTraceback", "Unpicklable", "WorkerCrashed", "WorkerError", "WorkersClosed", "WorkersFailed"]


class WorkerError(Exception):
    """What all errors of workers are, as opposed to errors that a call raised."""


class WorkerCrashed(WorkerError):
    """The worker ended while the call was under way. Whether the call had an effect is not known."""

    def __init__(self, worker: int, exit: str, call: str | None = None) -> None:
        super().__init__(worker, exit, call)
        self.worker = worker
        """Which worker it was, by its index in the pool."""
        self.exit = exit
        """How it ended, in words: "was killed by SIGKILL", "exited with code 3"."""
        self.call = call
        """The name of the function that was called; None for what is no call."""

    def __str__(self) -> str:
        during = f" while {self.call} was under way" if self.call else ""
        return f"worker {self.worker} {self.exit}{during}"


class WorkersFailed(WorkerError):
    """The pool has given up: a worker could not be started, or crashed more often than the limit allows."""


class WorkersClosed(WorkerError, RuntimeError):
    """The pool is not open: not entered yet, being left, or left."""


class Unpicklable(WorkerError, pickle.PicklingError):
    """Something could not be pickled, or not unpickled on the other side; the message tells what."""


class RemoteTraceback(Exception):
    """The cause of an error that came from a worker: the traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


# What is pickled runs code of the program's, which may raise anything; the call has to end all the same.


def raise_if_it_ends_all(error: BaseException) -> None:
    """Let an exception through that is not for who makes the call, but for the loop."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        raise error


def can_be_raised(error: Any) -> bool:
    """Whether it is an exception that a future takes."""
    return isinstance(error, BaseException) and not isinstance(error, StopIteration)


def text_of(value: object) -> str:
    """What `str` says of an exception, even where that fails."""
    try:
        return str(value)
    except Exception as failure:
        return f"<its text cannot be had: {type(failure).__qualname__}>"


def traceback_of(error: BaseException) -> str:
    """Its traceback as text, with no line of it if that cannot be had."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # warnings that are errors are among what it may raise
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "".join(traceback.format_exception(error))
    except Exception:
        return f"{type(error).__qualname__}: {text_of(error)}\n"
