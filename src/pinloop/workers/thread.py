"""Workers that are threads of this process: for builds without the GIL, and for what need not be in parallel.

Between the loops of two threads nothing is shared but each loop's inbox: a batch of messages is one
`call_soon_threadsafe`. What is posted is handed over as it is, not copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..runner import new_event_loop
from .link import LinkEnd, nothing
from .placement import CPUs, pin
from .worker import CurrentWorker, work

PATIENCE = 1.0
"""Seconds after which a thread that was told to end and does not is given up."""

Message = tuple[int, int, Any]


class ThreadLink(LinkEnd):
    """One end of a link between two loops of this process."""

    pickles = False
    ahead = 0.0
    dumps = staticmethod(pickle.dumps)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)  # never congested: there is no buffer between the two that could be full
        self._other: ThreadLink
        self._out: list[Message] = []
        self._flushing = False
        self._begun = False
        self._early: list[list[Message]] = []

    def begin(self) -> None:
        self._begun = True
        early, self._early = self._early, []
        for batch in early:
            self._take(batch)

    @property
    def descriptors(self) -> list[int]:
        return []

    def post(self, kind: int, number: int, obj: Any = None, fds: Sequence[int] = ()) -> None:
        if self._lost:
            return
        self._out.append((kind, number, obj))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def load(self, payload: Any) -> Any:
        return payload

    def flush(self) -> None:
        self._flushing = False
        if self._out and not self._lost:
            batch, self._out = self._out, []
            self._tell(self._other._take, batch)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._other._loop.call_soon_threadsafe(what, *args)

    async def sent(self) -> None:
        self.flush()

    def take(self) -> None:
        pass

    def _take(self, batch: list[Message]) -> None:
        """Called by this end's loop."""
        if not self._begun:
            self._early.append(batch)
            return
        self.received += 1
        for message in batch:
            self._handle(*message)

    def close(self) -> None:
        if not self._lost:
            self.flush()
            self._lost = True
            self.on_lost = nothing
            self.handlers = {}
            self._tell(self._other.lose)


def linked(one: asyncio.AbstractEventLoop, other: asyncio.AbstractEventLoop) -> tuple[ThreadLink, ThreadLink]:
    """The two ends of a link between two loops."""
    ends = ThreadLink(one), ThreadLink(other)
    ends[0]._other, ends[1]._other = ends[1], ends[0]
    return ends


class ThreadLife:
    """One thread, from its start to its end, in the pool."""

    def __init__(self, index: int, cpus: tuple[int, ...] | None, spin_us: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._there = new_event_loop(spin_us=spin_us)
        self.link, self._link = linked(self._loop, self._there)
        self.exited: asyncio.Future[str] = self._loop.create_future()
        """How it ended, in words, once it has."""
        self.pid = os.getpid()
        self._index = index
        self._cpus = cpus
        self._why: str | None = None
        self._task: asyncio.Task[None] | None = None  # of its own loop
        # One that hangs must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._live, name=f"pinloop-worker-{index}", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._there.close()
            raise

    # ------------------------------------------------------------- in the thread --

    def _live(self) -> None:
        how = "exited with code 0"
        problem: Exception | None = None
        try:
            if self._cpus is not None:
                pin(self._index, self._cpus)
        except OSError as error:
            problem = error
        try:
            with asyncio.Runner(loop_factory=lambda: self._there) as runner:
                runner.run(self._work(problem))
        except asyncio.CancelledError:
            how = "was cancelled"
        except BaseException as error:
            how = f"was ended by {error!r}"
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._ended, how)

    async def _work(self, problem: Exception | None) -> None:
        self._task = asyncio.current_task()
        try:
            await work(self._link, CurrentWorker(self._index, self._cpus, "thread"), problem)
        finally:
            self._link.close()

    def _cancel(self) -> None:
        if self._task is None:
            self._there.call_soon(self._cancel)  # it is about to begin
        else:
            self._task.cancel()

    # --------------------------------------------------------------- in the pool --

    def _ended(self, how: str) -> None:
        if not self.exited.done():
            self._thread.join()  # it has nothing left to do
            self.link.close()
            self.exited.set_result(self._why or how)

    def kill(self, why: str | None = None) -> None:
        """End it, as far as it can be: its tasks are cancelled, but code that blocks goes on."""
        if self.exited.done():
            return
        self._why = why or self._why
        with contextlib.suppress(RuntimeError):
            self._there.call_soon_threadsafe(self._cancel)
        self._loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if not self.exited.done():
            self.link.close()
            self.exited.set_result(
                f"{self._why or 'was cancelled'}, but its thread goes on: it cannot be killed"
            )

    def memory(self) -> int | None:
        return None


class ThreadBackend:
    """Starts threads."""

    name = "thread"

    def __init__(self, spin_us: float = 0) -> None:
        self._spin_us = spin_us

    async def open(self, places: list[CPUs | None]) -> list[CPUs | None]:
        return places

    async def close(self) -> None:
        pass

    async def start(self, index: int, cpus: tuple[int, ...] | None) -> ThreadLife:
        """Start worker `index`."""
        return ThreadLife(index, cpus, self._spin_us)
