"""Calls: `Caller` is a worker's calls seen from the pool. In the worker there is a `Callee`, of callee.py.

A call is a CALL with a number, and its end one message with the same number: RESULT, ERROR, CANCELLED or
EXPIRED. So a call ends exactly once: by that message, or by the end of the link. One that any worker may have
is a CALL_ANYWHERE, and can be had back before it begins: RECALL asks for some, each that comes is a RETURNED,
and RECALLED follows.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NoReturn

from . import context as contexts
from . import sockets
from .channel import Hub
from .counts import Tally
from .errors import (
    RemoteTraceback,
    Unpicklable,
    WorkerError,
    WorkersClosed,
    can_be_raised,
    raise_if_it_ends_all,
    text_of,
)
from .link import Link
from .wire import (
    CALL,
    CALL_ANYWHERE,
    CALL_WITH_ENDS,
    CANCEL,
    CANCELLED,
    DEFINE,
    ERROR,
    EXPIRED,
    RECALL,
    RECALLED,
    RESULT,
    RETURNED,
    lightened,
)

KNOWN_TYPES: set[type] = {FunctionType}
"""Types of functions that a worker is told once: those that stay what they are."""

MOST_KNOWN = 4096  # functions that a worker is told once and knows by a number from then on
FEW = 1  # calls that a worker has left when it is about to idle: during the last one others can come
REST = 0.01  # seconds for which a worker that had no calls to give back is not asked again
BELATED = 0.25  # seconds for which a cancellation that is due here may be late


def name_of(fn: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    module = getattr(fn, "__module__", None)
    return f"{module}.{name}" if module and module not in ("builtins", "__main__") else name


class Expired(Exception):
    """The deadline passed in the worker before it did here."""


class Returned(Exception):
    """The call came back from its worker and did not begin there: it is to be made in another."""

    def __init__(self, content: tuple[Callable[..., Any] | None, tuple[Any, ...]] | None) -> None:
        self.content = content
        """The function, if it is not known by a number, and the arguments: what the worker was sent."""


class _Call:
    __slots__ = ("aborted", "asked", "fn", "future")

    def __init__(self, fn: Callable[..., Any], future: asyncio.Future[Any]) -> None:
        self.fn = fn
        self.future = future
        self.aborted = False  # by the pool, and not by who made it
        self.asked = False  # to cancel itself


class Caller:
    """The calls of one worker, in the pool."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        index: int,
        hub: Hub,
        tally: Tally,
        on_idle: Callable[[], None],
    ) -> None:
        self.hub = hub
        self.tally = tally
        self.lost = False
        self.calls: dict[int, _Call] = {}
        self.rests_until = 0.0
        """When it may be asked again for calls, by the loop's clock."""
        self._loop = loop
        self._link = link
        self._index = index
        self._on_idle = on_idle
        self._number = 0
        self._recalled = 0  # the last call when the worker was asked for calls back
        self._barren = 0  # the same, when none came
        self._recalling = False
        self._known: dict[Callable[..., Any], int] = {}
        link.handlers[RESULT] = self._on_result
        link.handlers[ERROR] = self._on_error
        link.handlers[CANCELLED] = self._on_cancelled
        link.handlers[EXPIRED] = self._on_expired
        link.handlers[RETURNED] = self._on_returned
        link.handlers[RECALLED] = self._on_recalled

    # --------------------------------------------------------------- calling --

    async def call(self, fn: Callable[..., Any], args: tuple[Any, ...], anywhere: bool = False) -> Any:
        """Call `fn(*args)` in the worker. Cancelled, the call there is cancelled, and its end awaited.

        Raises Returned, if it is one for any worker: for `recall`, before it began.
        """
        link = self._link
        while link.congested:
            await link.drained()
        number = self._number = self._number + 1
        try:
            self._post(CALL_ANYWHERE if anywhere else CALL, number, fn, args)
        except Exception as error:
            if not sockets.has_sockets(args):
                self._explain(fn, args, error)
            self._post_sockets(number, fn, args)
        call = self.calls[number] = _Call(fn, self._loop.create_future())
        if self.lost:  # while it waited, or while its arguments were pickled
            del self.calls[number]
            self.tally.failed += 1
            raise self._error(call)
        try:
            return await call.future
        except CancelledError:
            if number in self.calls:
                await self._cancel(number, call)
            elif not call.future.cancelled():
                _raise_unless_cancelled(call.future)  # it came in the same turn as the cancellation
            raise
        except Expired:
            # The same clock says so here: the cancellation is on its way to this task.
            await asyncio.sleep(BELATED)
            raise TimeoutError(f"the deadline passed while {name_of(fn)} was under way") from None

    def _post_sockets(self, number: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """The same for a call with sockets: pickling refuses them, which is how they are noticed."""
        try:
            packed, fds = sockets.pack(args)
            self._post(CALL_WITH_ENDS, number, fn, packed, fds)
        except Exception as error:
            self._explain(fn, tuple(None if sockets.has_sockets((arg,)) else arg for arg in args), error)

    def _post(
        self, kind: int, number: int, fn: Callable[..., Any], args: tuple[Any, ...], fds: Sequence[int] = ()
    ) -> None:
        what: Any = self._known.get(fn) if type(fn) in KNOWN_TYPES else fn
        if what is None:
            what = self._define(fn)
        link = self._link
        carried: Any = contexts.variables() if link.pickles else list(contextvars.copy_context().items())
        deadline = contexts.deadline()
        shipments: list[Any] | None = None
        if self.hub.offers:
            args, shipments = self.hub.pack(args)
            kind = CALL_WITH_ENDS
        if link.pickles:
            args = lightened(args)
        if carried is None and deadline is None:
            link.post(kind, number, (what, args), fds)
        else:
            link.post(kind, number, (what, args, carried, deadline), fds)
        if shipments:
            self.hub.ship(shipments)

    def _define(self, fn: Callable[..., Any]) -> int | Callable[..., Any]:
        """Tell the worker a function, once: the number by which it knows it now."""
        if len(self._known) >= MOST_KNOWN:
            return fn
        number = len(self._known)
        self._link.post(DEFINE, number, fn)
        self._known[fn] = number
        return number

    def _explain(self, fn: Callable[..., Any], args: tuple[Any, ...], error: Exception) -> NoReturn:
        """A call could not be pickled: say which part of it."""
        if isinstance(error, Unpicklable):
            raise error
        if self.hub.ends:
            args, _ = self.hub.pack(args)
        what = "an argument"
        for name, part in [("the function", fn), *((f"argument {i}", arg) for i, arg in enumerate(args, 1))]:
            try:
                self._link.dumps(part)
            except Exception as cause:
                what, error = name, cause
                break
        raise Unpicklable(
            f"{what} of a call of {name_of(fn)} cannot be sent to worker {self._index}: {error}"
        ) from error

    async def _cancel(self, number: int, call: _Call) -> None:
        """Cancel a call, and wait until it has ended; raises its error if it does not end by cancellation."""
        told, call.aborted = call.aborted, False  # it is this cancellation that counts
        while number in self.calls:
            call.future = self._loop.create_future()
            if not told:  # a second time would cut short what the call does on its way out
                call.asked = True
                self._link.post(CANCEL, number)
            told = False
            try:
                await call.future
            except CancelledError:  # once more; or the answer that it was cancelled
                continue
            except Expired:
                return

    def recall(self, many: int) -> None:
        """Have the worker give back up to so many calls that are for any worker and have not begun."""
        self._recalling = True
        self._recalled = self._number
        self._link.post(RECALL, many)

    @property
    def may_recall(self) -> bool:
        """Whether some may come: not if it is being asked, or had none and has been given none since."""
        return not self._recalling and self._number > self._barren

    # --------------------------------------------------------------- answers --

    def _ended(self, number: int) -> _Call:
        call = self.calls.pop(number)
        if len(self.calls) <= FEW:
            self._on_idle()
        return call

    def _on_result(self, number: int, payload: Any) -> None:
        call = self._ended(number)
        try:
            result = self._link.load(payload)
        except BaseException as error:
            self._fail(
                call,
                Unpicklable(
                    f"the result of {name_of(call.fn)} came from worker {self._index},"
                    f" but cannot be unpickled: {text_of(error)}"
                ),
                error,
            )
            raise_if_it_ends_all(error)
            return
        self.tally.done += 1
        if not call.future.done():
            call.future.set_result(result)

    def _on_error(self, number: int, payload: Any) -> None:
        call = self._ended(number)
        cause: BaseException | None = None
        try:
            error, text = self._link.load(payload)
            if text is not None:
                cause = RemoteTraceback(text)
            if not can_be_raised(error):
                raise TypeError(f"it became an object of {type(error).__qualname__}")
        except BaseException as failure:
            error = WorkerError(
                f"{name_of(call.fn)} failed in worker {self._index}, and its exception"
                f" cannot be unpickled: {text_of(failure)}"
            )
            self._fail(call, error, failure)
            raise_if_it_ends_all(failure)
            return
        self._fail(call, error, cause)

    def _on_cancelled(self, number: int, payload: Any) -> None:
        self._cancelled(self._ended(number), *self._link.load(payload))

    def _cancelled(self, call: _Call, *args: str) -> None:
        self.tally.cancelled += 1
        if call.aborted:
            self._end(call, WorkersClosed(f"the pool was closed while {name_of(call.fn)} was under way"))
        else:
            self._end(call, CancelledError(*args))

    def _on_expired(self, number: int, _: Any) -> None:
        self.tally.cancelled += 1
        self._end(self._ended(number), Expired())

    def _on_returned(self, number: int, payload: Any) -> None:
        call = self.calls.pop(number)
        if call.asked:  # the worker had nothing left to cancel
            self._cancelled(call)
            return
        content = None
        try:
            content = self._link.load(payload)
        except BaseException as error:  # what it has become there cannot be had here
            raise_if_it_ends_all(error)
        finally:
            self._end(call, Returned(content))

    def _on_recalled(self, many: int, _: Any) -> None:
        self._recalling = False
        if not many:
            self._barren = self._recalled
            self.rests_until = self._loop.time() + REST

    def _fail(self, call: _Call, error: BaseException, cause: BaseException | None = None) -> None:
        self.tally.failed += 1
        if cause is not None:
            error.__cause__ = cause
        self._end(call, error)

    def _end(self, call: _Call, error: BaseException) -> None:
        if not call.future.done():
            call.future.set_exception(error)

    # ------------------------------------------------------------------- end --

    def abort(self) -> None:
        """The pool is left by an error: cancel all calls, whoever made them."""
        for number, call in self.calls.items():
            if not call.asked:
                call.aborted = call.asked = True
                self._link.post(CANCEL, number)

    def lose(self, error: Callable[[str], Exception]) -> None:
        """The worker has ended: so have its calls. `error` makes an exception from a function's name."""
        self.lost = True
        self._make_error = error
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            self._fail(call, self._error(call))

    def _error(self, call: _Call) -> Exception:
        return self._make_error(name_of(call.fn))


def _raise_unless_cancelled(future: asyncio.Future[Any]) -> None:
    error = future.exception()
    if error is not None and not isinstance(error, (CancelledError, Expired, Returned)):
        raise error
