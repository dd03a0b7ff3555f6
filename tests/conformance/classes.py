"""Whose Task and Future CPython's tests get.

The tests take the classes by name: `tasks._CTask` and `futures._CFuture` where the C classes are the thing
under test, `asyncio.Task` and `asyncio.Future` elsewhere, most of them while their module is imported.
`substitute` binds all of these names before that.

That the tests did get them is not taken for granted: a test counts as one about our classes only if its
class has one of them as its subject, or if a loop gave it an object of one (`saw`). What a loop gives is
looked at in every setting, and must be of the class that the setting promises.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import os
from typing import Any

import pinloop

ASYNCIO_TASK, ASYNCIO_FUTURE = asyncio.tasks.Task, asyncio.futures.Future
STAND_IN = "PINLOOP_CONFORMANCE_STAND_IN"  # asyncio's Python classes for ours, to try the substitution itself

seen: dict[type[Any], int] = {}  # objects that loops gave, by class, since the test began
wrong: set[str] = set()  # the classes of those that were to be of another


def own() -> tuple[type[Any], type[Any]]:
    """The Task and the Future that stand in for asyncio's."""
    if os.environ.get(STAND_IN):
        return asyncio.tasks._PyTask, asyncio.futures._PyFuture  # type: ignore[attr-defined]
    return pinloop.Task, pinloop.Future


def substitute() -> None:
    """Bind asyncio's names of its two classes to ours."""
    task, future = own()
    tasks, futures = asyncio.tasks, asyncio.futures
    for module, name, stand_in in (
        (asyncio, "Task", task),
        (tasks, "Task", task),
        (tasks, "_CTask", task),
        (asyncio, "Future", future),
        (futures, "Future", future),
        (futures, "_CFuture", future),
    ):
        setattr(module, name, stand_in)
    teach_call_graphs()
    if hasattr(tasks, "create_eager_task_factory"):
        tasks.eager_task_factory = tasks.create_eager_task_factory(task)  # type: ignore[assignment]
        asyncio.eager_task_factory = tasks.eager_task_factory


def teach_call_graphs() -> None:
    """Have the tests of the C functions for call graphs, from 3.14 on, find those that know our classes."""
    for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
        if hasattr(asyncio.futures, name):
            setattr(asyncio.futures, f"_c_{name}", getattr(asyncio.futures, name))


def watch_stdlib_loops() -> None:
    """Have the stdlib's loops tell what they make."""
    native = asyncio.base_events.BaseEventLoop
    create_future, create_task = native.create_future, native.create_task

    def watched_future(self: Any) -> Any:
        return saw(create_future(self))

    def watched_task(self: Any, coro: Any, **kwargs: Any) -> Any:
        return saw(create_task(self, coro, **kwargs))

    native.create_future = watched_future  # type: ignore[method-assign]
    native.create_task = watched_task  # type: ignore[method-assign]


def promised(whose: str) -> tuple[type[Any], type[Any]]:
    """The Task and the Future of a setting's `tasks`."""
    return own() if whose == "pinloop" else (ASYNCIO_TASK, ASYNCIO_FUTURE)


def saw(thing: Any, whose: str = "") -> Any:
    """Count an object that a loop made, which is to be one of `whose`."""
    kind = type(thing)
    seen[kind] = seen.get(kind, 0) + 1
    if whose and kind not in promised(whose) and not os.environ.get(STAND_IN):
        wrong.add(f"{kind.__module__}.{kind.__qualname__}")
    return thing


def is_about(test: Any, whose: str) -> bool:
    """Whether a test had to do with these classes."""
    subjects = [getattr(test, name, None) for name in ("cls", "Task", "Future")]
    return any(isinstance(each, type) and issubclass(each, promised(whose)) for each in (*subjects, *seen))
