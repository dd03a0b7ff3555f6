"""One end of what connects a pool and a worker: messages by kind, gathered for a turn and sent together.

Floors above give a handler for each kind of message that they know. `SocketLink` is the end of a link between
processes; links between threads have the same methods, in `thread.py`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pickle import PickleBuffer
from time import monotonic
from typing import Any, Protocol

from .shared import Side
from .wire import GIVEN_BACK, Buffer, Inflow, dumps, encode, loads, protocol

Handler = Callable[[int, Any], None]
"""Called with the number in a message and its payload, which `Link.load` makes an object of."""

HIGH_WATER = 1 << 20
LOW_WATER = 1 << 18
JOINED = 128 * 1024  # bytes up to which pieces are copied together rather than told to the kernel one by one
MOST_PIECES = 512
GATHER = 0.0002  # seconds: what comes sooner than this after a flush waits for the end of the turn,
LONG = 0.0005  # or until it has lasted for so long: the other side has nothing to do meanwhile
READS = 16  # of a full buffer, before the loop's other callers have their turn


class Link(Protocol):
    """One end of a link."""

    handlers: dict[int, Handler]
    on_lost: Callable[[], None]
    """Called once, when nothing more will come. Not called after `close`."""
    congested: bool
    """Whether so much waits to be sent that whoever can wait should await `drained` first."""
    received: int
    """How often something has come."""
    posted: int
    """How many bytes have been posted; 0 where nothing is made bytes of."""

    @property
    def descriptors(self) -> list[int]:
        """Those that came with the message being handled. What is taken out is the taker's to close."""

    pickles: bool
    """Whether what arrives is a copy of what was posted."""
    ahead: float
    """Seconds by which `time.monotonic` is ahead of the other end's, or a little more."""

    def dumps(self, obj: Any, *, buffer_callback: Callable[[PickleBuffer], Any] | None = None) -> bytes:
        """Pickle it as `post` does."""

    def begin(self) -> None:
        """The handlers are there: messages may come."""

    def post(self, kind: int, number: int, obj: Any = None, fds: Sequence[int] = ()) -> None:
        """Send a message by the end of this turn; with it duplicates of the descriptors `fds`, to a process.

        Raises what pickling raises, and then nothing is sent. After the link is lost it does nothing.
        """

    def load(self, payload: Any) -> Any:
        """The object in a payload, once, while its handler runs. Raises what unpickling raises."""

    def flush(self) -> None:
        """Send what was posted now."""

    async def drained(self) -> None:
        """Wait until the link is not congested, or lost."""

    async def sent(self) -> None:
        """Wait until the other end could have all that was posted, or the link is lost."""

    def take(self) -> None:
        """Handle what has come already, without waiting for the loop to notice."""

    def close(self) -> None:
        """Give the descriptors back. What was not sent is dropped."""


class LinkEnd:
    """What all ends have: handlers, and who waits because it is congested."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.handlers: dict[int, Handler] = {}
        self.on_lost: Callable[[], None] = nothing
        self.congested = False
        self.received = 0
        self.posted = 0
        self._loop = loop
        self._lost = False
        self._waiters: list[asyncio.Future[None]] = []

    def load(self, payload: Any) -> Any:
        data, buffers = payload
        if isinstance(data, Exception):
            raise data
        return loads(data, buffers=buffers)

    def _handle(self, kind: int, number: int, payload: Any) -> None:
        if self._lost:  # by what came just before
            return
        try:
            self.handlers[kind](number, payload)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": f"a message of kind {kind} could not be handled", "exception": error}
            )

    async def drained(self) -> None:
        while self.congested:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _uncongest(self) -> None:
        self.congested = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def lose(self) -> None:
        """Nothing more will come; called in this link's loop."""
        if not self._lost:
            on_lost = self.on_lost
            self.close()
            on_lost()

    def close(self) -> None:
        raise NotImplementedError


class SocketLink(LinkEnd):
    """The end of a link between processes: one of a pair of sockets, and one of the pair for descriptors.

    With `pauses` it does not read while it is congested. One end of a link may do that, not both.
    """

    pickles = True
    ahead = 0.0
    dumps = staticmethod(partial(dumps, protocol=protocol))

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, side: Side, pauses: bool = False
    ) -> None:
        super().__init__(loop)
        sock.setblocking(False)
        self.handlers[GIVEN_BACK] = self._on_given_back
        self._sock = sock
        self._fd = sock.fileno()
        self._side = side
        side.give_back = partial(self.post, GIVEN_BACK)
        self._inflow = Inflow(side, self._handle)
        self._out: list[Buffer] = []
        self._size = 0  # of what is in `_out`
        self._flushing = False  # a flush is scheduled, or the socket is watched for room
        self._flushed = 0.0
        self._writing = False
        self._pauses = pauses
        self._paused = False
        self._taking = False

    def begin(self) -> None:
        self._loop.add_reader(self._fd, self._readable)

    # ------------------------------------------------------------------- out --

    @property
    def descriptors(self) -> list[int]:
        return self._inflow.descriptors

    def post(self, kind: int, number: int, obj: Any = None, fds: Sequence[int] = ()) -> None:
        if self._lost:
            dumps(obj, protocol)  # what it would raise
            return
        pieces, size = encode(kind, number, obj, self._side, fds)
        self.posted += size
        for piece in pieces:
            self._out.append(piece)
            self._size += len(piece)
        if not self._writing:
            if monotonic() - self._flushed > (LONG if self._flushing else GATHER):
                self.flush()
                self._flushed = monotonic()  # that may have taken a while: it wakes the other side
            elif not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush_soon)
        if self._size > HIGH_WATER and not self.congested:
            self._congest()
        elif self._side.exhausted:
            self.congested = True

    def _congest(self) -> None:
        self.flush()
        if self._size > HIGH_WATER:
            self.congested = True
            if self._pauses and not self._lost:
                self._paused = True
                self._loop.remove_reader(self._fd)

    def _flush_soon(self) -> None:
        if not self._writing:
            self._flushing = False
            if self._out:
                self.flush()
                self._flushed = monotonic()

    def flush(self) -> None:
        if self._lost or self._writing:
            return
        try:
            while self._out:
                self._send()
        except (BlockingIOError, InterruptedError):
            self._writing = self._flushing = True
            self._loop.add_writer(self._fd, self._writable)
        except OSError:
            self._drop()  # the reader gets to know it

    def _send(self) -> None:
        out = self._out
        if len(out) == 1:
            sent = self._sock.send(out[0])
        elif self._size <= JOINED:
            whole = b"".join(out)
            out[:] = [whole]
            sent = self._sock.send(whole)
        else:
            sent = self._sock.sendmsg(out[:MOST_PIECES])
        self._size -= sent
        done = 0
        for piece in out:
            if sent < len(piece):
                break
            sent -= len(piece)
            done += 1
        del out[:done]
        if sent:
            out[0] = memoryview(out[0])[sent:]

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._writing = self._flushing = False
        self.flush()
        self._relieve()

    def _relieve(self) -> None:
        """Something has gone: read again, and let those go on who wait, if it was enough."""
        if self._size > LOW_WATER:
            return
        if self._paused:
            self._paused = False
            self._loop.add_reader(self._fd, self._readable)
        if self.congested and not self._side.exhausted:
            self._uncongest()

    async def sent(self) -> None:
        self.flush()
        while self._out:
            self.congested = True  # so that `_writable` tells us
            await self.drained()

    def _drop(self) -> None:
        self._out.clear()
        self._size = 0

    # -------------------------------------------------------------------- in --

    def _readable(self) -> None:
        inflow = self._inflow
        self._taking = True
        try:
            for _ in range(READS):
                room = inflow.room()
                count = self._sock.recv_into(room)
                if count == 0:
                    self.lose()
                    return
                self.received += 1
                inflow.fed(count)
                if count < len(room) or self._paused or self._lost:
                    return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.lose()
        finally:
            self._taking = False

    def take(self) -> None:
        while not self._taking and not self._lost:
            before = self.received
            self._readable()
            if self.received == before:
                return

    def _on_given_back(self, number: int, payload: Any) -> None:
        self._side.given_back(number, self.load(payload))
        self._relieve()

    # ------------------------------------------------------------------- end --

    def close(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        self._side.close()
        self._side.give_back = nothing
        self._drop()
        self.on_lost = nothing
        self.handlers = {}
        self._paused = False
        self._uncongest()


def nothing(*_: Any) -> None:
    pass


def socket_pairs() -> tuple[tuple[socket.socket, socket.socket], tuple[socket.socket, socket.socket]]:
    """The sockets of a link: a pair for frames, and one for descriptors."""
    frames = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return frames, socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except BaseException:
        for sock in frames:
            sock.close()
        raise
