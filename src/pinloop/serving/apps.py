"""What is served: how the service names an app to its workers, and how a worker gets it from its name."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

HANDLER, ASGI = "handler", "asgi"
KINDS = (HANDLER, ASGI)


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a module: what travels instead of an app that is not to be copied."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"

    def load(self) -> Any:
        """What is there. Raises ImportError or AttributeError that says which part there is not."""
        try:
            found: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if self.module != missing and not self.module.startswith(f"{missing}."):
                raise  # it is there, but imports something that is not
            raise ImportError(f"cannot serve {str(self)!r}: there is no module {missing!r}") from None
        for part in self.attribute.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise AttributeError(
                    f"cannot serve {str(self)!r}: {self.module!r} has no attribute {self.attribute!r}"
                ) from None
        return found


def travelling(app: Any) -> Any:
    """The app as it can be sent to a worker: by its place, where it has one.

    Raises ValueError for a name that is not of the form "module:attribute", TypeError for what cannot be
    called.
    """
    if isinstance(app, str):
        name, colon, attribute = app.partition(":")
        if not (colon and all(part.isidentifier() for part in (name + "." + attribute).split("."))):
            raise ValueError(f'an app is named "module:attribute", not {app!r}')
        return Place(name, attribute)
    if not callable(app):
        raise TypeError(f"{app!r} is neither a handler nor an ASGI app: it cannot be called")
    if isinstance(app, (FunctionType, type)):
        return app  # pickled by its name
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:  # not to be copied, even where that can be done
                return Place("__main__" if name == "__mp_main__" else name, attribute)
    return app


def load(app: Any, factory: bool) -> Callable[..., Any]:
    """The app in a worker; with `factory`, what the one that was named returns."""
    found = app.load() if isinstance(app, Place) else app
    if not callable(found):
        raise TypeError(
            f"cannot serve {str(app)!r}: it is of type {type(found).__qualname__}, and cannot be called"
        )
    if factory:
        found = found()
        if not callable(found):
            raise TypeError(f"the factory {str(app)!r} returned {found!r}, which cannot be called")
    result: Callable[..., Any] = found
    return result


def kind_of(app: Callable[..., Any]) -> str:
    """Which kind an app is, by what it can be called with. Raises TypeError if that does not tell."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        takes = []
    else:
        takes = [kind for kind, count in ((HANDLER, 2), (ASGI, 3)) if _binds(signature, count)]
    if len(takes) != 1:
        raise TypeError(
            f"cannot tell whether {app!r} is a handler(reader, writer) or an ASGI app(scope, receive, send):"
            " say so by kind='handler' or kind='asgi'"
        )
    return takes[0]


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
