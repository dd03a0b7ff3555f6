"""map, for_key and pool[i].scope()."""

import asyncio
import collections
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop.workers import RemoteTraceback, Unpicklable, WorkerCrashed, Workers, keys
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import Use, pool_of

Told = tuple[str, Callable[[str], Awaitable[None]]]

# --------------------------------------------------------------------------------------------- map --


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("ordered", [True, False])
def test_map(use: Use, chunk: int, ordered: bool) -> None:
    async def test(pool: Workers) -> None:
        squares = [x * x for x in range(100)]
        got = await pool.map(jobs.square_slowly, range(100), ordered=ordered, chunk=chunk)
        assert got == squares if ordered else sorted(got) == squares
        got = [x async for x in pool.map(jobs.square, range(100), ordered=ordered, chunk=chunk)]
        assert got == squares if ordered else sorted(got) == squares

    use(test)


def test_several_iterables_and_asynchronous_ones(use: Use) -> None:
    async def count() -> AsyncIterator[int]:
        for i in range(5):
            await asyncio.sleep(0)
            yield i

    async def test(pool: Workers) -> None:
        assert await pool.map(jobs.add, [1, 2, 3], range(10, 20)) == [11, 13, 15]
        for chunk in (1, 2):
            assert await pool.map(jobs.square, count(), chunk=chunk) == [0, 1, 4, 9, 16]
        assert await pool.map(jobs.square, []) == []

    use(test)


def test_the_source_is_read_as_far_as_the_limit(use: Use) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for i in range(100):
            read.append(i)
            yield i

    async def test(pool: Workers) -> None:
        async with pool.map(jobs.square, source(), limit=4) as results:
            assert not read
            taken = 0
            async for _ in results:
                taken += 1
                assert len(read) <= taken + 4
                await asyncio.sleep(0)
        assert taken == 100

    use(test)


@pytest.mark.parametrize("chunk", [1, 4])
def test_the_first_error_ends_it(use: Use, chunk: int) -> None:
    async def test(pool: Workers) -> None:
        seen: list[int] = []
        with pytest.raises(LookupError, match="at 10") as caught:
            async for x in pool.map(partial(jobs.fails_at, bad=10), range(1000), chunk=chunk):
                seen += [x]
        assert seen == list(range(10))
        assert isinstance(caught.value.__cause__, RemoteTraceback) == (pool.backend != "thread")

    use(test)


def test_other_errors_are_told_in_a_note(use: Use, tmp_path: Path) -> None:
    path = str(tmp_path / "go")

    async def failed(pool: Workers) -> int:
        return sum(worker.failed for worker in (await pool.metrics()).workers)

    async def test(pool: Workers) -> None:
        before = await failed(pool)

        async def when_others_have_failed() -> None:
            async with asyncio.timeout(20):
                while await failed(pool) < before + 2:
                    await asyncio.sleep(0)
            jobs.report(path, "go")

        async with pinloop.scope() as scope:
            scope.spawn(when_others_have_failed())
            with pytest.raises(LookupError) as caught:
                await pool.map(jobs.fail_after, ["a", "b", "c"], [path, None, None])
        assert str(caught.value) == "a"
        assert any("2 other calls of the map failed" in note for note in caught.value.__notes__)

    use(test)


def test_an_error_of_the_source_comes_after_the_results(use: Use) -> None:
    def source() -> Iterator[int]:
        yield from range(3)
        raise ZeroDivisionError("source")

    async def test(pool: Workers) -> None:
        seen: list[int] = []
        with pytest.raises(ZeroDivisionError, match="source"):
            async for x in pool.map(jobs.square, source()):
                seen += [x]
        assert seen == [0, 1, 4]

    use(test)


@pytest.mark.parametrize("how", ["error", "break", "cancel", "close"])
def test_left_early_the_rest_is_cancelled_and_awaited(use: Use, told: Told, how: str) -> None:
    path, wait_for = told

    async def test(pool: Workers) -> None:
        async def body() -> None:
            async with pool.map(partial(jobs.wait_in_file, path), range(3)) as results:
                waiting = asyncio.ensure_future(anext(results))
                for number in range(3):
                    await wait_for(f"running {number}")
                waiting.cancel()
                await asyncio.wait([waiting])
                if how == "error":
                    raise ZeroDivisionError
                if how == "cancel":
                    asyncio.current_task().cancel()  # type: ignore[union-attr]
                if how == "close":
                    await results.aclose()
                    with pytest.raises(StopAsyncIteration):
                        await anext(results)

        task = asyncio.ensure_future(body())
        await asyncio.wait([task])
        assert task.cancelled() if how == "cancel" else bool(task.exception()) == (how == "error")
        assert sum(line.startswith("cancelled") for line in Path(path).read_text().splitlines()) == 3

    use(test)


def test_dropped_its_calls_are_cancelled(use: Use, told: Told) -> None:
    path, wait_for = told

    async def test(pool: Workers) -> None:
        results = pool.map(partial(jobs.wait_in_file, path), range(2))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(results)
        await wait_for("running 1")
        del results
        await wait_for("cancelled 1")
        while any(worker.calls for worker in pool):
            await asyncio.sleep(0.001)

    use(test)


def test_a_result_taken_or_not_is_there_after_a_timeout(use: Use, told: Told) -> None:
    async def test(pool: Workers) -> None:
        async with pool.map(jobs.square_slowly, [2, 2, 2]) as results:
            seen = []
            while len(seen) < 3:
                try:
                    async with asyncio.timeout(0.0005):
                        seen.append(await anext(results))
                except TimeoutError:
                    continue
        assert seen == [4, 4, 4]

    use(test)


@pytest.mark.usefixtures("pickling")
def test_errors_name_the_function(use: Use) -> None:
    async def test(pool: Workers) -> None:
        for chunk in (1, 2):
            with pytest.raises(Unpicklable, match=r"the result of tests\.workers\.jobs\.make_lock "):
                await pool.map(jobs.make_lock, range(3), chunk=chunk)

    use(test)


def test_a_chunk_takes_what_functions_give(use: Use) -> None:
    async def test(pool: Workers) -> None:
        pairs = [(1, 2), (3, 4), (5, 6)]
        assert await pool.map(jobs.plain_first, pairs, chunk=2) == [1, 3, 5]  # an item is one argument
        assert await pool.map(jobs.add, [1, 3, 5], [2, 4, 6], chunk=2) == [3, 7, 11]
        assert await pool.map(jobs.now_or_later, range(7), chunk=4) == list(range(7))
        assert await pool.map(partial(jobs.now_or_later, odd=False), range(7), chunk=4) == list(range(7))

    use(test)


def test_a_chunk_is_told_what_ended_it(use: Use) -> None:
    async def test(pool: Workers) -> None:
        for fn, error in ((jobs.stops_at_3, RuntimeError), (jobs.later_fails_at_3, LookupError)):
            got = []
            with pytest.raises(error):
                async for x in pool.map(fn, range(10), chunk=5):
                    got.append(x)  # noqa: PERF401 - what came before the error counts
            assert got == [0, 1, 2]

    use(test)


def test_slow_chunks_come_one_by_one(use: Use) -> None:
    # The results of one do not wait for the other calls that have come with it.
    async def test(pool: Workers) -> None:
        await asyncio.gather(*(worker.run(jobs.pid) for worker in pool))
        async with pool.map(jobs.nap, [0.05] * 40, chunk=2, limit=20) as naps:
            began = asyncio.get_running_loop().time()
            await anext(naps)
            first = asyncio.get_running_loop().time() - began
        assert first < 0.9  # ten calls of 0.1 s are in each worker, and cannot be interrupted

    use(test)


def test_bad_arguments(use: Use) -> None:
    async def test(pool: Workers) -> None:
        with pytest.raises(ValueError, match="limit"):
            pool.map(jobs.square, [], limit=0)
        with pytest.raises(ValueError, match="chunk"):
            pool.map(jobs.square, [], chunk=0)
        with pytest.raises(TypeError, match="at least one"):
            pool.map(jobs.square)
        with pytest.raises(TypeError, match="iterable"):
            pool.map(jobs.square, 3)  # type: ignore[arg-type]

    use(test)


def test_progress(use: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich", reason="the bar is rich's")
    monkeypatch.setenv("COLUMNS", "120")

    async def test(pool: Workers) -> None:
        assert len(await pool.map(jobs.square, range(30), progress=True)) == 30

    use(test)
    out = capsys.readouterr().out
    assert "30/30" in out and "square" in out


def test_progress_without_rich(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)

    async def test(pool: Workers) -> None:
        with pytest.raises(ImportError, match="pip install rich"):
            pool.map(jobs.square, range(30), progress=True)

    use(test)


def test_a_crash_ends_it_unless_the_calls_are_idempotent(run: Run, told: Told) -> None:
    path, _ = told

    async def main() -> None:
        async with pool_of(2) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.map(partial(jobs.crash_once, path), range(10))
            Path(path).unlink()
            assert await pool.map(partial(jobs.crash_once, path), range(10), idempotent=True) == list(
                range(10)
            )

    run(main())


# ----------------------------------------------------------------------------------------- for_key --


def test_a_key_has_its_worker(use: Use) -> None:
    async def test(pool: Workers) -> None:
        for key in ("a", b"a", 7, None, ("a", 1)):
            worker = pool.for_key(key)
            assert worker is pool.for_key(key) is pool[keys.owner(key, 2)]
        assert await pool.for_key("a").run(jobs.pid) == pool.for_key("a").pid

    use(test)


def test_keys_are_spread_and_few_move() -> None:
    names = [f"user:{i}" for i in range(3000)]
    for count in (2, 3, 8):
        owners = [keys.owner(name, count) for name in names]
        shares = collections.Counter(owners)
        assert all(abs(shares[i] - 3000 / count) < 150 for i in range(count))
        moved = [
            (a, b) for a, b in zip(owners, (keys.owner(n, count + 1) for n in names), strict=True) if a != b
        ]
        assert all(b == count for _, b in moved)


def test_keys_hash_alike_in_each_process_and_equal_ones_too() -> None:
    values = ["é", b"\0", 0, -5, 1.5, 10**30, None, ("a", ("b", 2)), ""]
    code = f"from pinloop.workers.keys import stable_hash; print([stable_hash(k) for k in {values!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    hashes = [keys.stable_hash(key) for key in values]
    assert done.stdout.strip() == str(hashes)
    assert len(set(hashes)) == len(values)
    assert keys.stable_hash(1) == keys.stable_hash(1.0) == keys.stable_hash(True)
    assert keys.stable_hash(("ab", "c")) != keys.stable_hash(("a", "bc"))


@pytest.mark.parametrize("key", [object(), [1], {1: 2}, ({1},)])
def test_keys_that_differ_between_processes(key: Any) -> None:
    with pytest.raises(TypeError, match=r"a key is made of|unhashable"):
        keys.owner(key, 2)


def test_a_key_keeps_its_worker_when_that_is_restarted(run: Run) -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            worker = pool.for_key("k")
            with pytest.raises(WorkerCrashed):
                await worker.run(jobs.kill_yourself)
            assert pool.for_key("k") is worker
            assert (await worker.run(jobs.worker)).index == worker.index

    run(main())


# ------------------------------------------------------------------------------------------- scope --


def test_a_scope_in_a_worker(use: Use) -> None:
    async def test(pool: Workers) -> None:
        async with pool[1].scope() as s:
            children = [s.spawn(jobs.plain, i) for i in range(5)]
            assert "WorkerScope" in repr(s)
        assert [child.result() for child in children] == [(i, pool[1].pid) for i in range(5)]

    use(test)


def test_one_failure_cancels_the_rest(use: Use, told: Told) -> None:
    path, wait_for = told

    async def test(pool: Workers) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with pool[0].scope() as s:
                beside = s.spawn(jobs.touch_and_wait, path)
                await wait_for("running")
                s.spawn(jobs.fail, "x")
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        assert beside.cancelled()
        assert "cancelled" in Path(path).read_text()

    use(test)


def test_a_deadline_and_a_cancellation(use: Use) -> None:
    async def test(pool: Workers) -> None:
        async with pool[0].scope(deadline=asyncio.get_running_loop().time() + 0.03) as s:
            s.spawn(asyncio.sleep, 100)
        assert s.cancelled_caught
        async with pool[0].scope(limit=1) as s:
            s.spawn(asyncio.sleep, 100)
            s.spawn(asyncio.sleep, 100, name="second")
            s.cancel("enough")
        assert s.cancelled_caught and s.scope.cancel_reason == "enough"

    use(test)
