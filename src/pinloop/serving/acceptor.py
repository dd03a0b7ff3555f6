"""One acceptor for all workers: it hands what it accepts to the worker that has the fewest connections.

The kernel's balance, by SO_REUSEPORT, is a hash: fair over many short connections, and anything over a few
long ones. Here it is the parent's loop that accepts; the sockets go to the workers as descriptors
(SCM_RIGHTS).
"""

from __future__ import annotations

import asyncio
import collections
import errno
import socket
from collections.abc import Callable

from .host import REPORT

BATCH = 64  # connections that are accepted in one turn
RETRY = 1.0  # seconds after which a process that is out of descriptors tries again
PAUSE = 0.05  # and where too many descriptors are on their way
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
LOST = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)  # one connection, not the listener
TRANSIENT = (*OUT_OF_RESOURCES, errno.ETOOMANYREFS)


class Target:
    """One worker, as the acceptor sees it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, room: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.full = False
        """Whether it has not taken what it was sent before."""
        self.untaken: collections.deque[socket.socket] = collections.deque()
        """What it was sent and has not told of: should it end, another one gets these."""
        self._loop = loop
        self._room = room
        self._taken = 0
        self._open = 0
        self._rest = b""
        loop.add_reader(sock, self._read)

    @property
    def load(self) -> int:
        """How many connections it has, those on their way included."""
        return self._open + len(self.untaken)

    def hand(self, connection: socket.socket) -> bool:
        """Send it one, which is the target's from then on; false if it does not take it.

        Raises OSError where it has ended.
        """
        try:
            socket.send_fds(self.sock, [b"\0"], [connection.fileno()])
        except OSError as error:
            if not isinstance(error, BlockingIOError) and error.errno not in TRANSIENT:
                raise
            self.full = True
            if isinstance(error, BlockingIOError):
                self._loop.add_writer(self.sock, self._writable)
            else:
                self._loop.call_later(PAUSE, self._writable)
            return False
        self.untaken.append(connection)
        return True

    def _writable(self) -> None:
        if self.sock.fileno() >= 0:
            self._loop.remove_writer(self.sock)
            self.full = False
            self._room()

    def settle(self) -> None:
        """Read all that it told before it ended."""
        while self._read():
            pass

    def _read(self) -> bool:
        """Read what it has told; whether there may be more."""
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self.sock)
            return False
        data = self._rest + data
        size = REPORT.size
        whole = len(data) // size * size
        if whole:
            taken, self._open = REPORT.unpack_from(data, whole - size)
            for _ in range((taken - self._taken) & 0xFFFFFFFF):
                self.untaken.popleft().close()
            self._taken = taken
        self._rest = data[whole:]
        return True

    def close(self) -> None:
        """Send no more. The worker gets what it was sent."""
        self._loop.remove_reader(self.sock)
        self._loop.remove_writer(self.sock)
        self.sock.close()
        for connection in self.untaken:
            connection.close()
        self.untaken.clear()


class Acceptor:
    """Accepts for all workers, as long as one takes what comes; what does not wait waits in the kernel."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._targets: list[Target] = []
        self._accepting = False
        self._closed = False
        self._exhausted = False
        self._retry: asyncio.TimerHandle | None = None
        self._held: list[socket.socket] = []  # accepted when no worker could take any
        self._emptied: asyncio.Future[None] | None = None  # for the last of them to be taken, or lost
        self._next = 0

    def add(self, sock: socket.socket) -> Target:
        """A worker takes connections by the other end of this socket."""
        target = Target(self._loop, sock, self._resume)
        self._targets.append(target)
        self._resume()
        return target

    def remove(self, target: Target, ended: bool = False) -> None:
        """A worker takes none any more. If it has ended, what it had not taken is for the others."""
        if target in self._targets:
            self._targets.remove(target)
            if ended:
                target.settle()
                self._held += target.untaken
                target.untaken.clear()
                self._loop.call_soon(self._resume)
            target.close()
            if not self._targets:
                self._pause()
                if self._emptied is not None and not self._emptied.done():
                    self._emptied.set_result(None)

    def _resume(self) -> None:
        while self._held and self._targets:
            if not self._hand(self._held[0]):
                return
            self._held.pop(0)
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        if not self._accepting and not self._closed and self._targets and self._retry is None:
            self._accepting = True
            for sock in self._sockets:
                self._loop.add_reader(sock, self._accept, sock, BATCH)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _accept(self, listener: socket.socket, most: int) -> None:
        for _ in range(most):
            if not self._accepting:
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in LOST:
                    continue
                self._back_off(error)
                return
            self._exhausted = False
            if not self._hand(connection):
                self._held.append(connection)
                self._pause()

    def _hand(self, connection: socket.socket) -> bool:
        """Give it to the worker with the fewest; among equals, in turn."""
        self._next += 1
        count = len(self._targets)
        order = [self._targets[(self._next + i) % count] for i in range(count)]
        for target in sorted(order, key=lambda target: target.load):
            if target.full:
                continue
            try:
                if target.hand(connection):
                    return True
            except OSError:  # it has ended, which its supervisor is about to learn
                self.remove(target, ended=True)
        return False

    def _back_off(self, error: OSError) -> None:
        """Out of descriptors, most likely: level-triggered, this would spin."""
        self._pause()
        if error.errno in OUT_OF_RESOURCES:
            self._retry = self._loop.call_later(RETRY, self._try_again)
            if self._exhausted:
                return
            self._exhausted = True
        self._loop.call_exception_handler({"message": "cannot accept connections", "exception": error})

    def _try_again(self) -> None:
        self._retry = None
        self._resume()

    async def finish(self, backlog: int, patience: float) -> None:
        """Accept what has waited until now, then no more; return once workers have it, or none takes it."""
        if self._accepting:
            for sock in self._sockets:
                self._accept(sock, backlog)
        self._pause()
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._held and self._targets:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=patience)

    def close(self) -> None:
        """No worker is left: what none has taken is closed."""
        self._closed = True
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
        for target in list(self._targets):
            self.remove(target)
        for connection in self._held:
            connection.close()
        self._held.clear()
