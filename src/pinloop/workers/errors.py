"""The exceptions of workers."""

from __future__ import annotations

import pickle

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
