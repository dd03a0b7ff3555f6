"""Streams: what is done with items as they come, lazily, and with an end that nothing outlives.

async with stream(urls).map(fetch, concurrency=8).filter(good).chunks(100, within=0.1) as st:
    async for pages in st:
        await store(pages)

Who iterates pulls: no step does anything before the next one asks it to, except as far ahead as `map`'s
concurrency, `buffer`, `merge` and `chunks` with a time were told. They work on every asyncio loop and with
every class of tasks.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from . import _stream_steps as steps
from ._scope_parts import AnyTask, checked_time
from ._stream_ahead import Ahead, Calls, Chunks, Merge, OrderedCalls
from ._stream_steps import Source, Step, checked_count, checked_function

__all__ = ["Stream", "from_channel", "stream"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
U = TypeVar("U")
V = TypeVar("V")

Items = AsyncIterable[T] | Iterable[T]
"""What gives items: a stream too."""

MISSING: Any = object()

NEW, BEGUN, ENTERED, CLOSED, TAKEN = range(5)
STATES = ("not begun", "begun", "entered", "closed", "part of another")

closing: set[AnyTask] = set()
"""The tasks that close the streams which were dropped open."""


class Sender(Protocol[T_contra]):
    """The sending end of a channel, as far as `Stream.into_channel` needs it."""

    def send(self, value: T_contra, /) -> Awaitable[Any]: ...

    def close(self) -> Any: ...


class Stream(Generic[T_co]):
    """A stream: an asynchronous iterator, and a context manager that ends all that was begun for it.

    `stream` makes one, and each operator makes a new one of it, which takes it over. It is used once:
    by `async with`, by a bare `async for`, or by one of the calls that are awaited (`collect`, `for_each` …),
    which close it themselves. One that is dropped open, as by `break` out of a bare `async for`, is closed
    by a task of its own, with a ResourceWarning.

    Functions may be plain or asynchronous: what can be awaited is awaited. What they and the source raise is
    raised by the iteration, as it is, and ends the stream; where several tasks failed, as an ExceptionGroup.
    A pull that is cancelled ends the stream too.
    """

    __slots__ = ("__weakref__", "_loop", "_state", "_step")

    def __init__(self, source: Items[T_co] | Callable[[], Items[T_co]]) -> None:
        self._state = NEW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step = step_of(source)

    def __repr__(self) -> str:
        return f"<Stream {STATES[self._state]}>"

    # ---------------------------------------------------------------- iterating --

    async def __aenter__(self) -> Self:
        if self._state != NEW:
            self._refuse("entered")
        self._begin()
        self._state = ENTERED
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[T_co]:
        self._begin()
        # The block keeps the stream; without one, who iterates has to.
        return self._step.it if self._state == ENTERED else self

    def __anext__(self) -> Awaitable[T_co]:
        if self._state != BEGUN:
            self._begin()
        return self._step.it.__anext__()

    async def aclose(self) -> None:
        """Close the stream: cancel what runs for it, wait for that, and close its source.

        Raises what goes wrong with that. What had failed ahead of the consumer, who has not come to see it,
        is told to the loop's exception handler. Cancelled, it goes on waiting, and raises the cancellation
        then. Closing again does nothing.
        """
        if self._state != TAKEN:
            self._state = CLOSED
            await self._step.close()

    def _begin(self) -> None:
        if self._state == TAKEN:
            self._refuse("iterated")
        if self._state == NEW:
            self._loop = asyncio.get_running_loop()
            self._state = BEGUN

    def _refuse(self, what: str) -> None:
        if self._state == TAKEN:
            raise RuntimeError(f"the stream cannot be {what}: another was made of it")
        raise RuntimeError(f"the stream cannot be {what}: it was begun already, and is used once")

    def _take(self) -> Step:
        """The step, for another stream that is made of this one."""
        if self._state != NEW:
            self._refuse("taken over")
        self._state = TAKEN
        return self._step

    def __del__(self) -> None:
        try:
            if not BEGUN <= self._state <= ENTERED or is_finished(self._step.it):
                return
        except AttributeError:  # __init__ raised
            return
        warnings.warn(
            f"{self!r} was dropped before its end: use it in `async with`", ResourceWarning, 2, source=self
        )
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(close_later, self._loop, self._step)

    # ---------------------------------------------------------------- operators --

    @overload
    def map(
        self, function: Callable[[T_co], Awaitable[U]], concurrency: int = 1, ordered: bool = True
    ) -> Stream[U]: ...

    @overload
    def map(self, function: Callable[[T_co], U], concurrency: int = 1, ordered: bool = True) -> Stream[U]: ...

    def map(self, function: Callable[[Any], Any], concurrency: int = 1, ordered: bool = True) -> Stream[Any]:
        """The values of `function(item)`.

        With `concurrency` up to that many calls run at once, each in a task of its own: so far ahead of the
        consumer the source is read, and no further. In the order of the items, or with `ordered=False` as
        they come. A call that fails cancels the others; values that were there before it are handed on first.
        """
        function = checked_function(function)
        concurrency = checked_count(concurrency, "concurrency", 1)
        up = self._take()
        if concurrency == 1:
            return made_of(steps.mapped(up, function), up)
        kind = OrderedCalls if ordered else Calls
        return made_of(kind((up,), concurrency, function), up)

    def filter(self, predicate: Callable[[T_co], object]) -> Stream[T_co]:
        """The items for which `predicate(item)` is true."""
        return self._then(steps.filtered, checked_function(predicate))

    @overload
    def flat_map(self, function: Callable[[T_co], Awaitable[Items[U]]]) -> Stream[U]: ...

    @overload
    def flat_map(self, function: Callable[[T_co], Items[U]]) -> Stream[U]: ...

    def flat_map(self, function: Callable[[Any], Any]) -> Stream[Any]:
        """The items of what `function(item)` gives, a list, an async generator or a stream, one by one.

        Each is closed when it has ended or the stream does.
        """
        return self._then(steps.flat_mapped, checked_function(function), step_of)

    def chunks(self, size: int, within: float | None = None) -> Stream[list[T_co]]:
        """Lists of up to `size` items.

        With `within` one is ready that many seconds after its first item has come, however short it is; until
        somebody pulls it, it grows, up to `size`. So far ahead the source is read then. The last one may be
        shorter, also where the source raises.
        """
        size = checked_count(size, "size", 1)
        within = checked_time(within, "within")
        if within is None:
            return self._then(steps.chunked, size)
        up = self._take()
        return made_of(Chunks((up,), size, within), up)

    def buffer(self, size: int) -> Stream[T_co]:
        """The items, of which up to `size` are read ahead of the consumer."""
        size = checked_count(size, "size", 1)
        up = self._take()
        return made_of(Ahead((up,), size), up)

    def throttle(self, rate: int, per: float = 1.0) -> Stream[T_co]:
        """The items, no more than `rate` of them in any `per` seconds. They wait; none is left out."""
        rate = checked_count(rate, "rate", 1)
        seconds = checked_time(per, "per")
        if not seconds or seconds == float("inf"):
            raise ValueError(f"per must be a number of seconds above 0, not {per!r}")
        return self._then(steps.throttled, rate, seconds)

    def merge(self, *others: Items[U] | Callable[[], Items[U]]) -> Stream[T_co | U]:
        """The items of this one and of others as they come.

        Of each up to one item is read ahead. Between two items of one source all others that have one
        ready come first. It ends when all have ended; the first that raises ends it.
        """
        ups = (self._take(), *map(step_of, others))
        return made_of(Merge(ups), *ups)

    @overload
    def zip(self, other: Items[U], /, *, strict: bool = False) -> Stream[tuple[T_co, U]]: ...

    @overload
    def zip(
        self, other: Items[U], third: Items[V], /, *, strict: bool = False
    ) -> Stream[tuple[T_co, U, V]]: ...

    @overload
    def zip(self, *others: Items[Any], strict: bool = False) -> Stream[tuple[Any, ...]]: ...

    def zip(self, *others: Any, strict: bool = False) -> Stream[Any]:
        """Tuples of an item of this one and of one of each other, until one has ended.

        They are read one after the other; `buffer(1)` has one read ahead. With `strict` ValueError is raised
        where one ends before another.
        """
        ups = (self._take(), *map(step_of, others))
        return made_of(steps.zipped(ups, strict), *ups)

    def take(self, count: int) -> Stream[T_co]:
        """The first `count` items; no more than those are read."""
        return self._then(steps.taken, checked_count(count, "count", 0))

    def skip(self, count: int) -> Stream[T_co]:
        """All but the first `count` items."""
        return self._then(steps.skipped, checked_count(count, "count", 0))

    def take_while(self, predicate: Callable[[T_co], object]) -> Stream[T_co]:
        """The items up to the first for which `predicate(item)` is false, without that."""
        return self._then(steps.taken_while, checked_function(predicate))

    def skip_while(self, predicate: Callable[[T_co], object]) -> Stream[T_co]:
        """The items from the first on for which `predicate(item)` is false."""
        return self._then(steps.skipped_while, checked_function(predicate))

    def timeout(self, seconds: float | None = None, *, idle: float | None = None) -> Stream[T_co]:
        """The items, each in time: TimeoutError ends the stream otherwise.

        An item has `seconds` from when it is asked for. `idle` counts from when the last one came, the time
        that the consumer took for it included. Where an item is there at once, neither is too late.
        """
        item, gap = checked_time(seconds, "seconds"), checked_time(idle, "idle")
        if item is None and gap is None:
            raise TypeError("timeout() needs the seconds for each item, or idle=")
        return self._then(steps.timed, item, gap)

    def _then(self, make: Callable[..., AsyncIterator[Any]], *args: Any) -> Stream[Any]:
        up = self._take()
        return made_of(make(up, *args), up)

    # ---------------------------------------------------------- what is awaited --

    async def collect(self) -> list[T_co]:
        """All items, in a list."""
        try:
            return [item async for item in self]
        finally:
            await self.aclose()

    @overload
    async def first(self) -> T_co: ...

    @overload
    async def first(self, default: U) -> T_co | U: ...

    async def first(self, default: Any = MISSING) -> Any:
        """The first item; where there is none, `default`, or LookupError is raised."""
        try:
            async for item in self:
                return item
        finally:
            await self.aclose()
        if default is MISSING:
            raise LookupError("the stream had no item")
        return default

    @overload
    async def fold(self, initial: U, function: Callable[[U, T_co], Awaitable[U]]) -> U: ...

    @overload
    async def fold(self, initial: U, function: Callable[[U, T_co], U]) -> U: ...

    async def fold(self, initial: Any, function: Callable[[Any, Any], Any]) -> Any:
        """What `value = function(value, item)` comes to over all items, beginning with `initial`."""
        checked_function(function)
        value = initial
        try:
            async for item in self:
                if value is MISSING:
                    value = item
                    continue
                value = function(value, item)
                if hasattr(value, "__await__"):
                    value = await value
        finally:
            await self.aclose()
        return value

    async def reduce(self, function: Callable[[Any, Any], Any]) -> Any:
        """As `fold`, beginning with the first item. Raises TypeError where there is none."""
        value = await self.fold(MISSING, function)
        if value is MISSING:
            raise TypeError("reduce() of an empty stream without an initial value: fold() takes one")
        return value

    async def for_each(self, function: Callable[[T_co], object], concurrency: int = 1) -> None:
        """Call `function(item)` for each item, up to `concurrency` of them at once, and wait for all."""
        done: Stream[object] = self.map(function, concurrency, ordered=False)
        try:
            async for _ in done:
                pass
        finally:
            await done.aclose()

    async def into_channel(self, sender: Sender[T_co], *, close: bool = True) -> None:
        """Send all items into a channel, each when there is room, and close `sender` then.

        `sender` is closed however this ends, unless `close` is False. Raises what `send` does: where all
        receivers are gone, that ends the stream.
        """
        try:
            try:
                async for item in self:
                    await sender.send(item)
            finally:
                await self.aclose()
        finally:
            if close:
                closed = sender.close()
                if hasattr(closed, "__await__"):
                    await closed


@overload
def stream(source: Callable[[], AsyncIterable[T]]) -> Stream[T]: ...


@overload
def stream(source: AsyncIterable[T]) -> Stream[T]: ...


@overload
def stream(source: Iterable[T]) -> Stream[T]: ...


@overload
def stream(source: Callable[[], Iterable[T]]) -> Stream[T]: ...


def stream(source: Any) -> Stream[Any]:
    """A stream of the items of `source`.

    That is an async iterable, an iterable, or a function without arguments that returns one, such as an async
    generator function. The stream takes it over: generators, and other async iterators with `aclose`, are
    closed when it ends, however it ends. A channel's receiver is not, see `from_channel`. Raises TypeError
    for what cannot be iterated.
    """
    return Stream(source)


def from_channel(receiver: AsyncIterable[T], *, close: bool = True) -> Stream[T]:
    """A stream of what a channel's receiver gets, which is closed with the stream unless `close` is False."""
    end = getattr(receiver, "close", None)
    if end is None:
        raise TypeError(f"a channel's receiver has close(), {type(receiver).__name__} has not")
    it = steps.over_async(aiter(receiver))
    return made_of(it, Source(it, end if close else None))


def made_of(it: AsyncIterator[Any], *ups: Step) -> Stream[Any]:
    """A stream whose items are those of `it`, which takes them from `ups`."""
    made: Stream[Any] = Stream.__new__(Stream)
    made._state, made._loop = NEW, None
    made._step = Step(it, *ups)
    return made


def step_of(given: Any) -> Step:
    """The step that stands for a source, a stream among them."""
    return given._take() if isinstance(given, Stream) else steps.source(given)


def is_finished(it: Any) -> bool:
    """Whether an iterator of ours, or an async generator, has come to its end."""
    if isinstance(it, Ahead):
        return it.finished
    return it.ag_frame is None


def close_later(loop: asyncio.AbstractEventLoop, step: Step) -> None:
    task = loop.create_task(step.close())
    closing.add(task)
    task.add_done_callback(closing.discard)
