"""What the tests of `pinloop.stream` need: sources that count, functions that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.api.laws import law

SEEDS = 60


def orders(test: Callable[..., Any]) -> Callable[..., None]:
    """The test under many orders of its tasks, which leave no task and no generator behind."""
    return law(SEEDS)(test)


class Source:
    """An async generator function over numbers that knows how far it was read, and whether it was closed."""

    def __init__(
        self, count: int | None = None, error: BaseException | None = None, pause: float = -1
    ) -> None:
        self.count = count
        self.error = error
        self.pause = pause
        self.begun = self.given = self.closed = 0
        self.tasks: set[asyncio.Task[Any] | None] = set()

    async def __call__(self) -> AsyncIterator[int]:
        self.begun += 1
        self.tasks.add(asyncio.current_task())
        try:
            while self.given != self.count:
                if self.pause >= 0:
                    await asyncio.sleep(self.pause)
                self.given += 1
                self.tasks.add(asyncio.current_task())
                yield self.given - 1
            if self.error is not None:
                raise self.error
        finally:
            try:
                await asyncio.sleep(0)  # where it ends as it is cancelled, this is
            finally:
                self.closed += 1
                self.tasks.add(asyncio.current_task())


class Calls:
    """A function for `map` that takes some time and knows how many of its calls run, and how they ended."""

    def __init__(self, fails: dict[int, BaseException] | None = None, seconds: float = 1) -> None:
        self.fails = fails or {}
        self.seconds = seconds
        self.running = self.most = self.begun = self.cancelled = 0

    async def __call__(self, item: int) -> int:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
            if item in self.fails:
                raise self.fails[item]
            return item * item
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # to be cleaned up takes a while
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def settle() -> None:
    """Long enough for whatever runs in the background to come as far as it can."""
    await asyncio.sleep(100)
