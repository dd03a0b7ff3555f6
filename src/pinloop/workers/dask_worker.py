"""What runs in a Dask worker: for each pool a thread with a loop, and its end of the link to the pool."""

from __future__ import annotations

import asyncio
import contextlib
import copyreg
import logging
import os
import pickle
import sys
import threading
from collections.abc import Sequence
from typing import Any

from distributed.core import Status

from .. import __version__
from ..runner import new_event_loop
from .comm import CommLink, Pump
from .placement import pin
from .worker import CurrentWorker, work

OPERATION = "pinloop_link"
"""What a pool says first on a connection to a Dask worker, and what handles it there."""

PATIENCE = 10.0
"""Seconds that a loop has to end after its pool has, before the log tells of it."""

logger = logging.getLogger("distributed.pinloop")


def kind() -> list[Any]:
    """What must be the same in the pool and in a Dask worker: pickles and frames are of these."""
    return [__version__, list(sys.version_info[:2]), sys.byteorder]


def install(dask_worker: Any) -> tuple[list[Any], int]:
    """Run by Dask in each worker before a pool connects to it: from now on it takes such connections."""
    try:
        pickle.loads(pickle.dumps(BaseExceptionGroup("", [KeyboardInterrupt()])))
    except TypeError:  # by tblib, which Dask uses for exceptions; it forgets the arguments of these
        copyreg.dispatch_table.pop(BaseExceptionGroup, None)
    dask_worker.handlers[OPERATION] = serve_link
    return kind(), os.getpid()


async def serve_link(comm: Any, index: int, cpus: Sequence[int] | None, spin_us: float) -> Status:
    """Called in the Dask worker's loop, with a connection that a pool has made: it is all of that worker."""
    hosted = Hosted(index, None if cpus is None else tuple(cpus), spin_us, Pump(comm))
    await hosted.serve()
    return Status.dont_reply


class Hosted:
    """A worker of a pool in a Dask worker."""

    def __init__(self, index: int, cpus: tuple[int, ...] | None, spin_us: float, pump: Pump) -> None:
        self._dask = asyncio.get_running_loop()
        self._there = new_event_loop(spin_us=spin_us)
        self._pump = pump
        self._link = CommLink(self._there, pump, computes=True, pauses=True)
        self._index = index
        self._cpus = cpus
        self._ended: asyncio.Future[str] = self._dask.create_future()
        self._thread = threading.Thread(target=self._live, name=f"pinloop-worker-{index}", daemon=True)

    # --------------------------------------------------------- in Dask's thread --

    async def serve(self) -> None:
        """Serve it until its loop or the connection has ended."""
        reading = self._dask.create_task(self._pump.run(self._link))
        try:
            self._thread.start()
        except BaseException:
            self._there.close()
            self._pump.abort()
            raise
        try:
            both: list[asyncio.Future[Any]] = [reading, self._ended]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done() and not reading.done():
                await self._pump.finish(self._ended.result(), reading)
        finally:
            self._pump.abort()
            self._link.tell(self._link.lose)
            if not self._ended.done():
                self._dask.call_later(PATIENCE, self._complain)
            await asyncio.wait([reading])
            reading.exception()

    def _complain(self) -> None:
        if not self._ended.done():
            logger.warning(
                "%s goes on, though its pool has ended: a call there does not end", self._thread.name
            )

    def _on_ended(self, how: str) -> None:
        self._thread.join()  # it has nothing left to do
        self._ended.set_result(how)

    # ---------------------------------------------------------- in its own thread --

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
        except BaseException as error:
            how = f"was ended by {error!r}"
        with contextlib.suppress(RuntimeError):  # Dask's loop is closed
            self._dask.call_soon_threadsafe(self._on_ended, how)

    async def _work(self, problem: Exception | None) -> None:
        try:
            await work(self._link, CurrentWorker(self._index, self._cpus, "dask"), problem)
        finally:
            self._link.close()
