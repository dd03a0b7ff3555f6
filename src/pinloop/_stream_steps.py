"""The steps of a stream that run in the task of who pulls: nothing is done that nobody waits for.

Each is an async generator over the step before it. It closes that one when it ends, however it ends; a step
that has not begun cannot, which is why `Step.close` goes all the way up by itself.
"""

from __future__ import annotations

import asyncio
import inspect
import operator
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from ._core import timeout_at, yield_now

TURN = 256
"""So many items of a plain iterable are handed on before the others have their turn."""

AnyFunction = Callable[[Any], Any]


class Step:
    """A step of a stream: the iterator that is pulled, and the steps that it pulls from."""

    __slots__ = ("it", "ups")

    def __init__(self, it: AsyncIterator[Any], *ups: Step) -> None:
        self.it = it
        self.ups = ups

    async def close(self) -> None:
        """Close it and all before it; done once, it does nothing the next time."""
        aclose = getattr(self.it, "aclose", None)
        try:
            if aclose is not None:
                await aclose()
        finally:
            await close_all(self.ups)


class Source(Step):
    """What a step takes its items from that is not part of the stream, but ends with it."""

    __slots__ = ("_end",)

    def __init__(self, it: AsyncIterator[Any], end: Callable[[], Any] | None) -> None:
        super().__init__(it)
        self._end = end

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            end, self._end = self._end, None
            if end is not None:
                ended = end()
                if inspect.isawaitable(ended):
                    await ended


async def close_all(steps: tuple[Step, ...]) -> None:
    """Close several; what one raises does not keep the others from being closed."""
    if steps:
        try:
            await steps[0].close()
        finally:
            await close_all(steps[1:])


def source(given: Any) -> Step:
    """The first step, of what `stream` takes."""
    if not isinstance(given, (AsyncIterable, Iterable)) and callable(given):
        made = given()
        if inspect.iscoroutine(made):
            made.close()
            raise TypeError(
                f"a stream is made of an async generator function, not of {given!r}: it has no yield"
            )
        given = made
    if isinstance(given, AsyncIterable):
        iterator = aiter(given)
        if inspect.isasyncgen(iterator):
            return Source(iterator, None)
        # That it has ended can be told of a generator only.
        return Source(over_async(iterator), getattr(iterator, "aclose", None))
    if isinstance(given, Iterable):
        plain = iter(given)
        return Source(over(plain), getattr(plain, "close", None))
    raise TypeError(f"a stream is made of what can be iterated, not of {type(given).__name__}")


async def over(items: Iterable[Any]) -> AsyncGenerator[Any, None]:
    left = TURN
    for item in items:
        yield item
        left -= 1
        if not left:
            left = TURN
            await yield_now()


async def over_async(items: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for item in items:
        yield item


async def mapped(up: Step, function: AnyFunction) -> AsyncGenerator[Any, None]:
    try:
        async for item in up.it:
            value = function(item)
            if hasattr(value, "__await__"):
                value = await value
            yield value
    finally:
        await up.close()


async def filtered(up: Step, predicate: AnyFunction) -> AsyncGenerator[Any, None]:
    try:
        async for item in up.it:
            wanted = predicate(item)
            if hasattr(wanted, "__await__"):
                wanted = await wanted
            if wanted:
                yield item
    finally:
        await up.close()


async def flat_mapped(
    up: Step, function: AnyFunction, step_of: Callable[[Any], Step]
) -> AsyncGenerator[Any, None]:
    try:
        async for item in up.it:
            given = function(item)
            if hasattr(given, "__await__"):
                given = await given
            inner = step_of(given)
            try:
                async for value in inner.it:
                    yield value
            finally:
                await inner.close()
    finally:
        await up.close()


async def chunked(up: Step, size: int) -> AsyncGenerator[list[Any], None]:
    chunk: list[Any] = []
    error: Exception | None = None
    try:
        try:
            async for item in up.it:
                chunk.append(item)
                if len(chunk) == size:
                    full, chunk = chunk, []
                    yield full
        except Exception as failure:  # what came before it is handed on before it
            error = failure
        if chunk:
            yield chunk
        if error is not None:
            raise error
    finally:
        error = None
        await up.close()


async def taken(up: Step, count: int) -> AsyncGenerator[Any, None]:
    try:
        if count:
            async for item in up.it:
                yield item
                count -= 1
                if not count:
                    break
    finally:
        await up.close()


async def skipped(up: Step, count: int) -> AsyncGenerator[Any, None]:
    try:
        async for item in up.it:
            if count:
                count -= 1
            else:
                yield item
    finally:
        await up.close()


async def taken_while(up: Step, predicate: AnyFunction) -> AsyncGenerator[Any, None]:
    try:
        async for item in up.it:
            goes_on = predicate(item)
            if hasattr(goes_on, "__await__"):
                goes_on = await goes_on
            if not goes_on:
                break
            yield item
    finally:
        await up.close()


async def skipped_while(up: Step, predicate: AnyFunction) -> AsyncGenerator[Any, None]:
    skips = True
    try:
        async for item in up.it:
            if skips:
                skips = predicate(item)
                if hasattr(skips, "__await__"):
                    skips = await skips
                if skips:
                    continue
            yield item
    finally:
        await up.close()


async def zipped(ups: tuple[Step, ...], strict: bool) -> AsyncGenerator[tuple[Any, ...], None]:
    try:
        while True:
            row = []
            for place, up in enumerate(ups):
                try:
                    row.append(await anext(up.it))
                except StopAsyncIteration:
                    if strict:
                        await check_zip(ups, place)
                    return
            yield tuple(row)
    finally:
        await close_all(ups)


async def check_zip(ups: tuple[Step, ...], ended: int) -> None:
    """The one at `ended` has ended: with `strict` all others must have too."""
    if ended:
        raise ValueError(f"zip(): stream {ended + 1} is shorter than those before it")
    for place, up in enumerate(ups[1:], 2):
        try:
            await anext(up.it)
        except StopAsyncIteration:
            continue
        raise ValueError(f"zip(): stream {place} is longer than those before it")


async def throttled(up: Step, rate: int, per: float) -> AsyncGenerator[Any, None]:
    loop = asyncio.get_running_loop()
    last: deque[float] = deque(maxlen=rate)  # when the last `rate` items were handed on
    try:
        async for item in up.it:
            if len(last) == rate:
                await sleep_until(loop, last[0] + per)
            last.append(loop.time())
            yield item
    finally:
        await up.close()


async def sleep_until(loop: asyncio.AbstractEventLoop, when: float) -> None:
    """Until it is `when`, not a moment earlier, which some loops' timers are."""
    while loop.time() < when:
        due = loop.create_future()
        timer = loop.call_at(when, resolve, due)
        try:
            await due
        finally:
            timer.cancel()


def resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def timed(up: Step, item: float | None, idle: float | None) -> AsyncGenerator[Any, None]:
    loop = asyncio.get_running_loop()
    last = loop.time()
    try:
        while True:
            now = loop.time()
            limits = []
            if item is not None:
                limits.append((now + item, f"no item within {item:g} s"))
            if idle is not None:
                limits.append((last + idle, f"no item for {idle:g} s"))
            when, message = min(limits)
            try:
                async with timeout_at(when) as limit:
                    value = await anext(up.it)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise TimeoutError(message) from error
            last = loop.time()
            yield value
    finally:
        await up.close()


def checked_count(count: Any, what: str, least: int) -> int:
    """A number of items."""
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {type(count).__name__}") from None
    if number < least:
        raise ValueError(f"{what} must be {least} or more, not {count!r}")
    return number


def checked_function(function: Any) -> AnyFunction:
    if not callable(function):
        raise TypeError(f"a function was expected, not {type(function).__name__}")
    return function  # type: ignore[no-any-return]
