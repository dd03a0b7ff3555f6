"""The tree of scopes: who is in which, how a cancellation finds its way through it, deadlines and shields.

The host of a scope is the task that entered it; its children are the tasks spawned into it. A task hosts
a stack of scopes. A scope knows, for its host and for each child, the next scope that this task hosts:
so a cancellation finds its way down to the await, and finds the shields in between.

A cancellation is an edge, as everything in asyncio: each scope that is cancelled asks its host and its
children once. Beside it `_cancelled` stays set, for `checkpoint`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from asyncio import CancelledError, _get_running_loop
from typing import Any, NoReturn

from ._core import count_cancelled_scope, current_node, scope_variable
from ._scope_parts import AnyCoroutine, AnyTask, Queue, TaskStatus, checked_limit, checked_time

# What is entered is open or being left; these two compare as more than the others.
NEW, CLOSED, OPEN, LEAVING = range(4)
STATES = ("not entered", "closed", "open", "being left")

current: contextvars.ContextVar[Any] = scope_variable
"""The innermost node of the tree. Each task made in it inherits it, whether it belongs to it or not."""


def current_scope() -> ScopeTree | None:
    """The innermost scope that the running task is in, as its host or as a child; None if there is none.

    What `join` and its like run is in the scope of who called them. Tasks that others made in a scope, such
    as those of `asyncio.create_task`, are not in it.
    """
    if current.get() is None:
        return None
    scope: ScopeTree | None = current_node(asyncio.current_task())
    while scope is not None and not scope._is_block:
        scope = scope._parent
    return scope


def checkpoint() -> None:
    """Raise CancelledError if the running task is in a cancelled scope, and no shield is in between.

    Called by what is about to wait, it keeps a cancelled scope cancelled for all who wait in it, even after
    the one CancelledError that asyncio raises has been caught.
    """
    scope = None if current.get() is None else current_node(asyncio.current_task())
    while scope is not None:
        if scope._cancelled:
            raise CancelledError() if scope._reason is None else CancelledError(scope._reason)
        if scope._shield:
            return
        scope = scope._parent


class ScopeTree:
    """A scope as what can be cancelled: all but its children and how it is entered and left.

    The other nodes of the tree are the native `Group`s of `join` and its like.
    """

    _is_block = True  # the program can get hold of it

    __slots__ = (
        "__weakref__",
        "_aborted",  # the children have been told
        "_base",  # how many cancellation requests the host had when it entered
        "_cancelled",
        "_caught",
        "_children",
        "_counted",  # the loop knows of an open scope that is cancelled
        "_cut",  # a child ended by the cancellation
        "_deadline",
        "_delay",
        "_errors",
        "_expired",
        "_fails",  # raises TimeoutError after its deadline
        "_had_children",
        "_held",  # what waits for the end of the shield
        "_host",
        "_inner",
        "_interrupt",  # the first KeyboardInterrupt or SystemExit
        "_limit",
        "_loop",
        "_outer",  # what `_current` was
        "_parent",
        "_queue",
        "_reason",
        "_shield",
        "_starters",  # the children that are not ready yet, of `start`
        "_starting",
        "_state",
        "_timer",
        "_told",  # the host has been asked, and it is on us to take it back
        "_waiter",
    )

    def __init__(
        self, deadline: float | None, shield: bool, limit: int | None, delay: float | None, fails: bool
    ) -> None:
        self._deadline = checked_time(deadline, "deadline")
        self._delay = checked_time(delay, "delay")
        self._limit = checked_limit(limit)
        self._queue = None if self._limit is None else Queue(self._limit)
        self._shield = bool(shield)
        self._fails = fails
        self._state = NEW
        self._children: dict[AnyTask, None] = {}  # in the order in which they came: so they are cancelled
        self._errors: list[BaseException] = []
        self._inner: dict[AnyTask, ScopeTree] = {}
        self._held: list[tuple[ScopeTree, str | None]] = []
        self._starters: dict[AnyTask, TaskStatus] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._host: AnyTask | None = None
        self._parent: ScopeTree | None = None
        self._outer: ScopeTree | None = None
        self._timer: asyncio.Handle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._starting: AnyCoroutine | None = None
        self._interrupt: BaseException | None = None
        self._reason: str | None = None
        self._counted = self._cancelled = self._aborted = self._told = self._expired = False
        self._cut = self._caught = self._had_children = False
        self._base = 0

    def __repr__(self) -> str:
        parts = [STATES[self._state]]
        if self._cancelled:
            parts.append("cancelled")
        if self._children:
            parts.append(f"children={len(self._children)}")
        if self._deadline is not None:
            parts.append(f"deadline={self._deadline:.3f}")
        if self._shield:
            parts.append("shield")
        return f"<Scope {' '.join(parts)}>"

    # ------------------------------------------------------------ what is seen --

    @property
    def cancel_called(self) -> bool:
        """Whether the scope is cancelled: by `cancel`, by its deadline, or because something in it failed."""
        return self._cancelled

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope, now left, was cut short by its own cancellation, and nothing in it failed."""
        return self._caught

    @property
    def cancel_reason(self) -> str | None:
        """Why it is cancelled: what `cancel` was told, or what the scope says of a deadline or a failure."""
        return self._reason

    @property
    def children(self) -> tuple[AnyTask, ...]:
        """The children that have not ended, in the order in which they were spawned, queued ones included."""
        return tuple(self._children)

    @property
    def limit(self) -> int | None:
        """How many children may run at once; None for any number."""
        return self._limit

    @property
    def deadline(self) -> float | None:
        """When the scope cancels itself, in the time of `loop.time()`; None for never.

        It can be set as long as the scope is open: a later time, an earlier one, None; a time that is past
        cancels at once. A scope of `move_on_after` or `fail_after` has one from when it is entered. Setting
        raises ValueError for a negative time or NaN, TypeError for what is no number.
        """
        return self._deadline

    @deadline.setter
    def deadline(self, when: float | None) -> None:
        when = checked_time(when, "deadline")
        if self._state >= OPEN:
            self._check_loop("have its deadline set")
        self._deadline, self._delay = when, None
        if self._state >= OPEN:
            self._arm()

    @property
    def shield(self) -> bool:
        """Whether cancellations of the scopes around this one wait until it is left.

        It can be set: to False, and those that wait are delivered; to True, and those to come will wait.
        """
        return self._shield

    @shield.setter
    def shield(self, shield: bool) -> None:
        if self._state >= OPEN:
            self._check_loop("have its shield set")
        self._shield = bool(shield)
        if not shield:
            self._release()

    # ----------------------------------------------------------- cancellation --

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the scope: its body, its children, and the scopes in them that are not shielded.

        Each is asked once, as by `Task.cancel(reason)`, and the scope takes the CancelledError that comes of
        it: who is outside does not see it. In the scope `checkpoint` raises it again, as often as it is
        called. Called before the scope is entered it takes effect there; called again or after the end it
        does nothing. Raises RuntimeError in another thread or loop than the scope's: there it is
        `loop.call_soon_threadsafe(s.cancel)`.
        """
        if self._state == NEW:
            if not self._cancelled:
                self._cancelled, self._reason = True, reason
        elif self._state != CLOSED:
            self._check_loop("be cancelled")
            self._cancel(reason)

    def _cancel(self, reason: str | None) -> None:
        if self._cancelled:
            return
        self._cancelled, self._reason = True, reason
        self._count()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._spread(reason)
        assert self._host is not None
        self._reach(self._host, reason)

    def _count(self) -> None:
        """It is open and cancelled: only while such a one is do the native primitives look at scopes."""
        if not self._counted:
            self._counted = True
            count_cancelled_scope(self._loop, 1)

    def _spread(self, reason: str | None) -> None:
        """Tell the children, and those of the scopes in them; each is told once."""
        stack = [self]
        while stack:
            scope = stack.pop()
            if scope._aborted:
                continue
            scope._aborted = True
            for task in list(scope._children):
                if not task.done():
                    stack += scope._tell(task, reason)

    def _reach(self, task: AnyTask, reason: str | None) -> None:
        for scope in self._tell(task, reason):
            scope._spread(reason)

    def _tell(self, task: AnyTask, reason: str | None) -> list[ScopeTree]:
        """Cancel the host or a child, but not behind a shield; the scopes in it that are cancelled too."""
        scope = self
        passed: list[ScopeTree] = []
        while (inner := scope._inner.get(task)) is not None:
            if inner._shield:
                inner._held.append((self, reason))
                return passed
            passed.append(inner)
            scope = inner
        if task is self._host:
            if scope is self and self._state == LEAVING:
                return passed  # it waits for the children, and they have been told
            self._told = True
        task.cancel(reason)
        return passed

    def _is_cancelled_around(self) -> bool:
        """Whether a scope around this one is cancelled, and no shield is in between."""
        scope = self
        while scope._parent is not None and not scope._shield:
            scope = scope._parent
            if scope._cancelled:
                return True
        return False

    def _release(self) -> None:
        """The shield is gone: deliver what it held off."""
        held, self._held = self._held, []
        for scope, reason in held:
            if scope._state != CLOSED and self._host is not None:
                scope._reach(self._host, reason)

    # ---------------------------------------------------------------- deadline --

    def _arm(self) -> None:
        """Set the timer for the deadline that is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadline is None or self._deadline == math.inf or self._cancelled:
            return
        assert self._loop is not None
        if self._deadline <= self._loop.time():
            self._expire()
        else:
            self._timer = self._loop.call_at(self._deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._cancelled:
            self._expired = True
            self._cancel("the scope's deadline has passed")

    # ----------------------------------------------------------------- misuse --

    def _check_loop(self, what: str) -> None:
        if _get_running_loop() is not self._loop:
            raise RuntimeError(f"{self!r} can {what} only in the thread of its loop, while that runs")

    def _refuse(self, coro: Any) -> NoReturn:
        """Nothing can be spawned here: say why."""
        if asyncio.iscoroutine(coro):
            coro.close()
        if self._state == NEW:
            raise RuntimeError(f"{self!r} has not been entered")
        if self._state == CLOSED:
            raise RuntimeError(f"{self!r} takes no more children")
        self._check_loop("take children")
        raise AssertionError("the scope takes children")

    def _report(self, error: BaseException) -> None:
        assert self._loop is not None
        self._loop.call_exception_handler(
            {"message": "a child's error could not be raised by its scope", "exception": error, "scope": self}
        )
