"""The cells of pipelines: a thousand items through `pinloop.stream`, and the same otherwise.

Each runs on any loop. They compare what a program may be written with, not loops, and so are in no mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from .cells import BATCH, CellFunction

AT_ONCE = 16

CELLS: dict[str, CellFunction] = {}
TITLES: dict[str, str] = {}
NEEDS: dict[str, tuple[str, ...]] = {}


def _cell(name: str, title: str, *needs: str) -> Callable[[Callable[[], object]], object]:
    """Enter a function that puts BATCH items through a pipeline."""

    def enter(function: Callable[[], object]) -> object:
        async def cell(n: int) -> int:
            batches = max(1, n // BATCH)
            for _ in range(batches):
                total = await function()  # type: ignore[misc]
                if total != EXPECTED:
                    raise RuntimeError(f"{name} came to {total}, not {EXPECTED}")
            return batches * BATCH

        CELLS[name], TITLES[name], NEEDS[name] = cell, title, needs
        return function

    return enter


async def _double(number: int) -> int:
    return 2 * number


async def _double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def _wanted(number: int) -> bool:
    return number % 4 == 0


EXPECTED = sum(number for number in range(0, 2 * BATCH, 2) if _wanted(number))


async def _map(items: Iterable[int]) -> AsyncIterator[int]:
    for item in items:
        yield await _double(item)


async def _map_at_once(items: Iterable[int]) -> AsyncIterator[int]:
    """A window of tasks, in order, none of which outlives it."""
    window: deque[asyncio.Task[int]] = deque()
    try:
        for item in items:
            window.append(asyncio.create_task(_double_later(item)))
            if len(window) == AT_ONCE:
                yield await window[0]
                window.popleft()
        while window:
            yield await window[0]
            window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


async def _filter(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for item in items:
        if _wanted(item):
            yield item


async def _sum(items: AsyncIterator[int]) -> int:
    total = 0
    async for item in items:
        total += item
    return total


@_cell("stream-map-1000", "stream, map and filter of 1000, per item")
async def stream_map() -> int:
    from pinloop import stream  # here: the other cells leave pinloop out of the process of another loop

    async with stream(range(BATCH)).map(_double).filter(_wanted) as items:
        return await _sum(aiter(items))


@_cell("generators-map-1000", "generators by hand, map and filter of 1000, per item")
async def generators_map() -> int:
    return await _sum(_filter(_map(range(BATCH))))


@_cell("aiostream-map-1000", "aiostream, map and filter of 1000, per item", "aiostream")
async def aiostream_map() -> int:
    from aiostream import pipe
    from aiostream import stream as operators

    made = operators.iterate(range(BATCH)) | pipe.map(_double) | pipe.filter(_wanted)
    async with made.stream() as items:
        return await _sum(items)


@_cell("asyncstdlib-map-1000", "asyncstdlib, map and filter of 1000, per item", "asyncstdlib")
async def asyncstdlib_map() -> int:
    import asyncstdlib

    return await _sum(asyncstdlib.filter(_wanted, asyncstdlib.map(_double, range(BATCH))))


@_cell("stream-map-16-1000", f"stream, map with {AT_ONCE} at once of 1000, per item")
async def stream_map_at_once() -> int:
    from pinloop import stream

    async with stream(range(BATCH)).map(_double_later, AT_ONCE).filter(_wanted) as items:
        return await _sum(aiter(items))


@_cell("generators-map-16-1000", f"generators by hand, map with {AT_ONCE} at once of 1000, per item")
async def generators_map_at_once() -> int:
    return await _sum(_filter(_map_at_once(range(BATCH))))


@_cell("aiostream-map-16-1000", f"aiostream, map with {AT_ONCE} at once of 1000, per item", "aiostream")
async def aiostream_map_at_once() -> int:
    from aiostream import pipe
    from aiostream import stream as operators

    made = (
        operators.iterate(range(BATCH)) | pipe.map(_double_later, task_limit=AT_ONCE) | pipe.filter(_wanted)
    )
    async with made.stream() as items:
        return await _sum(items)
