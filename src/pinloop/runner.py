"""Swapping pinloop in: `run`, `new_event_loop`, `install` and the event loop policy."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

from . import _streams
from ._loop import Loop

T = TypeVar("T")


def new_event_loop(*, tasks: str = "pinloop") -> Loop:
    """A fresh, open pinloop event loop.

    `tasks` says of which classes its futures and tasks are: "pinloop" (the default) or "asyncio",
    for who needs asyncio's own, as tools do that read another process's memory (`python -m asyncio ps`
    and `pstree`) and C extensions that take asyncio's structs apart.

    Raises OSError when the process is out of descriptors, ValueError for other classes.
    """
    return Loop(tasks=tasks)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine to its end on a fresh pinloop loop and return its result.

    As `asyncio.run`: what is left is cancelled and awaited, asynchronous generators and
    the default executor are shut down, the loop is closed.  Ctrl-C cancels `main` and
    then raises KeyboardInterrupt.  Raises RuntimeError where a loop is running already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("pinloop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


@functools.cache
def event_loop_policy_class() -> type[Any]:
    """The class behind `pinloop.EventLoopPolicy`, made at the first call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        base: type[Any] = asyncio.DefaultEventLoopPolicy

    class EventLoopPolicy(base):  # type: ignore[misc]
        """asyncio's default policy, whose loops are pinloop's.

        Deprecated with all policies from Python 3.14 on; `loop_factory` is the way there.
        """

        def new_event_loop(self) -> Loop:
            return new_event_loop()

    EventLoopPolicy.__module__ = "pinloop"
    EventLoopPolicy.__qualname__ = "EventLoopPolicy"
    return EventLoopPolicy


_STREAMS = {
    name: (getattr(asyncio.streams, name), getattr(_streams, name))
    for name in ("open_connection", "start_server", "open_unix_connection", "start_unix_server")
}


def install(*, streams: bool | None = None) -> None:
    """Make pinloop the loop of `asyncio.run` and `asyncio.new_event_loop` in this process.

    Works on every version, without a warning: that policies are deprecated is asyncio's
    matter, and this function's promise does not depend on them.

    With `streams` true `asyncio.open_connection`, `start_server`, `open_unix_connection` and
    `start_unix_server` become pinloop's, on whatever loop they are called; with `streams` false
    they are again what they were when pinloop was imported; None leaves them as they are. Who
    imported such a function by its name before keeps the one it has.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(event_loop_policy_class()())
    if streams is not None:
        for name, (theirs, ours) in _STREAMS.items():
            for module in (asyncio, asyncio.streams):
                setattr(module, name, ours if streams else theirs)
