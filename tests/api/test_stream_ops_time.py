"""The operators that go by the clock, in virtual time: chunks within a time, throttle, timeout."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinloop import stream
from tests.api.laws import examples, on_both_loops, run_once
from tests.api.pipelines import Source, orders

SMALL = 1e-6


def now() -> float:
    return asyncio.get_running_loop().time()


async def at(*times: float) -> AsyncIterator[float]:
    """Items that come at these times."""
    for time in times:
        if time > now():
            await asyncio.sleep(time - now())
        yield time


@orders
async def test_a_chunk_is_ready_when_it_is_full_or_in_time() -> None:
    seen = []
    async with stream(lambda: at(1, 2, 3, 10, 20, 25.5, 26)).chunks(3, within=5) as chunks:
        async for chunk in chunks:
            seen.append((round(now(), 3), chunk))  # noqa: PERF401 (what came before an error)
    assert seen == [(3, [1, 2, 3]), (15, [10]), (25, [20]), (26, [25.5, 26])]


@orders
async def test_a_chunk_grows_until_it_is_pulled() -> None:
    seen = []
    async with stream(lambda: at(*range(1, 13))).chunks(8, within=2.5) as chunks:
        async for chunk in chunks:
            seen.append((round(now(), 3), chunk))
            await asyncio.sleep(4.3)
    assert seen == [(3.5, [1, 2, 3]), (7.8, [4, 5, 6, 7]), (12.1, [8, 9, 10, 11, 12])]


@orders
async def test_a_full_chunk_holds_the_source_up() -> None:
    source = Source(pause=1)
    async with stream(source).chunks(4, within=2.5) as chunks:
        assert await anext(chunks) == [0, 1, 2]
        await asyncio.sleep(50)
        assert source.given == 3 + 4
        assert await anext(chunks) == [3, 4, 5, 6]


@examples(150)
@given(
    st.lists(st.floats(0, 20), max_size=20).map(sorted),
    st.integers(1, 5),
    st.sampled_from([0, 0.5, 3, 50]),
    st.integers(0, 1000),
)
@on_both_loops
def test_no_chunk_is_late(where: str, times: list[float], size: int, within: float, seed: int) -> None:
    """Who waits gets a chunk when it is full, or `within` after its first item; all items are in one."""

    async def main() -> None:
        seen = []
        async with stream(lambda: at(*times)).chunks(size, within) as chunks:
            async for chunk in chunks:
                assert 1 <= len(chunk) <= size
                assert now() <= max(chunk[0] + within, chunk[-1] if len(chunk) == size else 0) + SMALL
                seen += chunk
        assert seen == times

    run_once(main(), seed=seed, loop=where)


@examples(150)
@given(
    st.lists(st.floats(0, 5), max_size=25).map(sorted),
    st.integers(1, 5),
    st.sampled_from([0.5, 1, 3]),
    st.integers(0, 1000),
)
@on_both_loops
def test_no_window_has_more_than_the_rate(
    where: str, times: list[float], rate: int, per: float, seed: int
) -> None:
    async def main() -> None:
        seen: list[float] = []
        async with stream(lambda: at(*times)).throttle(rate, per) as items:
            async for item in items:
                assert item == times[len(seen)]
                if len(seen) < rate:
                    assert now() <= item + SMALL  # nothing waits without need
                else:
                    assert seen[-rate] + per <= now() <= max(item, seen[-rate] + per, seen[-1]) + SMALL
                seen.append(now())
        assert len(seen) == len(times)

    run_once(main(), seed=seed, loop=where)


@orders
async def test_an_item_that_is_late() -> None:
    seen = []
    source = Source(pause=20)
    with pytest.raises(TimeoutError, match="no item within 10 s"):
        async with stream(lambda: at(1, 10, 21)).timeout(10) as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401 (what came before an error)
    assert seen == [1, 10]
    assert now() == pytest.approx(20)
    with pytest.raises(TimeoutError):
        await stream(source).buffer(2).timeout(10).collect()
    assert source.closed == 1


@orders
async def test_the_consumers_time_counts_for_idle_only() -> None:
    async with stream(lambda: at(0, 9, 25)).timeout(10) as items:
        async for item in items:
            if item == 9:
                await asyncio.sleep(7)
    assert now() == pytest.approx(25)

    start = now()
    with pytest.raises(TimeoutError, match="no item for 10 s"):
        async with stream(lambda: at(start, start + 9, start + 20)).timeout(idle=10) as items:
            async for item in items:
                if item == start + 9:
                    await asyncio.sleep(7)
    assert now() == pytest.approx(start + 19)


@orders
async def test_what_is_there_is_never_late() -> None:
    async with stream(range(5)).buffer(2).timeout(1, idle=2) as items:
        seen = []
        async for item in items:
            seen.append(item)
            await asyncio.sleep(60)
    assert seen == [0, 1, 2, 3, 4]


@orders
async def test_a_timeout_of_the_source_is_its_own() -> None:
    error = TimeoutError("the source's")
    with pytest.raises(TimeoutError) as caught:
        await stream(Source(2, error)).timeout(10).collect()
    assert caught.value is error
