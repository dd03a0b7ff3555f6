"""How the laws are tested: each on both kinds of loop, under orders of its tasks that are drawn from seeds.

PINLOOP_LAWS=20 tests each law 20 times as thoroughly: with so many times as many seeds, and examples.
"""

import asyncio
import functools
import inspect
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import pinloop
from pinloop.testing import explore, new_event_loop, run
from tests.api.support import ON_PINLOOP

T = TypeVar("T")

LAW_LOOPS = ["pinloop", "asyncio"] if ON_PINLOOP else ["asyncio"]
"""What `pinloop.testing` is told. PINLOOP_TEST_LOOP=asyncio leaves the one for which it asks."""

TIMES = int(os.environ.get("PINLOOP_LAWS", "1"))

IN_DEBUG_MODE = bool(os.environ.get("PYTHONASYNCIODEBUG"))
"""There asyncio notes a stack for each callback, which takes ten times as long: some seeds must do."""

Test = Callable[..., Any]

orders_run: Counter[str] = Counter()
"""Of each kind of loop, for the summary of a run with PINLOOP_LAWS."""


def on_both_loops(test: Test) -> Test:
    """Marks a law; it has the loop's kind as its parameter `where`."""
    return pytest.mark.laws(pytest.mark.parametrize("where", LAW_LOOPS)(test))


def law(seeds: int, times: int = TIMES) -> Callable[[Callable[..., Awaitable[object]]], Test]:
    """Makes a test of an async function, run on both loops under so many orders, and leaving nothing behind.

    Where hypothesis is above it, the examples are multiplied, and `times` is 1.
    """

    def decorate(test: Callable[..., Awaitable[object]]) -> Test:
        @functools.wraps(test)
        def explored(where: str, *args: Any, **named: Any) -> None:
            fewer = 10 if IN_DEBUG_MODE and where == "asyncio" else 1
            number = -(-seeds * times // fewer)
            orders_run[where] += number
            explore(functools.partial(test, *args, **named), seeds=number, loop=where)

        del explored.__wrapped__  # type: ignore[attr-defined]
        signature = inspect.signature(test)
        where = inspect.Parameter("where", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        explored.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[where, *signature.parameters.values()], return_annotation=None
        )
        return on_both_loops(explored)

    return decorate


def examples(number: int) -> Callable[[Test], Test]:
    """Settings of hypothesis for a law."""
    number = number * TIMES // (4 if IN_DEBUG_MODE else 1)
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run_once(main: Coroutine[Any, Any, T], *, seed: int = 0, loop: str) -> T:
    """`pinloop.testing.run`, counted."""
    orders_run[loop] += 1
    return run(main, seed=seed, loop=loop)


orders = st.none() | st.integers(0, 10_000)
"""For `loop_for`: the seed of an order, or no such loop."""


def loop_for(where: str, order: int | None) -> asyncio.AbstractEventLoop:
    """A loop of that kind: the one for programs, or one in virtual time with the order of a seed."""
    orders_run[where] += 1
    if order is not None:
        return new_event_loop(order, loop=where)
    if where == "asyncio":
        return asyncio.new_event_loop()
    return pinloop.new_event_loop(tasks=os.environ.get("PINLOOP_TEST_TASKS", "pinloop"))
