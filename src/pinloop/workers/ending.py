"""How a block of workers is left, a pool's or a service's: uninterrupted, and with what is to be raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def uninterrupted(ending: asyncio.Future[Any], cut: Callable[[], None]) -> BaseException | None:
    """Wait for the workers to end; when cancelled, `cut` and wait on. Returns the last of these, if any."""
    cancelled: BaseException | None = None
    while not ending.done():
        try:
            await asyncio.wait([ending])
        except asyncio.CancelledError as error:
            cancelled = error
            cut()
    ending.result()
    return cancelled


def conclude(
    exc: BaseException | None,
    end: BaseException | None,
    failure: BaseException | None,
    problems: list[BaseException],
    report: Callable[[BaseException], None],
) -> bool:
    """Raise what is to be raised at the end of the block, and report the rest; whether `exc` is swallowed.

    `exc` is what the block was left by, `end` what came of that; `failure` is that of the workers as a whole,
    and `problems` are those that they had while they ended.
    """
    if failure is not None:
        if isinstance(end, asyncio.CancelledError):
            problems.insert(0, failure)
        else:
            end = failure
    if end is None and problems:
        if len(problems) == 1:
            raise problems[0]
        raise BaseExceptionGroup("workers did not end well", problems)
    for problem in problems:
        report(problem)
    if end is not None and end is not exc:
        raise end
    return end is None and exc is not None
