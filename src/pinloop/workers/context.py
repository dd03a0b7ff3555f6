"""What goes with a call besides its arguments: context variables and the deadline of the scope around it."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import sys
import time
from typing import Any

from .._core import current_node, scope_variable
from .wire import dumps, loads, protocol

this_worker: contextvars.ContextVar[Any] = contextvars.ContextVar("pinloop_worker", default=None)
"""What `current_worker` tells."""

STAYS = (scope_variable, this_worker)

Place = tuple[str, str]
Variables = dict[Place, bytes]

# A cache of what can be found out again: whichever thread fills it, it is the same.
_places: dict[contextvars.ContextVar[Any], Place | None] = {}


def variables() -> Variables | None:
    """The context variables that can travel: those that are in a module, where their value can be pickled."""
    found: Variables | None = None
    for variable, value in contextvars.copy_context().items():
        if variable in STAYS:
            continue
        place = place_of(variable)
        if place is None:
            continue
        try:
            pickled = dumps(value, protocol)
        except Exception:  # a span, a connection: it belongs to this process
            continue
        if found is None:
            found = {}
        found[place] = pickled
    return found


def place_of(variable: contextvars.ContextVar[Any]) -> Place | None:
    """The module and the name by which another process finds the variable; None if it is in no module."""
    try:
        return _places[variable]
    except KeyError:
        pass
    place = None
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                place = "__main__" if name == "__mp_main__" else name, attribute
                break
        if place is not None:
            break
    _places[variable] = place
    return place


def apply(found: Variables) -> None:
    """Set variables that came with a call. What is not to be had here is not set."""
    for (module, name), pickled in found.items():
        try:
            variable = getattr(sys.modules.get(module) or importlib.import_module(module), name)
            value = loads(pickled)
        except Exception:
            continue
        if isinstance(variable, contextvars.ContextVar):
            variable.set(value)


def take_over(found: list[tuple[contextvars.ContextVar[Any], Any]]) -> None:
    """Set variables that came from another thread, but not which scope it is in."""
    for variable, value in found:
        if variable not in STAYS:
            variable.set(value)


def deadline() -> float | None:
    """When the scopes around the caller will have cancelled it, by `time.monotonic`; None for never."""
    if scope_variable.get(None) is None:
        return None
    node = current_node(asyncio.current_task())
    least: float | None = None
    while node is not None:
        if node._is_block:
            when = node._deadline
            if when is not None and (least is None or when < least):
                least = when
        if node._shield:
            break
        node = node._parent
    if least is None:
        return None
    return time.monotonic() + (least - asyncio.get_running_loop().time())
