"""What the tests of channels and select share: which loops they run on, and tasks that wait."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import pinloop
from tests.api.support import ON_PINLOOP

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if ON_PINLOOP:
    LOOPS["pinloop"] = pinloop.new_event_loop
    LOOPS["pinloop-asyncio-tasks"] = functools.partial(pinloop.new_event_loop, tasks="asyncio")


def on_every_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes a test of an async function, run on each loop; what the loop's handler is told fails it."""

    @pytest.mark.parametrize("where", LOOPS)
    @functools.wraps(test)
    def runs(where: str, **arguments: Any) -> None:
        reports: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=LOOPS[where]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: reports.append(context))
            runner.run(test(**arguments))
        assert not reports

    signature = inspect.signature(test)
    where = inspect.Parameter("where", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    runs.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[where, *signature.parameters.values()], return_annotation=None
    )
    del runs.__wrapped__  # type: ignore[attr-defined]
    return runs


async def waiting(coro: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task that has begun, and waits."""
    task = asyncio.ensure_future(coro)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task
