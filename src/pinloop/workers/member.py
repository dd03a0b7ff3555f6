"""One worker of a pool, as its users see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, overload

from .._core import Receiver, Sender
from ..channels import checked_capacity
from ..scopes import scope
from .calls import Caller
from .group import WorkerScope
from .supervise import Slot

T = TypeVar("T")

Function = Callable[..., Any]


class Pool(Protocol):
    """What a worker asks of the pool that it belongs to."""

    def _check_open(self) -> None: ...
    async def _call(
        self, only: Slot | None, fn: Function, args: tuple[Any, ...], idempotent: bool
    ) -> Any: ...
    def _submit(
        self, slot: Slot | None, fn: Function, args: tuple[Any, ...], idempotent: bool
    ) -> asyncio.Task[Any]: ...
    async def _up(self, only: Slot | None) -> Caller: ...


class Worker:
    """One worker of a pool, whatever process or thread it is at the time. Made by `pool[i]`."""

    __slots__ = ("_pool", "_slot")

    def __init__(self, pool: Pool, slot: Slot) -> None:
        self._pool = pool
        self._slot = slot

    def __repr__(self) -> str:
        state = "down" if self.pid is None else f"pid={self.pid}"
        return f"<Worker {self.index} {state} calls={self.calls} restarts={self.restarts}>"

    @property
    def index(self) -> int:
        """Its place in the pool."""
        return self._slot.index

    @property
    def pid(self) -> int | None:
        """The process that it is; None while it is being restarted."""
        return self._slot.pid

    @property
    def cpus(self) -> tuple[int, ...] | None:
        """The CPUs that it is pinned to; None if it is not."""
        return self._slot.cpus

    @property
    def calls(self) -> int:
        """How many calls are under way there."""
        return 0 if self._slot.caller is None else len(self._slot.caller.calls)

    @property
    def restarts(self) -> int:
        """How often it was restarted."""
        return self._slot.restarted

    @overload
    async def run(
        self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any, idempotent: bool = False
    ) -> T: ...
    @overload
    async def run(self, fn: Callable[..., T], *args: Any, idempotent: bool = False) -> T: ...
    async def run(self, fn: Function, *args: Any, idempotent: bool = False) -> Any:
        """As the pool's `run`, in this worker. While it is being restarted this waits."""
        self._pool._check_open()
        return await self._pool._call(self._slot, fn, args, idempotent)

    def submit(self, fn: Function, *args: Any, idempotent: bool = False) -> asyncio.Task[Any]:
        """As the pool's `submit`, in this worker."""
        return self._pool._submit(self._slot, fn, args, idempotent)

    async def channel(self, capacity: float) -> tuple[Sender[Any], Receiver[Any]]:
        """A channel between this loop and this worker. As the pool's `channel`."""
        least = checked_capacity(capacity)
        self._pool._check_open()
        caller = self._slot.caller or await self._pool._up(self._slot)
        return caller.hub.open(least)

    def scope(
        self, deadline: float | None = None, shield: bool = False, limit: int | None = None
    ) -> WorkerScope:
        """A scope whose children run in this worker; to be entered by `async with`.

        async with pool[0].scope() as s:
            s.spawn(fn, *args)

        The arguments are `pinloop.scope`'s.
        """
        return WorkerScope(self, scope(deadline, shield, limit))
