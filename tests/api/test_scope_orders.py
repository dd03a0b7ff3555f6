"""Scopes under many orders of their tasks, in virtual time."""

import asyncio

from pinloop import Scope, TaskStatus, fail_after, move_on_after, scope
from tests.api.laws import law
from tests.api.support import this_task

under_many_orders = law(seeds=300)
"""Each starts from nothing, and leaves no task behind: that is looked after by `explore`."""


async def forever() -> None:
    await asyncio.Event().wait()


@under_many_orders
async def test_deadlines_fire_in_order() -> None:
    loop = asyncio.get_running_loop()
    ended: list[float] = []

    async def nested(delays: list[float]) -> None:
        async with move_on_after(delays[0]) as s:
            if len(delays) > 1:
                await nested(delays[1:])
            await forever()
        assert s.cancelled_caught
        assert loop.time() >= delays[0]
        ended.append(delays[0])

    async with scope() as s:
        s.spawn(nested([9.0, 7.0, 4.0]))
        s.spawn(nested([8.0, 3.0]))
        s.spawn(nested([1.0]))
    assert ended == [1.0, 3.0, 4.0, 7.0, 8.0, 9.0]
    assert loop.time() < 9.1


@under_many_orders
async def test_the_deadline_of_an_outer_scope_ends_all_in_it() -> None:
    loop = asyncio.get_running_loop()
    cleaned: list[str] = []

    async def worker(name: str) -> None:
        try:
            async with move_on_after(60), scope() as s:
                s.spawn(forever())
                await forever()
        finally:
            async with scope(shield=True) as shielded:
                shielded.spawn(asyncio.sleep(1))
            cleaned.append(name)

    try:
        async with fail_after(2) as s:
            for name in "abc":
                s.spawn(worker(name))
            await worker("body")
    except TimeoutError:
        pass
    else:
        raise AssertionError("no TimeoutError")
    assert sorted(cleaned) == ["a", "b", "body", "c"]
    assert 3 <= loop.time() < 3.1


@under_many_orders
async def test_ready_failed_and_cancelled_race_in_start() -> None:
    outcomes: list[str] = []

    async def child(*, task_status: TaskStatus) -> None:
        await turn.wait()
        raise KeyError

    async def starter(s: Scope) -> None:
        try:
            await s.start(child)
        except KeyError:
            outcomes.append("raised by start")
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise

    async def canceller(task: "asyncio.Task[None]") -> None:
        await turn.wait()
        task.cancel()

    turn = asyncio.Event()
    try:
        async with scope() as s, scope() as callers:
            waiting = callers.spawn(starter(s))
            callers.spawn(canceller(waiting))
            await asyncio.sleep(1)
            turn.set()
    except* KeyError:
        outcomes.append("raised by the scope")
    # The error is somewhere, and once; only a child that was cancelled first had none.
    errors = [outcome for outcome in outcomes if outcome.startswith("raised")]
    assert len(errors) <= 1
    assert errors or outcomes == ["cancelled"]
    assert len(outcomes) <= 2


@under_many_orders
async def test_a_limit_holds_and_passes_every_place_on() -> None:
    running = most = 0
    begun: list[int] = []

    async def work(i: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.append(i)
        try:
            await asyncio.sleep(i % 3)
        finally:
            running -= 1

    async def disturb(tasks: "list[asyncio.Task[None]]") -> None:
        for i in (3, 4, 9):
            tasks[i].cancel()
            await asyncio.sleep(0)

    async with scope(limit=3) as s:
        tasks = [s.spawn(work(i)) for i in range(12)]
        async with scope() as others:
            others.spawn(disturb(tasks))
    assert most == 3
    assert running == 0
    for i, task in enumerate(tasks):
        assert task.cancelled() or i in begun


@under_many_orders
async def test_whoever_cancels_first_all_end_once() -> None:
    ended: list[str] = []

    async def child(s: Scope, name: str) -> None:
        try:
            await asyncio.sleep(1)
            s.cancel(name)
            await forever()
        finally:
            await asyncio.sleep(1)  # undisturbed: each is asked once
            ended.append(name)

    async with scope() as s:
        for name in "abcd":
            s.spawn(child(s, name))
        async with scope() as inner:
            inner.spawn(child(s, "inner"))
    assert sorted(ended) == ["a", "b", "c", "d", "inner"]
    assert s.cancel_reason in ended
    assert s.cancelled_caught
    assert this_task().cancelling() == 0
