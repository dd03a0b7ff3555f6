"""Laws of streams under many orders: as lists, no further ahead than asked, all closed, nothing lost."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pinloop import Stream, stream
from tests.api.laws import examples, on_both_loops, run_once
from tests.api.pipelines import Calls, Source, orders, settle


def sleeper(seed: int) -> Any:
    """A function that gives each item back after a time of its own."""

    async def work(item: int) -> int:
        await asyncio.sleep((item * 7919 + seed) % 5)
        return item * 3 + 1

    return work


STEPS = st.one_of(
    st.tuples(st.just("map"), st.integers(1, 6), st.integers(0, 9)),
    st.tuples(st.just("filter"), st.integers(1, 4)),
    st.tuples(st.just("flat_map"), st.integers(0, 3)),
    st.tuples(st.just("chunks"), st.integers(1, 5), st.sampled_from([None, 0, 3])),
    st.tuples(st.just("buffer"), st.integers(1, 5)),
    st.tuples(st.just("zip"), st.integers(0, 12)),
    st.tuples(st.just("take"), st.integers(0, 12)),
    st.tuples(st.just("skip"), st.integers(0, 6)),
    st.tuples(st.just("take_while"), st.integers(0, 40)),
    st.tuples(st.just("skip_while"), st.integers(0, 40)),
    st.tuples(st.just("throttle"), st.integers(1, 4)),
    st.tuples(st.just("timeout"), st.just(10_000)),
)


def piped(made: Stream[Any], step: tuple[Any, ...]) -> Stream[Any]:
    name, n, *more = step
    if name == "map":
        return made.map(sleeper(more[0]), concurrency=n)
    if name == "filter":
        return made.filter(lambda item: item % (n + 1))
    if name == "flat_map":
        return made.flat_map(lambda item: range(item, item + n))
    if name == "chunks":
        # How they are cut depends on the time; what is in them does not.
        return made.chunks(n, more[0]).flat_map(lambda chunk: chunk)
    if name == "zip":
        return made.zip(Source(n)).map(sum)
    if name in ("take_while", "skip_while"):
        return getattr(made, name)(lambda item: item < n)  # type: ignore[no-any-return]
    return getattr(made, name)(n)  # type: ignore[no-any-return]


def listed(items: list[int], step: tuple[Any, ...]) -> list[int]:
    name, n, *_ = step
    cut = next((i for i, item in enumerate(items) if item >= n), len(items))
    return {
        "map": lambda: [item * 3 + 1 for item in items],
        "filter": lambda: [item for item in items if item % (n + 1)],
        "flat_map": lambda: [each for item in items for each in range(item, item + n)],
        "zip": lambda: [a + b for a, b in zip(items, range(n), strict=False)],
        "take": lambda: items[:n],
        "skip": lambda: items[n:],
        "take_while": lambda: items[:cut],
        "skip_while": lambda: items[cut:],
    }.get(name, lambda: items)()


@examples(300)
@given(st.integers(0, 15), st.lists(STEPS, max_size=5), st.integers(0, 1000), st.integers(0, 20) | st.none())
@on_both_loops
def test_a_pipeline_is_what_it_is_for_lists(
    where: str, count: int, steps: list[tuple[Any, ...]], seed: int, leaves: int | None
) -> None:
    """Whatever its concurrency, and as far as it is read; then its source is closed, once."""
    source = Source(count)
    expected = list(range(count))
    for step in steps:
        expected = listed(expected, step)

    async def main() -> None:
        made: Stream[Any] = stream(source)
        for step in steps:
            made = piped(made, step)
        seen = []
        async with made as items:
            if leaves != 0:
                async for item in items:
                    seen.append(item)
                    if len(seen) == leaves:
                        break
        assert seen == (expected if leaves is None else expected[:leaves])
        assert source.closed == source.begun <= 1
        assert len(source.tasks) <= 1  # it is begun, read and closed by the same one

    run_once(main(), seed=seed, loop=where)


@examples(100)
@given(st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(1, 12), st.integers(0, 1000))
@on_both_loops
def test_no_further_ahead_than_asked(where: str, n: int, m: int, ordered: bool, read: int, seed: int) -> None:
    source, calls = Source(), Calls()

    async def main() -> None:
        async with stream(source).map(calls, n, ordered).buffer(m) as items:
            for taken in range(1, read + 1):
                await anext(items)
                await settle()
                ahead = m + (n if n > 1 else 0)
                assert source.given == taken + ahead  # as far as that it does run
        assert calls.most == n
        assert (calls.running, source.closed) == (0, 1)

    run_once(main(), seed=seed, loop=where)


@examples(100)
@given(st.integers(2, 6), st.integers(0, 20), st.integers(0, 1000))
@on_both_loops
def test_unordered_gives_each_once_as_it_comes(where: str, n: int, count: int, seed: int) -> None:
    async def work(item: int) -> tuple[float, int]:
        await asyncio.sleep((item * 7919 + seed) % 11)
        return asyncio.get_running_loop().time(), item

    async def main() -> None:
        seen = await stream(range(count)).map(work, n, ordered=False).collect()
        assert sorted(item for _, item in seen) == list(range(count))
        assert [time for time, _ in seen] == sorted(time for time, _ in seen)

    run_once(main(), seed=seed, loop=where)


@examples(60)
@given(st.integers(2, 5), st.booleans(), st.sets(st.integers(0, 9), max_size=4), st.integers(0, 1000))
@on_both_loops
def test_no_error_is_lost_and_every_call_awaited(
    where: str, n: int, ordered: bool, bad: set[int], seed: int
) -> None:
    """What fails comes out, alone or with others; what was there before it in the order comes first."""
    source = Source(10)
    calls = Calls({item: ValueError(item) for item in bad})

    async def main() -> list[Any]:
        seen: list[Any] = []
        async with stream(source).map(calls, n, ordered) as items:
            try:
                async for item in items:
                    seen.append(item)  # noqa: PERF401 (what came before an error)
            except ValueError as error:
                seen.append(error.args[0])
            except ExceptionGroup as group:  # of several only
                seen.append({error.args[0] for error in group.exceptions})
            assert (calls.running, source.closed) == (0, 1)
            assert [item async for item in items] == []
        return seen

    seen = run_once(main(), seed=seed, loop=where)
    if not bad:
        assert sorted(seen) == [item * item for item in range(10)]
        return
    first = min(bad)
    if ordered:
        assert seen[:-1] == [item * item for item in range(len(seen) - 1)]
        assert len(seen) - 1 <= first
    failed = seen[-1] if isinstance(seen[-1], set) else {seen[-1]}
    assert len(failed) > isinstance(seen[-1], set)
    assert failed <= bad
    assert len(failed) <= n


@on_both_loops
def test_backpressure_bounds_a_producer_that_is_faster(where: str) -> None:
    """100 times as fast as its consumer: it waits, there are no more than the steps may hold."""
    source = Source(pause=0.01)
    held = 0

    async def main() -> None:
        nonlocal held
        taken = 0
        async with stream(source).buffer(4).map(Calls(seconds=0.01), 3).chunks(5, within=0.1) as chunks:
            async for chunk in chunks:
                taken += len(chunk)
                await asyncio.sleep(1)
                held = max(held, source.given - taken)
                if taken >= 200:
                    break
        assert held == 4 + 3 + 5
        assert source.closed == 1

    run_once(main(), loop=where)


@orders
async def test_merge_is_fair() -> None:
    """Between two items of a source that is ready each other one that is ready has one."""
    sources = [Source(30), Source(30), Source(30)]
    async with (
        stream(sources[0])
        .map(lambda n: "a")
        .merge(stream(sources[1]).map(lambda n: "b"), stream(sources[2]).map(lambda n: "c")) as items
    ):
        await anext(items)
        await settle()
        seen = []
        async for item in items:
            seen.append(item)
            assert sum(source.given for source in sources) <= len(seen) + 1 + 3
            await settle()
    for i in range(len(seen) - 5):  # near the end there are no longer three
        assert len({*seen[i : i + 3]}) == 3, seen


@orders
async def test_merge_conserves() -> None:
    sources = [Source(7, pause=1), Source(3, pause=2), Source(0), Source(12)]
    first, *others = [stream(source).map(lambda n, i=i: (i, n)) for i, source in enumerate(sources)]
    seen = await first.merge(*others).collect()
    assert sorted(seen) == [(i, n) for i, source in enumerate(sources) for n in range(source.count or 0)]
    for i in range(len(sources)):
        of_one = [n for which, n in seen if which == i]
        assert of_one == sorted(of_one)
    assert [source.closed for source in sources] == [1, 1, 1, 1]
