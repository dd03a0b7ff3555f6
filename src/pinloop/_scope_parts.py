"""What scopes are made of beside the scope: the queue of a limit, and what a child says when it is ready."""

from __future__ import annotations

import asyncio
import math
import operator
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator
from typing import Any

AnyTask = asyncio.Task[Any]
AnyCoroutine = Coroutine[Any, Any, Any]

# From 3.14 on a future knows who waits for it, for asyncio's call graphs.
link: Callable[[AnyTask, AnyTask | None], object] | None = getattr(asyncio, "future_add_to_awaited_by", None)
unlink: Callable[[AnyTask, AnyTask | None], object] | None = getattr(
    asyncio, "future_discard_from_awaited_by", None
)


class Turn:
    """Awaited, it lets the others run once."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


class TaskStatus:
    """What a child of `Scope.start` gets as `task_status`."""

    __slots__ = ("_on_started", "_ready")

    def __init__(self, ready: asyncio.Future[Any]) -> None:
        self._ready = ready
        self._on_started: Callable[[], object] | None = None

    def started(self, value: Any = None) -> None:
        """Say that the child is ready: `start` returns `value`, and from here its errors are the scope's.

        Raises RuntimeError when called again. Where the one who waited has been cancelled it does nothing:
        the child is being cancelled then.
        """
        if self._ready.cancelled():
            return
        if self._ready.done():
            raise RuntimeError("task_status.started() was called twice")
        self._ready.set_result(value)
        if self._on_started is not None:
            self._on_started()


class Queue:
    """Who may run in a scope with a limit, and who waits for it."""

    __slots__ = ("_coros", "_free", "_waiting")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[AnyTask, asyncio.Future[None]] = {}
        self._coros: dict[AnyTask, AnyCoroutine] = {}

    def take(self) -> bool:
        """A place, if one is free."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """A place is free: the first who waits has it."""
        for task, gate in self._waiting.items():
            if not gate.done():  # not one that was cancelled a moment ago
                del self._waiting[task]
                gate.set_result(None)
                return
        self._free += 1

    def enter(self, task: AnyTask, gate: asyncio.Future[None], coro: AnyCoroutine) -> None:
        """The task waits, and runs `coro` then."""
        self._waiting[task] = gate
        self._coros[task] = coro

    def leave(self, task: AnyTask) -> None:
        """The task has ended: in its place, or while it waited for one."""
        coro = self._coros.pop(task, None)
        if coro is not None:
            coro.close()  # where the task was cancelled first it has not begun, and never will
        if self._waiting.pop(task, None) is None:
            self.give_back()

    @staticmethod
    async def wait(gate: asyncio.Future[None], coro: AnyCoroutine) -> Any:
        """What runs in place of a coroutine that has to wait."""
        await gate
        return await coro


def is_pending(task: AnyTask) -> bool:
    """Whether a cancellation of the task, which runs, will be raised at its next await."""
    return bool(getattr(task, "_must_cancel", False))


async def take_pending() -> CancelledError | None:
    """Have the cancellation raised that the next await would raise.

    A request that is taken back does not always take that back: before 3.13 never, later only the last one.
    """
    try:
        await Turn()
    except CancelledError as error:
        return error
    return None


def checked_time(time: float | None, what: str) -> float | None:
    """A deadline or a delay, in seconds."""
    if time is None:
        return None
    try:
        seconds = math.fsum((time,))  # what is no number is told as such, strings too
    except TypeError:
        raise TypeError(f"{what} must be a number or None, not {type(time).__name__}") from None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{what} must be 0 or more, not {time!r}")
    return seconds


def checked_limit(limit: int | None) -> int | None:
    """How many children may run at once."""
    if limit is None:
        return None
    try:
        limit = operator.index(limit)
    except TypeError:
        raise TypeError(f"limit must be an integer or None, not {type(limit).__name__}") from None
    if limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit!r}")
    return limit
