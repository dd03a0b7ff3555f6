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


def new_event_loop(*, tasks: str = "pinloop", spin_us: float = 0) -> Loop:
    """A fresh, open pinloop event loop.

    `tasks` says of which classes its futures and tasks are: "pinloop" (the default) or "asyncio",
    for who needs asyncio's own, as tools do that read another process's memory (`python -m asyncio ps`
    and `pstree`) and C extensions that take asyncio's structs apart.

    `spin_us` is for who pays any price for latency: before it sleeps the loop goes on asking the kernel for
    up to so many microseconds (0, the default: none; at most 1,000,000). What happens meanwhile finds it
    awake, which saves a sleep and a wake-up, and a timer that is due by then is served to the point. It
    costs a core: a loop that waits for something every `spin_us` or more often takes all of one, and where
    there is none to spare, whoever is to send the answer waits for it. Other threads are not held up: the
    GIL is free meanwhile. A loop to which nothing happens spins once, then sleeps.

    Raises OSError when the process is out of descriptors, ValueError for other classes and for times out
    of range, TypeError for a time that is no number.
    """
    return Loop(tasks=tasks, spin_us=spin_us)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None, spin_us: float = 0) -> T:
    """Run a coroutine to its end on a fresh pinloop loop and return its result.

    As `asyncio.run`: what is left is cancelled and awaited, asynchronous generators and
    the default executor are shut down, the loop is closed.  Ctrl-C cancels `main` and
    then raises KeyboardInterrupt.  `spin_us` is `new_event_loop`'s.  Raises RuntimeError where a
    loop is running already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("pinloop.run() cannot be called from a running event loop")
    factory = functools.partial(new_event_loop, spin_us=spin_us)
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
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
