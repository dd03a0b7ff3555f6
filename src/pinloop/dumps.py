"""Where every task is: its state, what it waits for, its scopes, its stack.

`dump_tasks()` writes that now; after `dump_on_signal()` a signal does, also while a callback blocks the loop.
It works for all asyncio loops; only which scopes a task is in stays unknown for tasks of asyncio's own class
before Python 3.12.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import linecache
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

from . import _core
from ._registry import live_loops

_MOST_FRAMES = 100  # of one task; what is deeper is counted
_LONGEST_REPR = 200

# What stands between a coroutine and what it awaits, and tells of it to the garbage collector alone.
_OPAQUE = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")

_PLAIN_FUTURES = (_core.Future, asyncio.Future)

AnyTask = asyncio.Task[Any]
Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


def dump_tasks(file: TextIO | None = None, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Write about every task that is not done to *file* (`sys.stderr`).

    Of *loop*, or of all loops of pinloop that are open and the one that runs in this thread. Each task comes
    with its name, whether it runs, is ready to, has not begun or waits and for what, how often it was asked
    to cancel itself, the scopes that it is in and whose those are, and its stack: of a task that runs the
    functions that it is in, of others the coroutines that await one another.

    May be called from any thread and from a signal handler. Nothing is changed by it, and a `repr` that
    fails is told as that.
    """
    text = format_tasks(loop)
    file = sys.stderr if file is None else file
    try:
        file.write(text)
        file.flush()
    except RuntimeError:
        # In a signal handler, in the middle of a write to the same file: "reentrant call".
        os.write(file.fileno(), text.encode(errors="backslashreplace"))


def dump_on_signal(signum: int | None = None, file: TextIO | None = None) -> Handler:
    """Have signal *signum* (`SIGUSR1`) dump all tasks to *file* (`sys.stderr`); the handler set before.

    It is a handler of the `signal` module, run between two instructions of the main thread's Python code: so
    it works while a callback blocks the loop in Python code, and with loops in other threads. It does not
    where the main thread hangs in C code that looks for no signals; `faulthandler.register` does. Whatever
    was interrupted goes on afterwards, `time.sleep()` and system calls included.

    `signal.signal(signum, previous)` ends it. Raises what that raises: ValueError outside of the main thread
    or for what is no signal, OSError for one that cannot be caught.
    """

    def handler(signum: int, frame: FrameType | None) -> None:
        try:
            dump_tasks(file)
        except Exception:
            # Who asks where a program hangs must not be what ends it.
            traceback.print_exc(file=sys.__stderr__)

    return signal.signal(signal.SIGUSR1 if signum is None else signum, handler)


def format_tasks(loop: asyncio.AbstractEventLoop | None = None, *, most: int | None = None) -> str:
    """What `dump_tasks` writes. Of each loop only the first *most* tasks, if that is given."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"Tasks of process {os.getpid()} on {now}"]
    loops = _loops() if loop is None else [loop]
    for each in loops:
        lines += ["", *_describe_loop(each, most)]
    if not loops:
        lines.append("no loop is open")
    return "\n".join(lines) + "\n"


def _loops() -> list[asyncio.AbstractEventLoop]:
    """Those that are open, oldest first."""
    found: list[asyncio.AbstractEventLoop] = [loop for loop in live_loops() if not loop.is_closed()]
    running = asyncio._get_running_loop()
    if running is not None and running not in found:
        found.append(running)
    return found


def _describe_loop(loop: asyncio.AbstractEventLoop, most: int | None) -> Iterator[str]:
    thread = getattr(loop, "_thread_id", None)
    where = "not running"
    if loop.is_running():
        name = next((each.name for each in threading.enumerate() if each.ident == thread), "?")
        where = f"in thread {name!r}"
    number = getattr(loop, "_number", None)
    name = f"Loop {'' if number is None else f'{number} '}{_safe(loop)}, {where}"
    if _is_out_of_reach(thread):
        yield f"{name}; without a GIL only the thread itself can look at its tasks"
        return
    tasks = _tasks_of(loop)
    yield f"{name}, tasks: {len(tasks)}"
    stack = _stack_of_thread(thread) if thread is not None and loop.is_running() else []
    for task in tasks[:most]:
        yield ""
        yield from _describe_task(task, stack)
    if most is not None and len(tasks) > most:
        yield f"\n... and {len(tasks) - most} more tasks"


def _is_out_of_reach(thread: int | None) -> bool:
    """Whether another thread may be changing what is to be looked at."""
    has_gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return thread is not None and thread != threading.get_ident() and not has_gil()


def _tasks_of(loop: asyncio.AbstractEventLoop) -> list[AnyTask]:
    """Those that are not done: pinloop's in the order in which they were made, then the others."""
    pending = getattr(loop, "_pending_tasks", None)
    ours = list(reversed(pending())) if pending is not None else []
    others = asyncio.all_tasks(loop).difference(ours)
    return ours + sorted(others, key=lambda task: (len(task.get_name()), task.get_name()))


def _stack_of_thread(thread: int) -> list[tuple[FrameType, int]]:
    """The frames of a thread with their lines, innermost first, but for those of this module."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return list(traceback.walk_stack(frame)) if frame is not None else []


# ------------------------------------------------------------------------------ a task --


def _describe_task(task: AnyTask, stack: list[tuple[FrameType, int]]) -> Iterator[str]:
    coro = task.get_coro()
    running = bool(_attribute(coro, "running"))
    requests = task.cancelling()
    cancelling = f", cancelling ({requests} request{'s' * (requests > 1)})" if requests else ""
    yield f"Task {task.get_name()!r} {_state(task, coro, running)}{cancelling}"
    yield from _describe_scopes(task)
    frames, last = _frames_of_running(coro, stack) if running else _frames_of_waiting(coro)
    lines = [traceback.FrameSummary(*_place(frame, line)) for frame, line in frames[:_MOST_FRAMES]]
    yield from (line.rstrip("\n") for line in traceback.format_list(lines))
    if len(frames) > _MOST_FRAMES:
        yield f"  ... and {len(frames) - _MOST_FRAMES} more frames"
    if last is not None:
        yield f"  {last}"


def _state(task: AnyTask, coro: Any, running: bool) -> str:
    if running:
        return "runs"
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is not None and not waiter.done():
        return f"waits for {_name_of(waiter)}"
    if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
        return "has not begun"
    return "is ready"


def _describe_scopes(task: AnyTask) -> Iterator[str]:
    node = _core.task_node(task)
    first = True
    while node is not None:
        host = node._host
        what = _safe(node) if node._is_block else f"{node.__qualname__}()"
        if first and host is task:
            role = "which it entered"
        else:
            role = f"of {_name_of(host)}" if host is not None else "which nobody is in"
        yield f"  {'in' if first else 'within'} {what} {role}"
        node, first = node._parent, False


def _frames_of_running(
    coro: Any, stack: list[tuple[FrameType, int]]
) -> tuple[list[tuple[FrameType, int]], str | None]:
    """The frames that the thread is in, from the task's coroutine inwards."""
    outermost = _attribute(coro, "frame")
    for depth, (frame, _) in enumerate(stack):
        if frame is outermost:
            return stack[depth::-1], None
    return _frames_of_waiting(coro)


def _frames_of_waiting(coro: Any) -> tuple[list[tuple[FrameType, int]], str | None]:
    """The frames of the coroutines, generators and asynchronous generators that await one another.

    And what the last of these awaits, if that is something else with a name.
    """
    frames: list[tuple[FrameType, int]] = []
    seen: set[int] = set()
    while coro is not None and id(coro) not in seen:
        seen.add(id(coro))
        if type(coro).__name__ in _OPAQUE:
            coro = next((held for held in gc.get_referents(coro) if _attribute(held, "frame")), None)
            continue
        frame = _attribute(coro, "frame")
        if frame is None:
            name = getattr(coro, "__qualname__", None)
            return frames, f"in {name}()" if name is not None else None
        frames.append((frame, frame.f_lineno))
        coro = _awaited(coro)
    return frames, None


_PREFIXES = {"frame": ("cr", "gi", "ag"), "running": ("cr", "gi", "ag")}


def _attribute(coro: Any, name: str) -> Any:
    """`cr_frame` and the like, whatever kind of coroutine it is."""
    for prefix in _PREFIXES[name]:
        found = getattr(coro, f"{prefix}_{name}", None)
        if found is not None:
            return found
    return None


def _awaited(coro: Any) -> Any:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if hasattr(coro, name):
            return getattr(coro, name)
    return None


def _place(frame: FrameType, line: int) -> tuple[str, int, str]:
    code = frame.f_code
    linecache.checkcache(code.co_filename)
    name = code.co_qualname
    return code.co_filename, line, name


# ---------------------------------------------------------------------------- in words --


def _name_of(future: Any) -> str:
    if isinstance(future, asyncio.Task):
        return f"task {future.get_name()!r}"
    if type(future) not in _PLAIN_FUTURES:
        return _safe(future)
    # Its repr tells no more, but for debug mode, and it asks for contexts, which would then rest no more.
    made = getattr(future, "_source_traceback", None)
    return f"a future made at {made[-1].filename}:{made[-1].lineno}" if made else "a future"


def _safe(thing: object) -> str:
    """Its repr, cut short; a word about it where that fails."""
    try:
        text = repr(thing)
    except Exception as error:
        return f"<{type(thing).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else text[: _LONGEST_REPR - 3] + "..."
