"""The ready ring: first in, first out, however it grows."""

import asyncio
import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pinloop
from tests.core.support import turn


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129, 1000, 10_000])
def test_callbacks_run_first_in_first_out(loop: asyncio.AbstractEventLoop, count: int) -> None:
    ran: list[int] = []
    for i in range(count):
        loop.call_soon(ran.append, i)
    turn(loop)
    assert ran == list(range(count))


def test_a_batch_runs_once_and_what_it_schedules_waits_for_the_next(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[tuple[int, int]] = []

    def callback(generation: int, i: int) -> None:
        ran.append((generation, i))
        loop.call_soon(callback, generation + 1, i)

    for i in range(3):
        loop.call_soon(callback, 0, i)
    for generation in range(4):
        turn(loop)
        assert ran == [(generation, i) for i in range(3)]
        ran.clear()


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(0, 200),
    plans=st.lists(st.lists(st.integers(0, 5), max_size=60), max_size=12),
)
def test_order_is_kept_while_the_ring_grows_under_its_own_callbacks(
    first: int, plans: list[list[int]]
) -> None:
    """Each callback of a batch schedules as many more as its plan says; a list is the model."""
    loop = pinloop.new_event_loop()
    ran: list[int] = []
    numbers = iter(range(1_000_000))
    expected: list[int] = []
    todo: list[int] = []

    def schedule(model: list[int]) -> None:
        number = next(numbers)
        loop.call_soon(callback, number)
        model.append(number)

    def callback(number: int) -> None:
        ran.append(number)
        for _ in range(plan[len(ran) % len(plan)] if plan else 0):
            schedule(coming)

    plan: list[int] = []

    for _ in range(first):
        schedule(todo)
    for plan[:] in plans:
        coming: list[int] = []
        expected += todo
        turn(loop)
        assert ran == expected
        todo = coming[:]
        if len(todo) > 2000:
            break
    loop.close()


def test_close_releases_what_was_ready(loop: asyncio.AbstractEventLoop) -> None:
    class Callback:
        def __call__(self) -> None: ...

    callbacks = [Callback() for _ in range(100)]
    alive = [weakref.ref(callback) for callback in callbacks]
    for callback in callbacks:
        loop.call_soon(callback)
    del callback, callbacks
    loop.close()
    gc.collect()
    assert not any(ref() for ref in alive)


def test_a_finalizer_that_schedules_while_the_loop_closes(loop: asyncio.AbstractEventLoop) -> None:
    refused: list[RuntimeError] = []

    class Callback:
        def __call__(self) -> None: ...

        def __del__(self) -> None:
            try:
                loop.call_soon(int)
                loop.call_later(1, int)
            except RuntimeError as exc:
                refused.append(exc)

    for _ in range(3):
        loop.call_soon(Callback())
    loop.call_later(1, Callback())
    loop.call_soon_threadsafe(Callback())
    loop.close()
    assert len(refused) == 5
