"""What `Workers.map` calls in a worker where several items go into one call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import starmap
from types import FunctionType
from typing import Any

from .callee import PLAIN, AnyCoroutine, as_coroutine
from .calls import KNOWN_TYPES
from .context import this_worker
from .wire import dumps, dumps_by_value
from .worker import portable

Function = Callable[..., Any]

Outcome = tuple[list[Any], Any]
"""The results up to the first item that failed, and the error of that: as `portable` makes it, or None."""


def chunked(fn: Function, star: bool) -> Chunk:
    """A function of several items: `fn` is called with each, or, with `star`, with what is in each."""
    return (NamedChunk if type(fn) is FunctionType else Chunk)(fn, star)


class Chunk:
    """Calls a function with several items, one after the other.

    A plain function, for the results of plain ones are then the caller's without a task; where a call gives
    a coroutine, the rest is one, too.
    """

    def __init__(self, fn: Function, star: bool) -> None:
        self.fn = fn
        self.star = star
        functools.update_wrapper(self, fn, updated=())
        del self.__wrapped__  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        return chunked, (self.fn, self.star)

    def __call__(self, items: list[Any]) -> Outcome | AnyCoroutine:
        calls: Iterator[Any] = starmap(self.fn, items) if self.star else map(self.fn, items)
        results: list[Any] = []
        add = results.append
        try:
            for result in calls:
                if type(result) not in PLAIN:
                    coro = as_coroutine(result, self.fn)
                    if coro is not None:
                        return self._go_on(Held(coro), calls, results, len(items))
                add(result)
        except Exception as error:
            return results, _sent(error)
        return self._ended(results, len(items))

    async def _go_on(self, first: Held, calls: Iterable[Any], results: list[Any], count: int) -> Outcome:
        try:
            results.append(await first.coro)
            for result in calls:
                coro = None if type(result) in PLAIN else as_coroutine(result, self.fn)
                results.append(result if coro is None else await coro)
        except Exception as error:
            return results, _sent(error)
        return self._ended(results, count)

    @staticmethod
    def _ended(results: list[Any], count: int) -> Outcome:
        if len(results) < count:  # `map` ends there
            return results, _sent(RuntimeError("the function raised StopIteration"))
        return results, None


class Held:
    """A coroutine that is about to be awaited, by a task that may be cancelled before it begins."""

    __slots__ = ("coro",)

    def __init__(self, coro: AnyCoroutine) -> None:
        self.coro = coro

    def __del__(self) -> None:
        self.coro.close()


class NamedChunk(Chunk):
    """One of a function that has a name: the worker is told it once, and those of one function are equal."""

    def __eq__(self, other: object) -> bool:
        return type(other) is NamedChunk and (self.fn, self.star) == (other.fn, other.star)

    def __hash__(self) -> int:
        return hash((self.fn, self.star))


KNOWN_TYPES.add(NamedChunk)


def _sent(error: Exception) -> Any:
    worker = this_worker.get()
    if worker is not None and worker.backend == "thread":
        return error, None
    return portable(error, dumps_by_value if worker is not None and worker.backend == "dask" else dumps)
