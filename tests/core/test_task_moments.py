"""Cancelling at each moment of a program: it says what it says with asyncio's classes."""

import asyncio
from typing import Any

import pytest

from tests.core.test_task_cancel import outcome
from tests.core.worlds import MAKERS, made


class Programs:
    """Programs that write down where they are."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def sleep(self) -> None:
        for number in range(3):
            await asyncio.sleep(0)
            self.log.append(number)

    async def future(self) -> None:
        waited = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: waited.done() or waited.set_result(42))
        self.log.append(await waited)
        await self.sleep()

    async def task(self) -> None:
        self.log.append(await asyncio.create_task(self.sleep()))
        await asyncio.gather(self.sleep(), self.sleep())

    async def final(self) -> None:
        try:
            await self.sleep()
        finally:
            self.log.append("finally")
            await asyncio.shield(asyncio.create_task(self.sleep()))

    async def group(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sleep())
            tasks.create_task(self.future())
        self.log.append("group")

    async def timeout(self) -> None:
        try:
            async with asyncio.timeout(3600):
                await asyncio.wait_for(self.sleep(), 3600)
        finally:
            self.log.append("timeout")

    async def lock(self) -> None:
        held = asyncio.Lock()

        async def enter(name: str) -> None:
            async with held:
                self.log.append(name)
                await asyncio.sleep(0)

        async with held:
            others = [asyncio.create_task(enter(name)) for name in "ab"]
            await asyncio.sleep(0)
        await asyncio.gather(*others)

    async def queue(self) -> None:
        items: asyncio.Queue[int] = asyncio.Queue(1)

        async def put() -> None:
            for item in range(3):
                await items.put(item)

        putting = asyncio.create_task(put())
        try:
            self.log.extend([await items.get() for _ in range(3)])
        finally:
            putting.cancel()


def trace(name: str, shape: str) -> list[Any]:
    """What a program says that is cancelled after 0, 1, 2 … turns."""
    log: list[Any] = []
    for turns in range(12):
        with made(name) as world:
            task = world.loop.create_task(getattr(Programs(log), shape)())
            world.turn(turns)
            log.append((turns, "cancel", task.cancel("mine")))
            for _ in range(12):
                world.turn()
                log.append(task.done())
            log.append(outcome(task))
            left = asyncio.all_tasks(world.loop)
            log.append(len(left))
            for each in left:
                each.cancel()
            world.turn(5)
    return log


@pytest.mark.parametrize("shape", [name for name in vars(Programs) if not name.startswith("_")])
def test_a_cancellation_at_each_turn_ends_the_same_way(shape: str) -> None:
    expected = trace("asyncio", shape)
    for name in MAKERS:
        assert trace(name, shape) == expected, name
