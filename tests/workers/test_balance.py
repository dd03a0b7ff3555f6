"""Balance: calls that wait in a worker while another has next to nothing to do are made there instead."""

import asyncio
import collections
import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pinloop import scope
from pinloop.workers import Restart, WorkerCrashed, Workers, WorkersClosed
from pinloop.workers.balance import balance
from pinloop.workers.calls import Caller
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import Use, pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

pytestmark = pytest.mark.usefixtures("no_process_left")


class Fake:
    """What `balance` sees of a caller."""

    def __init__(self, calls: int, may_recall: bool = True, rests_until: float = 0) -> None:
        self.calls = range(calls)
        self.may_recall = may_recall
        self.rests_until = rests_until
        self.asked: list[int] = []

    def recall(self, many: int) -> None:
        self.asked.append(many)


@pytest.mark.parametrize(
    ("calls", "asked"),
    [
        ([], []),
        ([9], [0]),
        ([0, 0], [0, 0]),
        ([0, 1], [0, 0]),
        ([1, 2], [0, 0]),
        ([2, 9], [0, 0]),  # both have something to do yet
        ([0, 2], [0, 1]),
        ([1, 3], [0, 1]),
        ([10, 0], [5, 0]),
        ([11, 0], [5, 0]),
        ([1, 100], [0, 49]),
        ([0, 5, 0, 12, 0], [0, 0, 0, 9, 0]),
    ],
)
def test_how_many_are_asked_for(calls: list[int], asked: list[int]) -> None:
    fakes = [Fake(count) for count in calls]
    assert balance(fakes, 0) is None  # type: ignore[arg-type]
    assert [sum(fake.asked) for fake in fakes] == asked
    assert sum(len(fake.asked) for fake in fakes) <= 1


def test_one_that_has_none_to_give_is_not_asked() -> None:
    fakes = [Fake(0), Fake(50, may_recall=False), Fake(20, rests_until=2), Fake(8, rests_until=1)]
    assert balance(fakes, 1) is None  # type: ignore[arg-type]
    assert [fake.asked for fake in fakes] == [[], [], [], [4]]


def test_when_to_look_again() -> None:
    fakes = [Fake(0), Fake(50, rests_until=3), Fake(8, rests_until=2)]
    assert balance(fakes, 1) == 2  # type: ignore[arg-type]
    assert not any(fake.asked for fake in fakes)
    assert balance(fakes, 4) is None  # type: ignore[arg-type]
    assert [fake.asked for fake in fakes] == [[], [25], []]


# --------------------------------------------------------------------------------- with workers --


class Gate:
    """Worker 0 of a pool, blocked until it is let go on."""

    def __init__(self, pool: Workers, path: Path) -> None:
        self._pool = pool
        self._opened = path / "opened"

    async def close(self, told: Told) -> None:
        path, wait_for = told
        self.call = self._pool[0].submit(jobs.wait_for_file, path, str(self._opened))
        await wait_for("running")

    async def open(self) -> None:
        self._opened.touch()
        await self.call


@pytest.fixture
def gate_of(told: Told, tmp_path: Path) -> Callable[[Workers], Awaitable[Gate]]:
    async def gate_of(pool: Workers) -> Gate:
        gate = Gate(pool, tmp_path)
        await gate.close(told)
        return gate

    return gate_of


GateOf = Callable[[Workers], Awaitable[Gate]]

# The most that worker 1 does of 60 calls where nothing is balanced. How many more it does depends on time:
# worker 0 goes on with what waits behind its gate until it has read that it should give some back.
HALF = 31


async def idle(pool: Workers, calls: list[asyncio.Task[Any]]) -> None:
    """Wait until worker 1 has done its calls, and has been found to have none left."""
    await asyncio.sleep(0)  # they are made
    while pool[1].calls:
        await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(3):
        await asyncio.sleep(0)


def indexes(found: list[int]) -> dict[int, int]:
    return dict(collections.Counter(found))


def test_what_waits_in_a_busy_worker_is_done_by_an_idle_one(use: Use, gate_of: GateOf) -> None:
    async def test(pool: Workers) -> None:
        gate = await gate_of(pool)
        calls = [pool.submit(jobs.busy, 0.002) for _ in range(60)]  # half of them wait behind the gate
        await idle(pool, calls)
        await gate.open()
        assert indexes(await asyncio.gather(*calls))[1] > HALF

    use(test)


def test_coroutines_that_compute_too(use: Use, gate_of: GateOf) -> None:
    async def test(pool: Workers) -> None:
        gate = await gate_of(pool)
        calls = [pool.submit(jobs.busy_later, 0.002) for _ in range(60)]
        await idle(pool, calls)
        await gate.open()
        assert indexes(await asyncio.gather(*calls))[1] > HALF

    use(test)


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize("size", [3, 1 << 18])
def test_arguments_are_those_of_the_call(use: Use, gate_of: GateOf, size: int) -> None:
    """However often they are pickled, and whatever became of them here meanwhile."""

    async def test(pool: Workers) -> None:
        gate = await gate_of(pool)
        values = [bytearray(3) for _ in range(28)] + [bytearray(size), bytearray(size)]
        calls = [pool.submit(jobs.busy_length, value) for value in values]
        calls += [pool.submit(partial(jobs.busy_length, value)) for value in values]
        await idle(pool, calls)
        for value in values:
            value.clear()
        await gate.open()
        found = await asyncio.gather(*calls)
        assert {length for length, _ in found} == {3, size}
        assert indexes([index for _, index in found])[1] > HALF

    use(test)


@pytest.mark.usefixtures("pickling")
@pytest.mark.parametrize("kind", [jobs.PickledOnce, jobs.UnpickledThere])
def test_arguments_that_cannot_come_back(use: Use, gate_of: GateOf, kind: Callable[[], Any]) -> None:
    async def test(pool: Workers) -> None:
        gate = await gate_of(pool)
        calls = [pool.submit(jobs.busy_with, kind()) for _ in range(60)]
        await idle(pool, calls)
        await gate.open()
        moved = indexes(await asyncio.gather(*calls))[1] > HALF
        assert moved == (kind is jobs.UnpickledThere)

    use(test)


def test_calls_of_one_worker_stay_there(use: Use, gate_of: GateOf) -> None:
    async def test(pool: Workers) -> None:
        gate = await gate_of(pool)
        there = [pool[0].submit(jobs.busy, 0.001) for _ in range(4)]
        anywhere = [pool.submit(jobs.busy, 0.001) for _ in range(60)]  # 27 or 28 of them there
        await idle(pool, anywhere)
        await gate.open()
        assert await asyncio.gather(*there) == [0] * 4
        assert indexes(await asyncio.gather(*anywhere))[1] > 33

    use(test)


def test_a_call_that_is_cancelled_when_it_has_been_asked_for(
    use: Use, gate_of: GateOf, tmp_path: Path
) -> None:
    async def test(pool: Workers) -> None:
        gate = await gate_of(pool)
        log = str(tmp_path / "log")
        calls = [pool.submit(jobs.busy_told, log, i) for i in range(20)]
        await idle(pool, calls)
        waiting = [call for call in calls if not call.done()]
        assert len(waiting) >= 9
        for call in waiting:
            call.cancel()
        done, _ = await asyncio.wait(waiting, timeout=0.02)
        assert not done  # their worker has not said yet that they will not be made
        await gate.open()
        await asyncio.wait(waiting)
        assert all(call.cancelled() for call in waiting)
        numbers = Path(log).read_text().split()
        assert len(numbers) == len(set(numbers)) <= len(calls) - len(waiting) + 1  # the first may have begun

    use(test)


def test_a_worker_that_has_calls_of_others_when_it_is_killed(run: Run, told: Told, tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(2) as pool, asyncio.timeout(20):
            gate = Gate(pool, tmp_path)
            await gate.close(told)
            calls = [pool.submit(jobs.busy, 0.001) for _ in range(20)]
            await idle(pool, calls)
            assert pool[0].pid is not None
            os.kill(pool[0].pid, 9)
            results = await asyncio.gather(gate.call, *calls, return_exceptions=True)
            assert sum(isinstance(result, WorkerCrashed) for result in results) >= 10
            assert {result for result in results if not isinstance(result, WorkerCrashed)} == {1}

    run(main())


def test_a_pool_that_is_left_while_calls_come_back(run: Run, told: Told, tmp_path: Path) -> None:
    async def call(pool: Workers) -> int:
        return await pool.run(jobs.busy, 0.001)

    async def main() -> None:
        calls: list[asyncio.Task[int]] = []
        with pytest.raises(ZeroDivisionError):
            async with pool_of(2) as pool, asyncio.timeout(20):
                gate = Gate(pool, tmp_path)
                await gate.close(told)
                calls += [asyncio.create_task(call(pool)) for _ in range(20)]
                await idle(pool, calls)
                asyncio.get_running_loop().call_later(0.01, gate._opened.touch)
                raise ZeroDivisionError
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(result in (0, 1) or isinstance(result, WorkersClosed) for result in results)
        assert any(isinstance(result, WorkersClosed) for result in results)

    run(main())


def test_a_worker_whose_calls_have_all_begun_is_asked_once(
    use: Use, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    recall = Caller.recall

    def noted(caller: Caller, many: int) -> None:
        asked.append(many)
        recall(caller, many)

    async def test(pool: Workers) -> None:
        monkeypatch.setattr(Caller, "recall", noted)
        path, wait_for = told
        begun = [pool[0].submit(jobs.wait_in_file, path, i) for i in range(10)]
        await wait_for("running 9")
        for _ in range(50):
            await asyncio.gather(pool.run(jobs.add, 1, 2), pool.run(jobs.add, 1, 2))
        assert len(asked) == 1
        for call in begun:
            call.cancel()
        await asyncio.wait(begun)

    use(test)


def test_each_call_is_made_once_however_it_moves(use: Use, tmp_path: Path) -> None:
    """Calls of all lengths, some cancelled at any time, some with a deadline: none is lost, or made twice."""
    chance = random.Random(11)
    log = str(tmp_path / "log")
    ends: collections.Counter[str] = collections.Counter()

    async def call(pool: Workers, x: int) -> None:
        patience = chance.choice((None, None, None, chance.uniform(0, 0.3)))
        async with scope(deadline=None if patience is None else asyncio.get_running_loop().time() + patience):
            assert await pool.run(jobs.busy_told, log, x, chance.choice((0, 0, 0, 0.001, 0.01))) in (0, 1)
            ends["done"] += 1
            done.add(x)

    done: set[int] = set()

    async def test(pool: Workers) -> None:
        async with asyncio.timeout(50):
            tasks = [asyncio.create_task(call(pool, x)) for x in range(1000)]
            victims = chance.sample(tasks, 200)
            while victims:
                await asyncio.sleep(0.001)
                victims.pop().cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        ends["cancelled"] = sum(isinstance(result, asyncio.CancelledError) for result in results)
        assert not [result for result in results if isinstance(result, Exception)]
        numbers = list(map(int, Path(log).read_text().split()))
        assert len(numbers) == len(set(numbers))
        assert done <= set(numbers)
        assert ends["done"] > 500

    use(test)


def test_a_worker_that_is_up_again_takes_its_share(run: Run, told: Told, tmp_path: Path) -> None:
    """While it was down, all calls went to the other one."""

    async def main() -> None:
        async with pool_of(2, restart=Restart(10)) as pool, asyncio.timeout(20):
            gate = Gate(pool, tmp_path)
            await gate.close(told)
            with pytest.raises(WorkerCrashed):
                await pool[1].run(jobs.kill_yourself)
            assert pool[1].pid is None
            calls = [pool.submit(jobs.busy, 0.002) for _ in range(60)]
            while pool[1].pid is None:
                await asyncio.sleep(0.001)
            await gate.open()
            assert indexes(await asyncio.gather(*calls)).get(1, 0) > 10

    run(main())
