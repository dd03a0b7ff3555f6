"""`Workers.map`: a function called with each item of a source, so many at once; the results as a stream."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Sized
from itertools import islice
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar

from .calls import name_of
from .chunk import chunked
from .errors import RemoteTraceback

T = TypeVar("T")

Submit = Callable[[Callable[..., Any], tuple[Any, ...]], asyncio.Task[Any]]


class Mapped(Generic[T]):
    """The results of `pool.map`. Taken one by one by `async for`, or all at once by `await`.

    As a context manager it cancels the calls that are under way when it is left, and waits for them. Without
    that they are cancelled when it is dropped, and the pool waits for them.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._begun = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._course.begin()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next result.

        Raises what the call or the source raised; the other calls have been cancelled and awaited then, and
        nothing comes after it. Cancelled while it waits, it has taken nothing.
        """
        course = self._course
        self._begin()
        try:
            while not course.has_result():
                if course.is_over():
                    await course.close()
                    raise StopAsyncIteration
                await course.wait()
            result: T = course.take()
        except (asyncio.CancelledError, StopAsyncIteration):
            raise
        except BaseException as error:
            await course.close(error)
            raise
        return result

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._all().__await__()

    async def _all(self) -> list[T]:
        course, results = self._course, []
        async with self:
            try:
                self._begin()
                while True:
                    while course.has_result():
                        results += course.take_more()
                    if course.is_over():
                        return results
                    await course.wait()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                await course.close(error)
                raise

    async def aclose(self) -> None:
        """Cancel the calls that are under way, and wait for them. There are no further results."""
        self._begun = True
        await self._course.close()

    def __del__(self) -> None:
        self._course.abandon()


class Course:
    """The calls of one `map`. The source is read ahead of the consumer by as many as may be under way."""

    def __init__(
        self,
        submit: Submit,
        fn: Callable[..., Any],
        source: Iterable[Any] | AsyncIterable[Any],
        star: bool,
        ordered: bool,
        limit: int,
        chunk: int,
        progress: Progress | None,
    ) -> None:
        self._submit = submit
        self._fn = fn
        self._source = source
        self._star = star
        self._ordered = ordered
        self._limit = limit
        self._chunk = chunk
        self._progress = progress
        self._calls: collections.deque[asyncio.Task[Any]] = collections.deque()
        # Under way; in the order of the items, or else what has ended is moved to:
        self._ended: collections.deque[asyncio.Task[Any]] = collections.deque()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._results: collections.deque[Any] = collections.deque()  # of a chunk
        self._error: BaseException | None = None  # that ended the chunk, after these
        self._pump: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._failed: list[BaseException] = []  # errors that nobody has seen

    def begin(self) -> None:
        if not self._closed:
            if self._progress is not None:
                self._progress.start()
            self._pump = asyncio.get_running_loop().create_task(self._read(), name="pinloop map")
            self._pump.add_done_callback(lambda _: self._wake())

    async def _read(self) -> None:
        """Call the function with what the source gives, as long as there is room."""
        alone = self._chunk == 1
        fn: Callable[..., Any] = self._fn if alone else chunked(self._fn, self._star)
        async with _Reader(self._source, self._chunk) as reader:
            while items := await reader.read():
                args = (items,) if not alone else tuple(items[0]) if self._star else (items[0],)
                while len(self._calls) + len(self._ended) >= self._limit:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                call = self._submit(fn, args)
                self._under_way.add(call)
                self._calls.append(call)
                call.add_done_callback(self._on_done)

    def _on_done(self, call: asyncio.Task[Any]) -> None:
        self._under_way.discard(call)
        if self._closed:
            self._note(call)
            return
        if not self._ordered:
            self._calls.remove(call)
            self._ended.append(call)
        self._wake()

    # --------------------------------------------------------------- consumer --

    def has_result(self) -> bool:
        if self._results or self._error is not None or self._ended:
            return True
        return self._ordered and bool(self._calls) and self._calls[0].done()

    def is_over(self) -> bool:
        """Whether nothing more will come. Raises what the source raised."""
        if self._closed:
            return True
        assert self._pump is not None
        if self._calls or not self._pump.done():
            return False
        self._pump.result()
        return True

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and (self.has_result() or not self._calls):
            self._waiter.set_result(None)

    def take(self) -> Any:
        """The next result, which is there, or the error."""
        if not self._results and self._error is None:
            self._results.extend(self._next())
        if not self._results:
            self._raise()
        if self._progress is not None:
            self._progress.advance()
        return self._results.popleft()

    def take_more(self) -> list[Any]:
        """Some of the next results, which are there, or the error."""
        if not self._results and self._error is None:
            more = self._next()
        else:
            more, self._results = list(self._results), collections.deque()
        if not more:
            self._raise()
        if self._progress is not None:
            for _ in more:
                self._progress.advance()
        return more

    def _next(self) -> list[Any]:
        """The results of the next call, which has ended."""
        call = (self._ended or self._calls).popleft()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        outcome = call.result()
        if self._chunk == 1:
            return [outcome]
        results: list[Any]
        results, failure = outcome
        if failure is not None:
            self._error, text = failure
            if text is not None:
                self._error.__cause__ = RemoteTraceback(text)
        return results

    def _raise(self) -> NoReturn:
        assert self._error is not None
        error, self._error = self._error, None
        raise error

    # -------------------------------------------------------------------- end --

    def abandon(self) -> None:
        """Nobody wants the results any more."""
        if self._closed:
            return
        self._closed = True
        self._results.clear()
        self._error = None
        for call in (*self._ended, *self._calls):
            if call.done():
                self._note(call)
        if self._progress is not None:
            self._progress.stop()
        if self._pump is not None and not self._pump.get_loop().is_closed():
            self._pump.cancel()
            for call in self._under_way:
                call.cancel()

    def _note(self, call: asyncio.Task[Any]) -> None:
        if not call.cancelled() and (error := call.exception()) is not None:
            self._failed.append(error)

    async def close(self, error: BaseException | None = None) -> None:
        """End it, and wait for it. Of other calls that failed `error` is told, else the loop."""
        self.abandon()
        self._calls.clear()
        self._ended.clear()
        cancelled: asyncio.CancelledError | None = None
        while left := [task for task in (self._pump, *self._under_way) if task and not task.done()]:
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError as request:  # they have been cancelled already, and are waited for
                cancelled = request
        if self._pump is not None and not self._pump.cancelled():
            self._pump.exception()  # seen
        failed, self._failed = self._failed, []
        if error is not None and failed:
            error.add_note(f"{len(failed)} other calls of the map failed, too; one of them: {failed[0]!r}")
        elif error is None:
            for one in failed:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a call of a map failed, which was closed before", "exception": one}
                )
        if cancelled is not None:
            raise cancelled


class _Reader:
    """Items of a source, as many at a time as go into a call."""

    def __init__(self, source: Iterable[Any] | AsyncIterable[Any], chunk: int) -> None:
        self._chunk = chunk
        self._items: Iterator[Any] | None = None
        self._async_items: Any = None
        if isinstance(source, AsyncIterable):
            self._async_items = aiter(source)
        else:
            self._items = iter(source)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        close = getattr(self._async_items, "aclose", None)
        if close is not None:
            await close()

    async def read(self) -> list[Any]:
        """The next items; none if there are no more."""
        if self._items is not None:
            return list(islice(self._items, self._chunk))
        items: list[Any] = []
        async for item in self._async_items:
            items.append(item)
            if len(items) == self._chunk:
                break
        return items


class Progress:
    """A progress bar, by rich."""

    def __init__(self, fn: Callable[..., Any], total: int | None) -> None:
        try:
            from rich.progress import MofNCompleteColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar
        except ImportError:
            raise ImportError("progress=True needs rich: pip install rich") from None
        columns = (*Bar.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns)
        self._task = self._bar.add_task(name_of(fn), total=total)

    def start(self) -> None:
        self._bar.start()

    def advance(self) -> None:
        self._bar.advance(self._task)

    def stop(self) -> None:
        self._bar.stop()


def mapped(
    submit: Submit,
    fn: Callable[..., Any],
    sources: tuple[Any, ...],
    ordered: bool,
    limit: int,
    chunk: int,
    progress: bool,
) -> Mapped[Any]:
    """Check what `map` was given, and make its results of it."""
    for name, value in (("limit", limit), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, not {value!r}")
    if not sources:
        raise TypeError("map() needs at least one iterable")
    star = len(sources) > 1
    for one in sources:
        if not isinstance(one, Iterable) and (star or not isinstance(one, AsyncIterable)):
            raise TypeError(f"map() takes iterables, or one asynchronous iterable, not {one!r}")
    source = zip(*sources, strict=False) if star else sources[0]
    total = min((len(one) for one in sources if isinstance(one, Sized)), default=None)
    bar = Progress(fn, total) if progress else None
    return Mapped(Course(submit, fn, source, star, ordered, limit, chunk, bar))
