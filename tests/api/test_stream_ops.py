"""The operators of a stream, one by one: what they give, what they refuse, what they take."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import pinloop
from pinloop import Stream, from_channel, stream
from tests.api.pipelines import Source
from tests.conftest import Run

Make = Callable[[Stream[Any]], Stream[Any]]


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def is_odd(number: int) -> bool:
    await asyncio.sleep(0)
    return bool(number % 2)


async def below(number: int) -> AsyncIterator[int]:
    for each in range(number):
        yield each


OPERATORS: dict[str, tuple[Make, list[Any]]] = {
    "map": (lambda st: st.map(lambda n: n + 1), [1, 2, 3, 4, 5, 6]),
    "map-async": (lambda st: st.map(later), [0, 1, 2, 3, 4, 5]),
    "map-concurrency": (lambda st: st.map(later, concurrency=3), [0, 1, 2, 3, 4, 5]),
    "map-plain-concurrency": (lambda st: st.map(str, concurrency=3), ["0", "1", "2", "3", "4", "5"]),
    "map-future": (lambda st: st.map(lambda n: asyncio.ensure_future(later(n)), 2), [0, 1, 2, 3, 4, 5]),
    "filter": (lambda st: st.filter(lambda n: n > 3), [4, 5]),
    "filter-async": (lambda st: st.filter(is_odd), [1, 3, 5]),
    "flat_map-list": (lambda st: st.flat_map(lambda n: [n] * (n // 2)), [2, 3, 4, 4, 5, 5]),
    "flat_map-async": (lambda st: st.take(4).flat_map(below), [0, 0, 1, 0, 1, 2]),
    "flat_map-stream": (lambda st: st.take(2).flat_map(lambda n: stream([n]).map(later)), [0, 1]),
    "flat_map-later": (lambda st: st.take(3).flat_map(lambda n: later(range(n))), [0, 0, 1]),
    "flat_map-function": (lambda st: st.take(2).flat_map(lambda n: lambda: below(n)), [0]),
    "chunks": (lambda st: st.chunks(4), [[0, 1, 2, 3], [4, 5]]),
    "chunks-even": (lambda st: st.chunks(3), [[0, 1, 2], [3, 4, 5]]),
    "chunks-within": (lambda st: st.chunks(4, within=60), [[0, 1, 2, 3], [4, 5]]),
    "buffer": (lambda st: st.buffer(2), [0, 1, 2, 3, 4, 5]),
    "throttle": (lambda st: st.throttle(100), [0, 1, 2, 3, 4, 5]),
    "zip": (lambda st: st.zip("abc"), [(0, "a"), (1, "b"), (2, "c")]),
    "zip-three": (lambda st: st.zip("ab", stream("xyz").map(later)), [(0, "a", "x"), (1, "b", "y")]),
    "zip-none": (lambda st: st.zip([]), []),
    "take": (lambda st: st.take(2), [0, 1]),
    "take-0": (lambda st: st.take(0), []),
    "take-more": (lambda st: st.take(100), [0, 1, 2, 3, 4, 5]),
    "skip": (lambda st: st.skip(4), [4, 5]),
    "skip-more": (lambda st: st.skip(100), []),
    "take_while": (lambda st: st.take_while(lambda n: n < 2), [0, 1]),
    "take_while-async": (lambda st: st.skip(1).take_while(is_odd), [1]),
    "skip_while": (lambda st: st.skip_while(lambda n: n < 4).map(lambda n: n - 4), [0, 1]),
    "skip_while-async": (lambda st: st.skip(1).skip_while(is_odd), [2, 3, 4, 5]),
    "timeout": (lambda st: st.timeout(60), [0, 1, 2, 3, 4, 5]),
    "timeout-idle": (lambda st: st.timeout(idle=60), [0, 1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives(name: str, run: Run) -> None:
    make, expected = OPERATORS[name]
    source = Source(6)

    async def main() -> None:
        async with make(stream(source)) as st:
            assert [item async for item in st] == expected
        assert await make(stream(range(6))).collect() == expected
        assert await make(stream([])).collect() == []
        assert source.closed == source.begun

    run(main())


@pytest.mark.parametrize("name", OPERATORS)
def test_nothing_is_read_before_it_is_asked_for(name: str, run: Run) -> None:
    source = Source(6)

    async def main() -> None:
        made = OPERATORS[name][0](stream(source))
        await asyncio.sleep(0)
        async with made:
            await asyncio.sleep(0)
        assert source.begun == 0
        assert [item async for item in made] == []  # it is closed

    run(main())


def test_merge_takes_turns(run: Run) -> None:
    async def main() -> None:
        merged = await stream("abc").merge(range(2), stream("xyzv").map(later)).collect()
        assert sorted(map(str, merged)) == list("01abcvxyz")
        for source in "abc", "xyzv":
            assert "".join(item for item in merged if str(item) in source) == source
        assert {*map(str, merged[:2])} == {"a", "0"}

    run(main())


def test_sources(run: Run) -> None:
    def generator() -> Iterator[int]:
        yield from range(3)

    class Iterable:
        def __aiter__(self) -> AsyncIterator[int]:
            return below(3)

    async def main() -> None:
        sources: list[Any] = [range(3), iter([0, 1, 2]), generator, generator(), below(3), lambda: below(3)]
        for source in [*sources, Iterable(), Iterable, stream(range(3))]:
            assert await stream(source).collect() == [0, 1, 2]

    run(main())


def test_what_is_awaited(run: Run) -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async def main() -> None:
        assert await stream("ab").first() == "a"
        assert await stream("").first(None) is None
        with pytest.raises(LookupError, match="no item"):
            await stream("").first()
        assert await stream(range(5)).fold(10, add) == 20
        assert await stream("abc").fold("", lambda a, b: b + a) == "cba"
        assert await stream(range(5)).reduce(add) == 10
        assert await stream([7]).reduce(max) == 7
        with pytest.raises(TypeError, match=r"reduce\(\) of an empty stream"):
            await stream([]).reduce(add)
        for concurrency in 1, 3:
            seen: list[Any] = []
            assert await stream("abc").for_each(seen.append, concurrency) is None
            assert seen == ["a", "b", "c"]

    run(main())


class End:
    """An end of a channel as far as a stream looks at it."""

    def __init__(self, items: list[Any], refuses: Any = None) -> None:
        self.items = items
        self.refuses = refuses
        self.closed = 0

    async def send(self, item: Any) -> None:
        await asyncio.sleep(0)
        if item == self.refuses:
            raise BrokenPipeError(item)
        self.items.append(item)

    def __aiter__(self) -> "End":
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    def close(self) -> None:
        self.closed += 1


def test_channels(run: Run) -> None:
    async def main() -> None:
        rx, tx = End([1, 2, 3]), End([])
        await from_channel(rx).map(str).into_channel(tx)
        assert (tx.items, tx.closed, rx.closed) == (["1", "2", "3"], 1, 1)

        rx, tx = End([1, 2, 3]), End([])
        await from_channel(rx, close=False).take(2).into_channel(tx, close=False)
        assert (rx.items, tx.items, tx.closed, rx.closed) == ([3], [1, 2], 0, 0)
        assert (await stream(rx).collect(), rx.closed) == ([3], 0)

        rx, tx = End([1, 2, 3]), End([], refuses=2)
        with pytest.raises(BrokenPipeError):
            await from_channel(rx).into_channel(tx)
        assert (rx.items, tx.items, tx.closed, rx.closed) == ([3], [1], 1, 1)

        rx = End([1])
        async with from_channel(rx).map(later, 2):
            pass
        assert (rx.items, rx.closed) == ([1], 1)

    run(main())


def test_others_have_their_turn(run: Run) -> None:
    async def main() -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().call_soon(over.set)

        def forever() -> Iterator[int]:
            while True:
                yield 1

        async with stream(forever).map(str).take_while(lambda _: not over.is_set()) as st:
            async for _ in st:
                pass

    run(main())


def test_a_stream_is_used_once(run: Run) -> None:
    async def main() -> None:
        first = stream("abc")
        second = first.map(str.upper)
        for use in (
            lambda: first.map(str),
            lambda: first.take(1),
            lambda: stream(first),
            lambda: aiter(first),
        ):
            with pytest.raises(RuntimeError, match="another was made of it"):
                use()
        with pytest.raises(RuntimeError, match="another was made of it"):
            await first.collect()
        with pytest.raises(RuntimeError, match="another was made of it"):
            await anext(first)
        with pytest.raises(RuntimeError, match="another was made of it"):
            async with first:
                pass
        await first.aclose()  # it has nothing to close
        async with second as st:
            assert st is second
            assert await anext(st) == "A"
            assert [item async for item in st] == ["B", "C"]
            with pytest.raises(RuntimeError, match="used once"):
                st.map(str)
        with pytest.raises(RuntimeError, match="used once"):
            async with second:
                pass
        assert repr(second) == "<Stream closed>"
        assert repr(first) == "<Stream part of another>"

    run(main())


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda st: stream(5), TypeError, "not of int"),
        (lambda st: stream(lambda: 5), TypeError, "not of int"),
        (lambda st: stream(lambda: later(5)), TypeError, "no yield"),
        (lambda st: from_channel("abc"), TypeError, "has close"),
        (lambda st: st.map(None), TypeError, "function was expected, not NoneType"),
        (lambda st: st.map(str, 0), ValueError, "concurrency must be 1 or more, not 0"),
        (lambda st: st.map(str, 1.5), TypeError, "concurrency must be an integer, not float"),
        (lambda st: st.filter(3), TypeError, "function was expected, not int"),
        (lambda st: st.flat_map([]), TypeError, "function was expected, not list"),
        (lambda st: st.chunks(0), ValueError, "size must be 1 or more"),
        (lambda st: st.chunks(2, within=-1), ValueError, "within must be 0 or more"),
        (lambda st: st.chunks(2, within="1"), TypeError, "within must be a number"),
        (lambda st: st.buffer(0), ValueError, "size must be 1 or more"),
        (lambda st: st.throttle(0), ValueError, "rate must be 1 or more"),
        (lambda st: st.throttle(0.5), TypeError, "rate must be an integer"),
        (lambda st: st.throttle(1, per=0), ValueError, "above 0"),
        (lambda st: st.throttle(1, per=math.inf), ValueError, "above 0"),
        (lambda st: st.throttle(1, per=math.nan), ValueError, "per must be"),
        (lambda st: st.take(-1), ValueError, "count must be 0 or more"),
        (lambda st: st.skip("2"), TypeError, "count must be an integer"),
        (lambda st: st.take_while(1), TypeError, "function was expected"),
        (lambda st: st.skip_while(1), TypeError, "function was expected"),
        (lambda st: st.timeout(), TypeError, "needs the seconds"),
        (lambda st: st.timeout(-1), ValueError, "seconds must be 0 or more"),
        (lambda st: st.timeout(idle=math.nan), ValueError, "idle must be"),
    ],
)
def test_bad_input(make: Any, error: type[Exception], says: str, run: Run) -> None:
    async def main() -> None:
        st = stream("abc")
        with pytest.raises(error, match=says):
            make(st)
        assert await st.collect() == ["a", "b", "c"]  # it is as it was

    run(main())


def test_zip_strict(run: Run) -> None:
    async def main() -> None:
        assert await stream("ab").zip("cd", "ef", strict=True).collect() == [("a", "c", "e"), ("b", "d", "f")]
        for shorter in (stream("ab").zip("abc", strict=True), stream("abc").zip("ab", strict=True)):
            with pytest.raises(ValueError, match="zip"):
                await shorter.collect()

    run(main())


def test_without_a_loop_there_is_no_pulling() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        aiter(stream("abc"))


def test_two_who_pull(run: Run) -> None:
    async def main() -> None:
        async with stream(Source(pause=0.01)).buffer(2) as st:
            pull = asyncio.ensure_future(anext(st))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task is waiting"):
                await anext(st)
            assert await pull == 0

    run(main())


def test_names() -> None:
    assert {"Stream", "from_channel", "stream"} <= {*pinloop.__all__}
    assert pinloop.stream is stream
