"""What lets asyncio's own functions find pinloop's tasks.

`asyncio.all_tasks()` goes through a WeakSet in which each task of another class than asyncio's own enters
itself when it is made, at a third of the cost of making it.  Pinloop's loops know their tasks, so the set is
given a class that asks them when it is gone through.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import weakref
from asyncio import futures, tasks
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from ._loop import Loop


class TaskRegistry(weakref.WeakSet[Any]):
    """asyncio's set of tasks, and the tasks of the loops that have been added."""

    loops: weakref.WeakSet[Loop]

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        for loop in list(self.loops):
            yield from loop._pending_tasks()


def _asyncio_set() -> weakref.WeakSet[Any]:
    """The WeakSet that `asyncio.all_tasks` goes through."""
    for name in ("_all_tasks", "_scheduled_tasks"):  # 3.11; 3.12 and 3.13
        if sys.version_info < (3, 14) and hasattr(tasks, name):
            return getattr(tasks, name)  # type: ignore[no-any-return]
    # From 3.14 on it is a field of the C module, which shows it to the garbage collector alone.
    found = [held for held in gc.get_referents(sys.modules["_asyncio"]) if isinstance(held, weakref.WeakSet)]
    if len(found) != 1:
        raise ImportError(f"asyncio's set of tasks was not found in this Python ({sys.version})")
    return found[0]


def _registry() -> TaskRegistry:
    registry: Any = _asyncio_set()
    if not isinstance(registry, TaskRegistry):
        registry.__class__ = TaskRegistry
        registry.loops = weakref.WeakSet()
    return registry  # type: ignore[no-any-return]


def add_loop(loop: Loop) -> None:
    """Have `asyncio.all_tasks(loop)` find the tasks of `loop`, and `live_loops` the loop."""
    loop._number = next(_numbers)
    _registry().loops.add(loop)


_numbers = itertools.count()


def live_loops() -> list[Loop]:
    """Pinloop's loops of this process that have not gone, oldest first. May be called from any thread."""
    while True:
        try:
            found = list(_registry().loops)
        except RuntimeError:  # another thread has made one meanwhile
            continue
        return sorted(found, key=lambda loop: loop._number)


def _teach_awaited_by() -> None:
    """Let `gather`, TaskGroup and others note in pinloop's futures who awaits them (Python 3.14 on)."""
    for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
        if hasattr(futures, name):
            for module in (futures, asyncio):
                setattr(module, name, getattr(_core, name))


_teach_awaited_by()
