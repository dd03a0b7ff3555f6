"""A link over a comm of Dask's: `CommLink` in the loop that makes or serves calls, `Pump` in the comm's.

The comm is Dask's connection to a Dask worker, with what encryption and checks the cluster has; the two loops
are of two threads in the worker, and one and the same in the pool. What goes over it is `wire`'s stream of
frames, a batch per message. A comm takes whatever it is given to write, so each end tells what it has
handled, and the other counts what it has not yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

from .link import GATHER, HIGH_WATER, LOW_WATER, LinkEnd, nothing
from .wire import Buffer, Inflow, dumps_by_value, encode

TELL = 64 * 1024  # bytes that one end has handled when it tells the other, if it has nothing else to say
MOST = 1 << 26  # bytes in one message
STEP_BACK = 2e-5  # seconds without the GIL in which the pump's thread gets it
FAREWELL = 10.0  # seconds that the last message has to leave

Batch = tuple[float, int, Buffer]
"""When it left, by the sender's `time.monotonic`; how many more bytes the sender has handled; frames."""


class Pump:
    """Reads and writes a comm, in the loop that the comm belongs to."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._loop = asyncio.get_running_loop()
        self._out: list[tuple[int, Buffer]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._last: str | None = None  # to be written when all else is

    async def run(self, link: CommLink) -> str | None:
        """Serve until the comm is closed; the last word of the other end, None if it was lost without one."""
        writer = self._loop.create_task(self._write(), name="pinloop comm")
        try:
            while not isinstance(message := await self._comm.read(), str):
                when, handled, data = message
                link.tell(link.arrived, monotonic() - when, handled, data)
        except OSError:  # Dask's errors of comms are
            return None
        else:
            return message
        finally:
            writer.cancel()
            self._comm.abort()

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # the reader gets to know it
            while True:
                out, self._out = self._out, []
                for handled, data in out:
                    for at in range(0, len(data) or 1, MOST):
                        await self._comm.write((monotonic(), 0 if at else handled, data[at : at + MOST]))
                if not self._out:
                    if self._last is not None:
                        await self._comm.write(self._last)
                        return
                    self._waiter = self._loop.create_future()
                    await self._waiter

    def write(self, handled: int, data: Buffer) -> None:
        """Send a batch; called in the comm's loop."""
        self._out.append((handled, data))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def finish(self, last: str, reading: asyncio.Task[Any]) -> None:
        """Write what is left, and then a last word. The other end, having read that, closes the comm."""
        self._last = last
        self._wake()
        await asyncio.wait([reading], timeout=FAREWELL)

    def abort(self) -> None:
        self._comm.abort()


class CommLink(LinkEnd):
    """One end of the link. With `pauses` it does not tell what it has handled while it is congested.

    With `computes`, what happens in its loop may keep the GIL from the pump. A thread that lets it go for a
    moment now and then, as a loop does when it polls, has it back before one that waits for it has woken; and
    who waits does not insist (after 5 ms) when it was let go meanwhile. So `flush` steps back.
    """

    pickles = True
    dumps = staticmethod(dumps_by_value)

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pump: Pump, computes: bool = False, pauses: bool = False
    ) -> None:
        super().__init__(loop)
        self.ahead = 0.0
        self._pump = pump
        self._same = pump._loop is loop
        self._computes = computes and not self._same
        self._left = True  # to the pump, since it was let run
        self._pauses = pauses
        self._inflow = Inflow(None, self._handle)
        self._out: list[Buffer] = []
        self._unhandled = 0  # bytes that the other end has not handled, as far as it has told
        self._handled = 0  # bytes handled here, and not told yet
        self._flushing = False
        self._flushed = 0.0
        self._begun = False
        self._early: list[tuple[float, int, Buffer]] = []

    def begin(self) -> None:
        self._begun = True
        early, self._early = self._early, []
        for batch in early:
            self.arrived(*batch)

    @property
    def descriptors(self) -> list[int]:
        return []

    def tell(self, what: Callable[..., None], *args: Any) -> None:
        """Call something in this link's loop, from the comm's."""
        if self._same:
            what(*args)
        else:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(what, *args)

    def _tell_pump(self, what: Callable[..., None], *args: Any) -> None:
        if self._same:
            what(*args)
        else:
            with contextlib.suppress(RuntimeError):
                self._pump._loop.call_soon_threadsafe(what, *args)

    # ------------------------------------------------------------------- out --

    def post(self, kind: int, number: int, obj: Any = None, fds: Sequence[int] = ()) -> None:
        if fds:
            raise TypeError("sockets and descriptors cannot go to a Dask worker")
        pieces, size = encode(kind, number, obj, None, dump=dumps_by_value)
        if self._lost:
            return
        self.posted += size
        self._out += pieces
        self._unhandled += sum(map(len, pieces))
        if self._unhandled > HIGH_WATER:
            self.congested = True
        if not self._flushing:
            if monotonic() - self._flushed > GATHER:
                self._flush()
            else:
                self._flushing = True
                self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._flushing = False
        self._flush()

    def flush(self) -> None:
        self._flush()
        if self._computes and not self._left:
            self._left = True
            sleep(STEP_BACK)

    def _flush(self) -> None:
        if self._out and not self._lost:
            out, self._out = self._out, []
            self._flushed = monotonic()
            self._write(memoryview(b"".join(out)) if len(out) > 1 else memoryview(out[0]))

    def _write(self, data: Buffer) -> None:
        handled = 0
        if not (self._pauses and self.congested):
            handled, self._handled = self._handled, 0
        self._left = False
        self._tell_pump(self._pump.write, handled, data)

    async def sent(self) -> None:
        self._flush()  # the pump writes in order, and its last word after all else

    # -------------------------------------------------------------------- in --

    def take(self) -> None:
        pass

    def arrived(self, ahead: float, handled: int, data: Buffer) -> None:
        """A batch has come; called in this link's loop."""
        if not self._begun:
            self._early.append((ahead, handled, data))
            return
        if self._lost:
            return
        self.received += 1
        self.ahead = ahead
        self._unhandled -= handled
        if self.congested and self._unhandled <= LOW_WATER:
            self._uncongest()
        view = memoryview(data)
        while view and not self._lost:
            room = self._inflow.room()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            self._inflow.fed(count)
            view = view[count:]
        self._handled += len(data)
        self._tell_handled()

    def _tell_handled(self) -> None:
        if self._handled >= TELL and not (self._pauses and self.congested) and not self._lost:
            self._write(b"")

    def _uncongest(self) -> None:
        super()._uncongest()
        self._tell_handled()

    # ------------------------------------------------------------------- end --

    def close(self) -> None:
        """No more messages, either way. What was flushed still leaves: the pump ends the comm."""
        if self._lost:
            return
        self._flush()
        self._lost = True
        self.on_lost = nothing
        self.handlers = {}
        self._out.clear()
        self._uncongest()
