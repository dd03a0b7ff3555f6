"""Scopes: the tasks started in one end with it, and it is cancelled and given a deadline as a whole.

async with scope() as s:
    s.spawn(work())             # a child, which never outlives the scope
async with move_on_after(2):    # go on after two seconds, done or not
    await answer()

They work on every asyncio loop and with every class of tasks, and nest with asyncio.TaskGroup and
asyncio.timeout both ways: what they do to a task they do by `cancel` and `uncancel`, and each scope takes
back exactly the requests that it made.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from asyncio import CancelledError, _get_running_loop
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from ._core import count_cancelled_scope, current_node
from ._scope_parts import AnyCoroutine, AnyTask, TaskStatus, is_pending, link, take_pending, unlink
from ._scope_tree import CLOSED, LEAVING, NEW, OPEN, ScopeTree, checkpoint, current, current_scope

__all__ = [
    "Scope",
    "TaskStatus",
    "checkpoint",
    "current_scope",
    "fail_after",
    "fail_at",
    "move_on_after",
    "move_on_at",
    "scope",
]

T = TypeVar("T")

TAKES_BACK = sys.version_info >= (3, 13)
"""Whether the last `Task.uncancel` takes back a cancellation too that has not been raised yet."""


class Scope(ScopeTree):
    """A scope: an asynchronous context manager that `scope`, `move_on_after` and the like make.

    It is left when its body and all its children have ended, however it is left. The first that fails, the
    body or a child, cancels the rest; all errors are raised together as an ExceptionGroup, the body's own
    last. Only where there has never been a child is an error of the body raised as it is. KeyboardInterrupt
    and SystemExit are never grouped; errors besides are reported to the loop's exception handler.

    A scope is entered once, and left by the task that entered it.
    """

    __slots__ = ("_create_task", "_on_done")

    def __init__(
        self,
        deadline: float | None = None,
        shield: bool = False,
        limit: int | None = None,
        *,
        delay: float | None = None,
        fails: bool = False,
    ) -> None:
        super().__init__(deadline, shield, limit, delay, fails)
        self._create_task: Callable[..., AnyTask] = _not_open
        self._on_done: Callable[[AnyTask], object] = _not_open

    # ------------------------------------------------------------ entering it --

    async def __aenter__(self) -> Self:
        if self._state != NEW:
            raise RuntimeError(f"{self!r} has been entered already: a scope is entered once")
        loop = asyncio.get_running_loop()
        host = asyncio.current_task(loop)
        if host is None:
            raise RuntimeError(f"{self!r} can be entered by a task only")
        self._loop, self._host, self._create_task = loop, host, loop.create_task
        self._on_done = self._done if self._limit is None else self._done_limited
        self._outer, self._parent = current.get(), current_node(host)
        if self._parent is not None:
            self._parent._inner[host] = self
        current.set(self)
        # A request that has not been delivered yet comes from outside all the same.
        self._base = host.cancelling() - is_pending(host)
        self._state = OPEN
        if self._delay is not None:
            self._deadline = loop.time() + self._delay
        if self._cancelled:
            self._count()
            self._spread(self._reason)
            self._reach(host, self._reason)
        elif self._deadline is not None:
            self._arm()
        return self

    # --------------------------------------------------------------- children --

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a coroutine as a child of this scope; its task.

        At once, that is: without waiting, also where a `limit` is reached. Then there is a task, but the
        coroutine is not begun until another child has ended; the first to come is the first to begin. In a
        scope that is cancelled the child is cancelled before its first step.

        Any task of the loop may spawn, the children too. Raises RuntimeError for a scope that is not entered
        or is closed, and in another thread or loop than the scope's, TypeError for what is no coroutine.
        """
        if self._state < OPEN or _get_running_loop() is not self._loop:
            self._refuse(coro)
        if self._queue is not None:
            return self._spawn_limited(coro, name)
        return self._begin(coro, name)

    def _begin(self, coro: AnyCoroutine, name: str | None) -> AnyTask:
        """Make the task of a child."""
        before, self._starting = self._starting, coro
        try:
            if current.get() is not self:
                # A task elsewhere spawns: the child is in this scope, not in the spawner's.
                context = contextvars.copy_context()
                context.run(current.set, self)
                task = self._create_task(coro, name=name, context=context)
            elif name is None:
                task = self._create_task(coro)
            else:
                task = self._create_task(coro, name=name)
        finally:
            self._starting = before
        self._had_children = True
        self._children[task] = None
        if link is not None:
            link(task, self._host)
        task.add_done_callback(self._on_done)
        if self._aborted:
            task.cancel(self._reason)
        return task

    def _spawn_limited(self, coro: AnyCoroutine, name: str | None) -> AnyTask:
        queue = self._queue
        assert queue is not None and self._loop is not None
        if queue.take():
            try:
                return self._begin(coro, name)
            except BaseException:
                queue.give_back()
                raise
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        gate: asyncio.Future[None] = self._loop.create_future()
        task = self._begin(queue.wait(gate, coro), name)
        queue.enter(task, gate, coro)
        return task

    def _done_limited(self, task: AnyTask) -> None:
        assert self._queue is not None
        self._queue.leave(task)
        self._done(task)

    def _done(self, task: AnyTask) -> None:
        """A child has ended."""
        children = self._children
        del children[task]
        if unlink is not None:
            unlink(task, self._host)
        if not children and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if task.cancelled():
            if self._cancelled:
                self._cut = True
            return
        error = task.exception()
        if error is not None and (not self._starters or task not in self._starters):
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """A child failed with `error`."""
        if self._state == CLOSED:
            self._report(error)  # its host is gone: a coroutine that was closed, not run to its end
            return
        self._errors.append(error)
        if self._interrupt is None and isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._interrupt = error
        self._cancel("something else in the scope failed")

    async def start(self, coro_fn: Callable[..., AnyCoroutine], *args: Any, name: str | None = None) -> Any:
        """Start a child, and wait until it says that it is ready; what it says then.

        `coro_fn(*args, task_status=status)` is spawned, and when it calls `status.started(value)`, this
        returns `value` and the child goes on as any other. What a child raises before that is raised here,
        and does not cancel the scope; one that ends without being ready raises RuntimeError here. Where the
        one who waits here is cancelled first, the child is cancelled and awaited; in a scope that is
        cancelled already CancelledError is raised and there is no child.

        Raises as `spawn` does too.
        """
        if self._state < OPEN or _get_running_loop() is not self._loop:
            self._refuse(None)
        assert self._loop is not None
        status = TaskStatus(self._loop.create_future())
        checkpoint()
        coro = coro_fn(*args, task_status=status)
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"start() needs a coroutine function, {coro_fn!r} returned {coro!r}")
        task = self.spawn(coro, name)
        if not status._ready.done():
            self._starters[task] = status
        task.add_done_callback(self._started_done)
        status._on_started = lambda: self._starters.pop(task, None)
        try:
            return await status._ready
        except CancelledError:
            await self._abandon(task, status)
            raise

    def _started_done(self, task: AnyTask) -> None:
        """A child of `start` has ended: whoever waits for it to be ready is told, if it was not."""
        status = self._starters.pop(task, None)
        if status is None:
            return
        error = None if task.cancelled() else task.exception()
        if status._ready.done():  # nobody waits any longer: an error is the scope's
            if error is not None:
                self._failed(error)
        elif error is None:
            how = "was cancelled" if task.cancelled() else "ended"
            status._ready.set_exception(
                RuntimeError(f"the child {how} before it called task_status.started()")
            )
        else:
            status._ready.set_exception(error)

    async def _abandon(self, task: AnyTask, status: TaskStatus) -> None:
        """The one who waits in `start` is cancelled: so is the child, unless it was ready."""
        ready = status._ready
        if not ready.cancel() and not ready.cancelled():
            error = ready.exception()
            if error is not None and task.done() and not task.cancelled() and task.exception() is error:
                self._failed(error)  # it was on its way here, and would be lost
            return
        task.cancel()
        while not task.done():
            try:
                await asyncio.wait([task])
            except CancelledError:  # the request counts; that it came while one is raised changes nothing
                continue

    # ------------------------------------------------------------- leaving it --

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._state != OPEN:
            raise RuntimeError(f"{self!r} cannot be left")
        host = self._host
        if host is None or asyncio.current_task(self._loop) is not host:
            return await self._leave_elsewhere(exc)
        dangling = self._inner.get(host)
        try:
            failure = await self._finish(exc)
        finally:
            self._leave()
        try:
            if dangling is not None:
                raise RuntimeError(f"{self!r} was left before {dangling!r} in it") from failure
            if failure is None:
                return True
            if failure is exc:
                return False
            raise failure from failure.__cause__
        finally:
            del failure, exc  # a frame that holds an exception that holds the frame

    async def _finish(self, exc: BaseException | None) -> BaseException | None:
        """Wait for the children; what is to be raised in the end."""
        host = self._host
        assert host is not None
        cancellation = exc if isinstance(exc, CancelledError) else None
        self._state = LEAVING
        try:
            if exc is not None:
                if cancellation is None:
                    self._cancel("something else in the scope failed")
                self._spread(exc.args[0] if cancellation is not None and exc.args else self._reason)
            if self._children:
                cancellation = await self._wait() or cancellation
        finally:
            self._state = CLOSED
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if self._told:
            host.uncancel()
            if is_pending(host):
                pending = await take_pending()  # ours, or another's with ours
                if host.cancelling() > self._base:
                    cancellation = pending or cancellation
        outside = host.cancelling() > self._base
        return self._outcome(exc, cancellation, outside)

    async def _wait(self) -> CancelledError | None:
        """Until there are no children; the last cancellation that arrived meanwhile."""
        assert self._loop is not None
        cancellation = None
        try:
            while self._children:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                except CancelledError as error:
                    cancellation = error
                    if not self._shield:
                        self._spread(error.args[0] if error.args else None)
        except BaseException:  # the coroutine is closed, not run: nobody will wait
            self._spread(None)
            raise
        finally:
            self._waiter = None
        return cancellation

    def _outcome(
        self, exc: BaseException | None, cancellation: BaseException | None, outside: bool
    ) -> BaseException | None:
        """What is to be raised, of all that happened."""
        errors, self._errors = self._errors, []
        if exc is not None and not isinstance(exc, CancelledError):
            if self._interrupt is None and isinstance(exc, (KeyboardInterrupt, SystemExit)):
                self._interrupt = exc
            errors.append(exc)
        if self._interrupt is not None:
            for error in errors:
                if error is not self._interrupt:
                    self._report(error)
            return self._interrupt
        if errors:
            if cancellation is not None and outside:
                self._ask_again(cancellation)
            if errors[0] is exc and (not self._had_children or isinstance(exc, GeneratorExit)):
                return exc
            return BaseExceptionGroup("unhandled errors in a scope", errors)
        if outside or not self._cancelled:
            return cancellation
        self._caught = self._cut or cancellation is not None
        if self._caught and self._fails and self._expired:
            error = TimeoutError(self._reason)
            error.__cause__ = cancellation
            return error
        return None

    def _ask_again(self, cancellation: BaseException) -> None:
        """An error takes the place of a cancellation from outside: have that raised at the next await."""
        # Where it is not taken back, a timeout or a TaskGroup would leave this one due; a scope does not.
        if not TAKES_BACK and not self._is_cancelled_around():
            return
        assert self._host is not None
        self._host.uncancel()
        self._host.cancel(*cancellation.args[:1])

    def _leave(self) -> None:
        """Take the scope out of the tree, and let go of what it refers to."""
        self._state = CLOSED
        if self._counted:
            self._counted = False
            count_cancelled_scope(self._loop, -1)
        parent, host = self._parent, self._host
        if parent is not None and host is not None and parent._inner.get(host) is self:
            del parent._inner[host]
        if current.get() is self:
            current.set(self._outer)
        self._release()
        self._host = self._parent = self._outer = self._interrupt = None
        self._create_task = self._on_done = _not_open  # bound to this scope, it would refer to itself

    async def _leave_elsewhere(self, exc: BaseException | None) -> bool:
        """It is left by a task that did not enter it: cancel all, wait, and say so."""
        assert self._loop is not None
        if _get_running_loop() is not self._loop or isinstance(exc, GeneratorExit):
            # The host's coroutine is being closed from outside: there is no waiting here.
            if not self._loop.is_closed():
                self._spread(None)
            self._leave()
            return False
        self._state = LEAVING
        self._cancelled, self._reason = True, "the scope was left by another task"
        self._count()
        self._spread(self._reason)
        if self._told and self._host is not None:
            self._host.uncancel()
        try:
            await self._wait()
        finally:
            for error in self._errors:
                self._report(error)
            self._errors = []
            self._leave()
        raise RuntimeError(f"{self!r} was left by another task than the one that entered it") from exc


def scope(deadline: float | None = None, shield: bool = False, limit: int | None = None) -> Scope:
    """A scope for `async with`: children that end with it, one cancellation, one deadline.

    `deadline` is when it cancels itself, in the time of `loop.time()`. With `shield` cancellations of the
    scopes around it wait until it is left. At most `limit` children run at once, the others queue.

    Raises ValueError for a deadline that is negative or NaN and for a limit below 1, TypeError for others.
    """
    return Scope(deadline, shield, limit)


def move_on_at(deadline: float | None, *, shield: bool = False, limit: int | None = None) -> Scope:
    """A scope that cancels itself at a time of `loop.time()`; `cancelled_caught` tells whether it was."""
    return Scope(deadline, shield, limit)


def move_on_after(delay: float | None, *, shield: bool = False, limit: int | None = None) -> Scope:
    """A scope that cancels itself `delay` seconds after it is entered; `cancelled_caught` tells.

    None is no deadline. Raises ValueError for a negative delay and for NaN.
    """
    return Scope(None, shield, limit, delay=delay)


def fail_at(deadline: float | None, *, shield: bool = False, limit: int | None = None) -> Scope:
    """As `move_on_at`, and where it was cut short by its deadline it raises TimeoutError."""
    return Scope(deadline, shield, limit, fails=True)


def fail_after(delay: float | None, *, shield: bool = False, limit: int | None = None) -> Scope:
    """As `move_on_after`, and where it was cut short by its deadline it raises TimeoutError.

    Errors of the body and of children go first; so does a cancellation from outside.
    """
    return Scope(None, shield, limit, delay=delay, fails=True)


def _not_open(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the scope is not open")
