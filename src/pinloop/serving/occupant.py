"""The places of a service's workers, and who is in them: reloading, one comes before the other goes."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from typing import Any

from .._core import scope_variable
from ..workers.calls import Caller
from ..workers.errors import WorkerCrashed, WorkersClosed
from ..workers.supervise import Backend, Life, Restarts, Rules, Slot
from .acceptor import Acceptor, Target
from .host import listen, receive, stop_accepting

logger = logging.getLogger("pinloop.serve")

PATIENCE = 2.0
"""Seconds that a worker has to accept what waits, before the listeners are closed whether it has or not."""


class Seat:
    """One of a service's workers, whoever it is at the time: its CPUs and its listeners."""

    occupant: Occupant

    def __init__(self, index: int, cpus: tuple[int, ...] | None, listeners: list[socket.socket]) -> None:
        self.index = index
        self.cpus = cpus
        self.listeners = listeners


class Occupant:
    """A worker, restarts included, from its start until it leaves. Each of its lives is told to serve."""

    def __init__(
        self, seat: Seat, backend: Backend, rules: Rules, restarts: Restarts, acceptor: Acceptor | None
    ) -> None:
        self.leaving = False
        self._seat = seat
        self._acceptor = acceptor
        self._target: Target | None = None
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done once it serves for the first time, or will not."""
        self.slot = Slot(seat.index, seat.cpus, backend, rules, restarts, self._news.set)
        self.slot.task.add_done_callback(lambda _: self._news.set())
        # Apart from the scope that the service is entered in: a deadline there is not one for the workers.
        apart = contextvars.copy_context()
        apart.run(scope_variable.set, None)
        self.task = self._loop.create_task(
            self._tend(), name=f"pinloop serve: worker {seat.index}", context=apart
        )

    async def _tend(self) -> None:
        """Tell each life to serve. Raises what keeps the worker from being started again."""
        try:
            told: Caller | None = None
            while not self.slot.task.done():
                caller = self.slot.caller
                if caller is not told:
                    told = caller
                    if caller is not None:
                        await self._begin(caller, self.slot.life)
                    continue
                self._news.clear()
                await self._news.wait()
            if not self.slot.task.cancelled():
                self.slot.task.result()
        except BaseException as error:
            if not self.ready.done() and isinstance(error, Exception):
                self.ready.set_exception(error)
                self.ready.exception()  # whoever waits for it will see it; else it is the task's
            raise
        finally:
            self._untarget()
            if not self.ready.done():
                self.ready.set_exception(WorkersClosed("the service was closed before the worker was ready"))
                self.ready.exception()

    async def _begin(self, caller: Caller, life: Life | None) -> None:
        assert life is not None
        life.exited.add_done_callback(self._exited)
        try:
            if self._acceptor is None:
                await caller.call(listen, tuple(self._seat.listeners))
            else:
                await self._connect(caller, self._acceptor)
        except WorkerCrashed:
            return  # the next life will be told
        except Exception:
            if self.leaving:
                return
            self.slot.kill()
            await self.slot.stop()
            raise
        if not self.ready.done():
            self.ready.set_result(None)

    async def _connect(self, caller: Caller, acceptor: Acceptor) -> None:
        ours, theirs = socket.socketpair()
        try:
            await caller.call(receive, (theirs,))
        except BaseException:
            ours.close()
            theirs.close()
            raise
        if caller.hub.link.pickles:
            theirs.close()  # the worker has a duplicate
        if self.leaving or caller.lost:
            ours.close()
        else:
            self._target = acceptor.add(ours)

    def _exited(self, exited: asyncio.Future[Any]) -> None:
        self._untarget(ended=True)
        if not self.leaving:
            logger.warning("worker %d %s", self._seat.index, exited.result())

    def _untarget(self, ended: bool = False) -> None:
        target, self._target = self._target, None
        if target is not None and self._acceptor is not None:
            self._acceptor.remove(target, ended)

    async def stop_accepting(self) -> None:
        """Have it accept what has waited until now, then no more; return once it has, or will not soon."""
        self.leaving = True
        caller = self.slot.caller
        if caller is not None and self._acceptor is None:
            try:
                async with asyncio.timeout(PATIENCE):
                    await caller.call(stop_accepting, ())
            except (WorkerCrashed, TimeoutError):
                pass
            except asyncio.CancelledError:  # by the worker, if a reload has told it to end before
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise

    async def leave(self) -> None:
        """Accept no more, end what is open, end. Returns once it has."""
        self.leaving = True
        self._untarget()
        await self.slot.stop()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()

    def kill(self) -> None:
        """End now."""
        self.leaving = True
        self.slot.kill()
