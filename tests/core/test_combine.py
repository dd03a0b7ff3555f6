"""A future that is an arm of a join: among whose waiters the call stands, and what else it does meanwhile."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from pinloop import Future, join, race
from tests.conftest import Run


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def waiting(*futures: "asyncio.Future[Any]") -> "asyncio.Task[Any]":
    """A task that waits for them in a join."""
    task = asyncio.create_task(join(*futures))
    await turns(2)
    return task


def test_its_repr_names_the_call(run: Run) -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = await waiting(future)
        assert "cb=[Group.arrived()]" in repr(future)
        future.set_result(1)
        assert await task == (1,)
        assert "cb" not in repr(future)

    run(main())


def test_callbacks_and_others_who_wait_are_told_as_well(run: Run) -> None:
    async def other() -> int:
        return await future

    async def main() -> None:
        nonlocal future
        future = asyncio.get_running_loop().create_future()
        told: list[str] = []
        future.add_done_callback(lambda _: told.append("before"))
        joined, awaiting = await waiting(future), asyncio.create_task(other())
        await turns(1)
        removed = told.append
        future.add_done_callback(lambda _: told.append("after"))
        future.add_done_callback(removed)
        assert future.remove_done_callback(removed) == 1
        future.set_result(42)
        assert await joined == (42,)
        assert await awaiting == 42
        assert told == ["before", "after"]

    future: asyncio.Future[int]
    run(main())


def test_two_calls_wait_for_one_future(run: Run) -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        one, other = await waiting(future), await waiting(future)
        future.set_result(3)
        assert await one == await other == (3,)

    run(main())


def test_the_last_arm_lets_the_caller_go_on_in_the_same_turn(run: Run) -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = await waiting(future)
        future.set_result(1)
        await turns(1)
        assert task.done()

    run(main())


def test_futures_of_both_kinds(run: Run) -> None:
    class Own(Future[int]):
        """A subclass, whose methods may be its own: it is told by a callback."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        arms: list[asyncio.Future[int]] = [Future(loop=loop), asyncio.Future(loop=loop), Own(loop=loop)]
        task = await waiting(*arms)
        for number, arm in enumerate(arms):
            arm.set_result(number)
        assert await task == (0, 1, 2)
        losers: list[asyncio.Future[int]] = [Future(loop=loop), asyncio.Future(loop=loop), Own(loop=loop)]
        assert await race(*losers, asyncio.sleep(0, "won")) == "won"
        assert all(loser.cancelled() for loser in losers)

    run(main())


def test_a_call_that_is_dropped_with_its_arms_is_collected(run: Run) -> None:
    async def main() -> Any:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        call = join(future)
        call.send(None)
        reference = weakref.ref(future)
        del call, future
        return reference

    assert run(main())() is None or gc.collect() >= 0
    reference = run(main())
    gc.collect()
    assert reference() is None


def test_it_is_driven_by_hand(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        call: Any = join(future)
        waited_for = call.send(None)
        assert call.cr_await is waited_for
        assert call.cr_suspended
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            call.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            call.send(None)
        assert future.cancelled()
        other: asyncio.Future[int] = loop.create_future()
        call = join(other, asyncio.sleep(0))
        call.send(None)
        next_one = call.throw(asyncio.CancelledError("by hand"))
        assert next_one is call.cr_await
        await turns(3)
        assert next_one.done()
        with pytest.raises(asyncio.CancelledError, match="by hand"):
            call.send(None)
        call = join(loop.create_future())
        call.send(None)
        with pytest.raises(KeyError):
            call.throw(KeyError)
        call.close()

    run(main())
