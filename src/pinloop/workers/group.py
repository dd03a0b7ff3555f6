"""A scope whose children run in one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from ..scopes import Scope
from .calls import name_of


class Runs(Protocol):
    """What makes calls in one worker."""

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any: ...


class WorkerScope:
    """A scope whose children are calls in one worker. Made by `pool[i].scope()`.

    It is left when they have all ended. The first that fails cancels the others, and all errors are raised
    together, as `pinloop.scope` does it.
    """

    def __init__(self, worker: Runs, scope: Scope) -> None:
        self._worker = worker
        self._scope = scope

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return await self._scope.__aexit__(kind, exc, traceback)

    def spawn(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> asyncio.Task[Any]:
        """Begin to call `fn(*args)` in the worker, as a child of this scope; its task. As the pool's `run`.

        Raises RuntimeError where `Scope.spawn` does.
        """
        return self._scope.spawn(self._worker.run(fn, *args), name or name_of(fn))

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the body and the children. As `Scope.cancel`."""
        self._scope.cancel(reason)

    @property
    def scope(self) -> Scope:
        """The scope that it is made of: its deadline, its children and the rest."""
        return self._scope

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope, now left, was cut short by its own cancellation, and nothing in it failed."""
        return self._scope.cancelled_caught

    def __repr__(self) -> str:
        return f"<WorkerScope of {self._worker!r} {self._scope!r}>"
