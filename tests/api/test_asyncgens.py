"""Asynchronous generators: closed by the loop when dropped or at shutdown, and what is said about it."""

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from tests.api.support import turns

Loop = asyncio.AbstractEventLoop
Context = dict[str, Any]


async def count(closed: list[str], name: str = "closed") -> AsyncGenerator[int, None]:
    """Counts; its closing needs the loop."""
    try:
        for n in range(1000):
            yield n
    finally:
        await asyncio.sleep(0)
        closed.append(name)


def test_shutdown_closes_what_is_not_exhausted(loop: Loop) -> None:
    closed: list[str] = []
    kept = [count(closed, "first"), count(closed, "second")]

    async def begin() -> None:
        for generator in kept:
            await generator.__anext__()

    loop.run_until_complete(begin())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(closed) == ["first", "second"]


def test_shutdown_without_any_does_nothing(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_shutdown_leaves_those_alone_that_were_never_begun(loop: Loop) -> None:
    closed: list[str] = []
    generator = count(closed)
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == []
    del generator


def test_a_generator_that_is_dropped_is_closed_by_the_loop(loop: Loop) -> None:
    closed: list[str] = []

    async def main() -> list[str]:
        async for _ in count(closed):
            break
        gc.collect()
        await turns(5)
        return list(closed)

    assert loop.run_until_complete(main()) == ["closed"]


def test_a_generator_dropped_in_another_thread_is_closed_by_the_loop(loop: Loop) -> None:
    closed: list[str] = []

    async def main() -> list[str]:
        holder = [count(closed)]
        await holder[0].__anext__()
        thread = threading.Thread(target=holder.clear)
        thread.start()
        while not closed:
            await asyncio.sleep(0.001)
        thread.join()
        return list(closed)

    assert loop.run_until_complete(asyncio.wait_for(main(), 10)) == ["closed"]


def test_a_generator_dropped_after_close_needs_no_loop(loop: Loop) -> None:
    async def quiet() -> AsyncGenerator[int, None]:
        yield 1

    kept = [quiet()]

    async def begin() -> None:
        await kept[0].__anext__()

    loop.run_until_complete(begin())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.clear()
        gc.collect()


def test_an_error_at_shutdown_is_reported_and_the_others_are_closed(
    loop: Loop, loop_errors: list[Context]
) -> None:
    closed: list[str] = []

    async def stubborn() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise ValueError("mine")

    kept = [stubborn(), count(closed)]

    async def begin() -> None:
        for generator in kept:
            await generator.__anext__()

    loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == ["closed"]
    [context] = loop_errors
    assert context["message"] == f"an error occurred during closing of asynchronous generator {kept[0]!r}"
    assert str(context["exception"]) == "mine"
    assert context["asyncgen"] is kept[0]
    loop_errors.clear()


def test_a_generator_begun_after_shutdown_is_warned_of(loop: Loop) -> None:
    closed: list[str] = []

    async def main() -> None:
        await loop.shutdown_asyncgens()
        generator = count(closed)
        with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens\(\) call"):
            await generator.__anext__()
        await generator.aclose()

    loop.run_until_complete(main())
    assert closed == ["closed"]


def test_asyncio_runner_closes_them(loop_factory: Callable[[], Loop]) -> None:
    closed: list[str] = []
    kept = count(closed)

    async def main() -> int:
        return await kept.__anext__()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == 0
        assert closed == []
    assert closed == ["closed"]


def test_generators_of_two_loops_are_kept_apart(loop: Loop, loop_factory: Callable[[], Loop]) -> None:
    other = loop_factory()
    closed: list[str] = []
    kept = count(closed)

    async def begin() -> None:
        await kept.__anext__()

    loop.run_until_complete(begin())
    other.run_until_complete(other.shutdown_asyncgens())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == ["closed"]
    other.close()
