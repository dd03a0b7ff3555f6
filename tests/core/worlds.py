"""The same test on asyncio's classes and on ours: asyncio is the referee of what these tests ask for.

A `World` is a loop with the Task and the Future that go with it. The fixture `world` gives one after another.
Where what is right depends on the version of Python (texts, above all), a test is a scenario that writes down
what it sees: `alike` runs it on asyncio and on each other world, and wants the same lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import gc
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import pinloop

Scenario = Callable[["World", list[Any]], None]


@dataclass
class World:
    """A loop and its classes."""

    name: str
    loop: Any
    Task: Any
    Future: Any
    errors: list[dict[str, Any]] = field(default_factory=list)  # told to the exception handler

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine, run by a task of this world."""
        return self.loop.run_until_complete(self.spawn(coro))

    def spawn(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        return self.Task(coro, loop=self.loop, **kwargs)

    def future(self) -> Any:
        return self.Future(loop=self.loop)

    def turn(self, times: int = 1) -> None:
        """Let the loop run what is ready, so many times."""
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def messages(self) -> list[str]:
        """What was reported, in short; forgotten with this."""
        told = [normal(each["message"]) for each in self.errors]
        self.errors.clear()
        return told


def asyncios() -> tuple[Any, Any, Any]:
    return asyncio.SelectorEventLoop(), asyncio.Task, asyncio.Future


def ours() -> tuple[Any, Any, Any]:
    return pinloop.new_event_loop(), pinloop.Task, pinloop.Future


def ours_on_asyncios_loop() -> tuple[Any, Any, Any]:
    loop: Any = asyncio.SelectorEventLoop()
    loop.set_task_factory(lambda loop, coro, **kwargs: pinloop.Task(coro, loop=loop, **kwargs))
    loop.create_future = lambda: pinloop.Future(loop=loop)
    return loop, pinloop.Task, pinloop.Future


def asyncios_on_our_loop() -> tuple[Any, Any, Any]:
    return pinloop.new_event_loop(tasks="asyncio"), asyncio.Task, asyncio.Future


MAKERS = {
    "asyncio": asyncios,
    "ours": ours,
    "ours on asyncio's loop": ours_on_asyncios_loop,
    "asyncio's tasks on our loop": asyncios_on_our_loop,
}
OTHERS = [name for name in MAKERS if name != "asyncio"]


@contextlib.contextmanager
def made(name: str) -> Iterator[World]:
    """A world, which ends with its loop closed and nothing reported that the test has not taken."""
    world = World(name, *MAKERS[name]())
    world.loop.set_exception_handler(lambda _, context: world.errors.append(context))
    try:
        yield world
        gc.collect()
        assert not world.errors, f"reported to the loop's exception handler: {world.errors}"
    finally:
        if not world.loop.is_closed():
            world.loop.close()


def normal(text: object) -> str:
    """A text without what differs from run to run: addresses, names of tasks that nobody named, modules."""
    plain = re.sub(r"0x[0-9a-f]+", "0x…", str(text))
    plain = re.sub(r"Task-\d+", "Task-n", plain)
    plain = re.sub(r"(_run_until_complete_cb|_stop_loop_of)\(\) at [^\],]*", "run_until_complete's", plain)
    return re.sub(r"\b(_asyncio|asyncio\.(tasks|futures)|pinloop(\._core)?)\.(?=(Task|Future)\b)", "", plain)


def told(exception: BaseException | None) -> str:
    """An exception's class and text."""
    return "none" if exception is None else normal(f"{type(exception).__name__}: {exception}")


def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """What came of a call, as a text."""
    try:
        return normal(repr(call(*args, **kwargs)))
    except BaseException as exception:
        return told(exception)


def alike(scenario: Scenario) -> Any:
    """Make a test of a scenario: its log on each world is to be the one on asyncio."""

    @pytest.mark.parametrize("name", OTHERS)
    def test(name: str) -> None:
        logs = []
        for each in ("asyncio", name):
            log: list[Any] = []
            with made(each) as world:
                scenario(world, log)
            assert log, "the scenario wrote nothing down"
            logs.append(log)
        if logs[1] != logs[0]:
            lines = [[repr(each) for each in log] for log in logs]
            pytest.fail(
                "\n".join(difflib.unified_diff(*lines, "asyncio", name, n=2, lineterm="")), pytrace=False
            )

    test.__doc__ = scenario.__doc__
    test.__name__ = scenario.__name__
    test.__module__ = scenario.__module__
    return test


def in_turn(log: list[Any], what: Any) -> Callable[..., None]:
    """A callback that writes `what` down."""
    return lambda *_: log.append(what)


EAGER = sys.version_info >= (3, 12)  # Task(eager_start=)
DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))
