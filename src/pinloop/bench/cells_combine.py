"""The cells of waiting for ten at once: as asyncio has it, and by pinloop's `join` and `race`.

They compare what a program may be written with as much as loops, and so are in no mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from .cells import cell
from .cells_sync import CROWD, NATIVE, both

NAMES = ("join-10", "join-10" + NATIVE, "taskgroup-10", "race-10", "race-10" + NATIVE)


async def _yield_once() -> int:
    await asyncio.sleep(0)
    return 42


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


@both("join-10", "gather or join of 10, per child")
async def join_10(n: int, combine: Any) -> int:
    """`asyncio.gather` or `pinloop.join` over ten coroutines."""
    join = combine.gather if combine is asyncio else combine.join
    for _ in range(n // CROWD):
        await join(*[_yield_once() for _ in range(CROWD)])
    return n // CROWD * CROWD


@cell("taskgroup-10", "TaskGroup of 10, per child")
async def taskgroup_10(n: int) -> int:
    """An `asyncio.TaskGroup` with ten tasks."""
    for _ in range(n // CROWD):
        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(_yield_once())
    return n // CROWD * CROWD


async def _race(*coroutines: Coroutine[Any, Any, Any]) -> Any:
    """A race by asyncio's means: the first to finish wins, the others are cancelled and awaited."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return done.pop().result()


@both("race-10", "race of 10, per child")
async def race_10(n: int, combine: Any) -> int:
    """One of ten finishes, the others wait for ever: by `asyncio.wait`, or `pinloop.race`."""
    race = _race if combine is asyncio else combine.race
    for _ in range(n // CROWD):
        await race(*[_forever() for _ in range(CROWD - 1)], _yield_once())
    return n // CROWD * CROWD
