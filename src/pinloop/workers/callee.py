"""The calls of one worker, in the worker.

A call of a coroutine function is a task; one of a plain function runs where it is read. They begin in the
order in which they come. After one that may hold up the loop, the loop has its turn before the next begins:
results leave, and timers and other tasks are served, however many calls wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from time import monotonic
from types import CoroutineType
from typing import Any, NamedTuple, cast

from ..scopes import scope
from . import context as contexts
from . import sockets
from .calls import Expired, name_of
from .channel import Hub
from .errors import Unpicklable, can_be_raised, raise_if_it_ends_all, text_of, traceback_of
from .link import Link
from .wire import (
    BYTES,
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
    loads,
)

AnyCoroutine = Coroutine[Any, Any, Any]

PLAIN = frozenset((type(None), bool, int, float, str, bytes, bytearray, tuple, list, dict, set, frozenset))
"""Types of results that nobody awaits."""

QUICK = 0.0002  # seconds that a call may hold up the loop without others being served first


class _Arrived(NamedTuple):
    """A call that has come and has not begun."""

    number: int
    context: contextvars.Context
    fn: Callable[..., Any]
    args: Any
    known: int
    """The number of the function, if it is one that is told once; else -1."""
    deadline: float | None
    anywhere: bool
    """Whether another worker may have it instead."""


class Callee:
    """Serves the calls that come over a link."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        index: int,
        context: contextvars.Context,
        hub: Hub,
    ) -> None:
        self._hub = hub
        self._loop = loop
        self._link = link
        self._index = index
        self._context = context
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._functions: dict[int, Any] = {}
        self._quick: set[int] = set()  # those of them that did not hold up the loop when they last ran
        self._waiting: dict[int, _Arrived] = {}
        self._held = False  # what comes now waits
        self._going_on = False  # `_go_on` is scheduled
        self._sample: int | None = None  # the function of the task that begins between `_mark` and `_go_on`
        self._marked = 0.0
        link.handlers[DEFINE] = self._on_define
        link.handlers[CALL] = self._on_call
        link.handlers[CALL_ANYWHERE] = functools.partial(self._on_call, anywhere=True)
        link.handlers[CALL_WITH_ENDS] = functools.partial(self._on_call, ends=True)
        link.handlers[RECALL] = self._on_recall
        link.handlers[CANCEL] = self._on_cancel

    def _on_define(self, number: int, payload: Any) -> None:
        try:
            self._functions[number] = self._link.load(payload)
        except BaseException as error:
            raise_if_it_ends_all(error)
            self._functions[number] = _Unknown(error)

    def _on_call(self, number: int, payload: Any, ends: bool = False, anywhere: bool = False) -> None:
        try:
            fn, args, *extras = self._link.load(payload)
            if ends:
                args = sockets.unpack(self._hub.unpack(args), self._link.descriptors)
        except BaseException as error:
            raise_if_it_ends_all(error)
            self._refuse(number, "the arguments of a call", error)
            return
        known = -1
        if type(fn) is int:
            known = fn
            fn = self._functions[fn]
            if type(fn) is _Unknown:
                self._refuse(number, "a function", fn.error)
                return
        context = self._context.copy()
        deadline = None
        if extras:
            carried, deadline = extras
            if carried is not None:
                context.run(contexts.apply if self._link.pickles else contexts.take_over, carried)
        call = _Arrived(number, context, fn, args, known, deadline, anywhere)
        if self._must_wait(call):
            self._waiting[number] = call
        else:
            self._begin(call)

    # -------------------------------------------------------------- beginning --

    def _must_wait(self, call: _Arrived) -> bool:
        """Whether others are before it, or it may hold up the loop and so is not to begin in this turn."""
        if self._going_on and call.known not in self._quick:
            self._held = True
        return self._held

    def _begin(self, call: _Arrived) -> None:
        number, context, fn, args, known, deadline, _ = call
        if known not in self._quick:
            self._link.flush()  # so that no result waits for the end of this call
        if deadline is not None:
            self._start(call, _until(deadline + self._link.ahead, fn, args))
            return
        began = monotonic()
        try:
            result = context.run(fn, *args)
            coro = as_coroutine(result, fn)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._ran(known, monotonic() - began)
            self._reply_error(number, error)
            return
        if coro is not None:
            self._start(call, coro)
        else:
            self._ran(known, monotonic() - began)
            self._reply(number, result, fn)

    def _ran(self, known: int, seconds: float) -> None:
        """A plain function ran."""
        if not self._judge(known, seconds):
            self._held = True
            self._schedule()

    def _start(self, call: _Arrived, coro: AnyCoroutine) -> None:
        sampled = not self._going_on
        if sampled:
            self._loop.call_soon(self._mark)
        task = self._loop.create_task(coro, context=call.context)
        self._tasks[call.number] = task
        task.add_done_callback(functools.partial(self._done, call.number, call.fn))
        if sampled:
            self._sample = call.known
            self._schedule()
        if call.known not in self._quick:
            self._held = True

    def _schedule(self) -> None:
        if not self._going_on:
            self._going_on = True
            self._loop.call_soon(self._go_on)

    def _mark(self) -> None:
        self._marked = monotonic()

    def _go_on(self) -> None:
        """The loop has had its turn, and what began last its first step: let those begin that wait."""
        if self._sample is not None:
            self._judge(self._sample, monotonic() - self._marked)
            self._sample = None
        self._going_on = self._held = False
        while self._waiting:
            call = next(iter(self._waiting.values()))
            if self._must_wait(call):
                break
            del self._waiting[call.number]
            self._begin(call)

    def _judge(self, known: int, seconds: float) -> bool:
        """Note whether a function held up the loop for long; whether it did not."""
        if seconds >= QUICK:
            self._quick.discard(known)
            return False
        if known >= 0:
            self._quick.add(known)
        return True

    def _on_recall(self, many: int, _: Any) -> None:
        """Give back the last that wait: for the first it is sooner their turn."""
        back = 0
        for call in [call for call in self._waiting.values() if call.anywhere][-many:]:
            try:
                args = lightened(call.args) if self._link.pickles else call.args
                self._link.post(RETURNED, call.number, (None if call.known >= 0 else call.fn, args))
            except BaseException as error:  # not all that can be unpickled can be pickled again
                raise_if_it_ends_all(error)
                continue
            del self._waiting[call.number]
            back += 1
        self._link.post(RECALLED, back)

    def _on_cancel(self, number: int, _: Any) -> None:
        if self._waiting.pop(number, None) is not None:
            self._link.post(CANCELLED, number, ())
        elif (task := self._tasks.get(number)) is not None:  # else its answer is on its way
            task.cancel()

    def _done(self, number: int, fn: Callable[..., Any], task: asyncio.Task[Any]) -> None:
        del self._tasks[number]
        if task.cancelled():
            self._link.post(CANCELLED, number, _cancel_arguments(task))
            return
        error = task.exception()
        if error is None:
            self._reply(number, task.result(), fn)
        elif isinstance(error, Expired):
            self._link.post(EXPIRED, number)
        elif not isinstance(error, (SystemExit, KeyboardInterrupt)):  # these end the worker
            self._reply_error(number, error)

    # --------------------------------------------------------------- answers --

    def _reply(self, number: int, result: Any, fn: Any) -> None:
        sent = result
        if type(result) in BYTES and self._link.pickles:
            (sent,) = lightened((result,))
        try:
            self._link.post(RESULT, number, sent)
        except BaseException as error:
            raise_if_it_ends_all(error)
            self._reply_error(
                number,
                Unpicklable(
                    f"the result of {name_of(fn)} cannot be sent by worker {self._index}:"
                    f" {type(result).__qualname__} object: {text_of(error)}"
                ),
            )

    def _reply_error(self, number: int, error: BaseException) -> None:
        if isinstance(error, StopIteration):  # no future takes one
            wrapped = RuntimeError("the function raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        if not self._link.pickles:
            self._link.post(ERROR, number, (error, None))
            return
        text = traceback_of(error)
        try:
            copied = loads(self._link.dumps(error))  # many can be pickled, but not unpickled
            if not can_be_raised(copied):
                raise TypeError(f"it becomes an object of {type(copied).__qualname__}")
        except BaseException as cause:
            raise_if_it_ends_all(cause)
            error = Unpicklable(
                f"an exception cannot be sent by worker {self._index}: {type(error).__qualname__}:"
                f" {text_of(error)} (it cannot be pickled and unpickled: {text_of(cause)})"
            )
        self._link.post(ERROR, number, (error, text))

    def _refuse(self, number: int, what: str, error: BaseException) -> None:
        refusal = Unpicklable(
            f"{what} came to worker {self._index}, but cannot be unpickled: {text_of(error)}"
        )
        refusal.__cause__ = error
        self._reply_error(number, refusal)

    # ------------------------------------------------------------------- end --

    async def cancel_all(self) -> None:
        """Cancel what runs, and wait for it."""
        for number in list(self._waiting):
            self._on_cancel(number, None)
        while self._tasks:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


class _Unknown:
    """A function that could not be unpickled here."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _cancel_arguments(task: asyncio.Task[Any]) -> tuple[str, ...]:
    try:
        task.result()
    except CancelledError as error:
        return tuple(map(text_of, error.args))
    return ()


def as_coroutine(result: Any, fn: Callable[..., Any]) -> AnyCoroutine | None:
    """What a function returned as something for a task; None if it is the result of a plain function."""
    kind = type(result)
    if kind is CoroutineType:
        return cast(AnyCoroutine, result)
    if kind in PLAIN:
        return None
    if isinstance(result, Coroutine):
        return result
    if isinstance(result, AsyncGenerator):
        raise TypeError(
            f"{name_of(fn)} is an asynchronous generator function: a worker calls coroutine functions and"
            " plain functions; have it send what it yields into a channel"
        )
    if isinstance(result, Awaitable) or inspect.isawaitable(result):
        return _awaited(result)
    return None


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


async def _until(deadline: float, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a function in a scope that has the deadline of the caller's."""
    loop = asyncio.get_running_loop()
    async with scope(deadline=loop.time() + (deadline - monotonic())) as limits:
        result = fn(*args)
        coro = as_coroutine(result, fn)
        return result if coro is None else await coro
    if limits.cancelled_caught:
        raise Expired
    raise AssertionError("a scope ends by its result, an error or its cancellation")
