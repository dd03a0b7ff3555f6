"""What goes wrong with a loop as a whole, and who waits where when it does."""

from __future__ import annotations

import asyncio
import gc
import inspect
import traceback
from collections.abc import AsyncGenerator, Iterable, Iterator
from types import AsyncGeneratorType, FrameType
from typing import Any


class Deadlock(RuntimeError):
    """Tasks wait, and nothing is left that could wake one of them."""


class Livelock(RuntimeError):
    """The test went on and on: it came to its limit of steps or of virtual time."""


class Leftovers(RuntimeError):
    """The test ended before its tasks, or without closing its asynchronous generators."""


def describe_tasks(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Each of `tasks` in the order of their making, and the frames where it is suspended."""
    return "\n".join(_describe_task(task) for task in sorted(tasks, key=_made))


def describe_generators(generators: Iterable[AsyncGenerator[Any, Any]]) -> str:
    """Each of `generators`, and the line where it stands."""
    return "\n".join(f"{_called(generator)}:\n{_format(_frames(generator))}" for generator in generators)


def count(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _made(task: asyncio.Task[Any]) -> tuple[int, str]:
    name = task.get_name()
    digits = name.removeprefix("Task-")
    return (int(digits) if digits.isdecimal() else 0, name)


def _describe_task(task: asyncio.Task[Any]) -> str:
    coro = task.get_coro()
    frames = list(_frames(coro))
    head = f"{task.get_name()}, {_called(coro)}"
    if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
        return f"{head}, has not begun:\n{_format(frames)}"
    return f"{head}:\n{_format(frames)}"


def _called(suspended: Any) -> str:
    name = getattr(suspended, "__qualname__", None)
    return f"{name}()" if name else repr(suspended)


def _format(frames: Iterable[FrameType]) -> str:
    stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return "".join(traceback.format_list(stack)).rstrip()


def _frames(suspended: Any) -> Iterator[FrameType]:
    """From a coroutine, generator or asynchronous generator down to where it waits."""
    while suspended is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(suspended, f"{kind}_frame", None)
            if isinstance(frame, FrameType):
                yield frame
                suspended = getattr(suspended, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            # `asend()` and its like do not tell whose they are.
            held = (each for each in gc.get_referents(suspended) if isinstance(each, AsyncGeneratorType))
            suspended = next(held, None)
