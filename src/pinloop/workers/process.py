"""Workers that are processes: how one is started, how it ends, and what runs in it.

They are started as multiprocessing's `spawn` does it, and by its code: a fresh interpreter that gets the main
module, `sys.path` and the rest of `get_preparation_data`, then an object, whose `_bootstrap` it calls. What
is ours is that object, and that the loop starts the process and learns of its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import tempfile
import threading
from multiprocessing import spawn
from typing import Any

from .link import SocketLink, socket_pairs
from .placement import CPUs, pin
from .shared import Side, anonymous_file
from .worker import CurrentWorker, work


class ProcessLife(asyncio.SubprocessProtocol):
    """One process, from its start to its end, in the pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: SocketLink) -> None:
        self.link = link
        self.exited: asyncio.Future[str] = loop.create_future()
        """How it ended, in words, once it has."""
        self.pid = 0
        self._transport: asyncio.SubprocessTransport | None = None
        self._why: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self.pid = transport.get_pid()

    def process_exited(self) -> None:
        assert self._transport is not None
        code = self._transport.get_returncode()
        assert code is not None
        self.link.take()  # what it said before it ended counts
        self.link.close()
        if not self.exited.done():
            self.exited.set_result(self._why or how_it_ended(code))
        self._transport.close()

    def kill(self, why: str | None = None) -> None:
        """End it now. `why` is what `exited` will say instead of the signal."""
        if self._transport is not None and not self.exited.done():
            self._why = why or self._why
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    def memory(self) -> int | None:
        """How many bytes of memory it has in use; None if this platform does not tell."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None


def how_it_ended(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class ProcessBackend:
    """Starts processes."""

    name = "process"

    def __init__(self, spin_us: float = 0, grace: float = 5.0) -> None:
        self._spin_us = spin_us
        self._grace = grace

    async def open(self, places: list[CPUs | None]) -> list[CPUs | None]:
        return places

    async def close(self) -> None:
        pass

    async def start(self, index: int, cpus: tuple[int, ...] | None) -> ProcessLife:
        """Start worker `index`. Cancelled, it has ended before this does."""
        loop = asyncio.get_running_loop()
        (ours, theirs), (our_side, their_side) = socket_pairs()
        boot_fd = -1
        try:
            boot_fd = self._boot_file(
                Boot(index, cpus, theirs.fileno(), their_side.fileno(), self._spin_us, self._grace)
            )
            link = SocketLink(loop, ours, Side(our_side))
            life = ProcessLife(loop, link)
            try:
                await loop.subprocess_exec(
                    lambda: life,
                    *spawn.get_command_line(tracker_fd=None, pipe_handle=boot_fd),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=None,
                    stderr=None,
                    pass_fds=(boot_fd, theirs.fileno(), their_side.fileno()),
                )
            except BaseException:
                link.close()
                raise
        except BaseException:
            ours.close()
            our_side.close()
            raise
        finally:
            theirs.close()
            their_side.close()
            if boot_fd >= 0:
                os.close(boot_fd)
        return life

    @staticmethod
    def _boot_file(boot: Boot) -> int:
        """What the new interpreter reads first. A file, not a pipe: nobody has to wait for room in it."""
        prepared = spawn.get_preparation_data(f"pinloop-worker-{boot.index}")
        prepared["authkey"] = bytes(
            prepared["authkey"]
        )  # what it is of is not pickled; its setter restores it
        fd = _scratch_file()
        try:
            with open(fd, "wb", closefd=False) as file:
                pickle.dump(prepared, file)
                pickle.dump(boot, file)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _scratch_file() -> int:
    """The descriptor of an empty file that has no name."""
    if hasattr(os, "memfd_create"):
        return anonymous_file(0)
    with tempfile.TemporaryFile() as file:  # shm objects cannot be written to everywhere
        return os.dup(file.fileno())


class Boot:
    """What the new process begins with."""

    def __init__(
        self,
        index: int,
        cpus: tuple[int, ...] | None,
        frames: int,
        side: int,
        spin_us: float,
        grace: float,
    ) -> None:
        self.index = index
        self.cpus = cpus
        self.frames = frames
        self.side = side
        self.spin_us = spin_us
        self.grace = grace

    def _bootstrap(self, sentinel: int) -> int:
        """Called by multiprocessing, in the new process, once it is prepared: its whole life."""
        os.close(sentinel)
        for fd in (self.frames, self.side):
            os.set_inheritable(fd, False)
        for number in (signal.SIGINT, signal.SIGTERM):
            # Sent to the whole group or service: the pool says what becomes of its workers. A handler,
            # for what is ignored would be ignored by the processes that a worker starts, too.
            signal.signal(number, _leave_it_to_the_pool)
        from .._core import end_with_parent

        threading.Thread(
            target=end_with_parent,
            args=(os.dup(self.frames), _parent_fd(), self.grace),
            name="pinloop-parent",
            daemon=True,
        ).start()
        problem: Exception | None = None
        try:
            if self.cpus is not None:
                pin(self.index, self.cpus)
        except (OSError, ValueError) as error:
            problem = error
        from ..runner import new_event_loop

        with asyncio.Runner(loop_factory=lambda: new_event_loop(spin_us=self.spin_us)) as runner:
            runner.run(self._work(problem))
        return 0

    async def _work(self, problem: Exception | None) -> None:
        link = SocketLink(
            asyncio.get_running_loop(),
            socket.socket(fileno=self.frames),
            Side(socket.socket(fileno=self.side)),
            pauses=True,
        )
        try:
            await work(link, CurrentWorker(self.index, self.cpus, "process"), problem)
        finally:
            link.close()


def _parent_fd() -> int:
    """A pidfd of the parent, -1 where there is none to be had.

    The socket alone would do, but for processes that the parent forks: these have its other end as well.
    """
    try:
        return os.pidfd_open(os.getppid())
    except (AttributeError, OSError):
        return -1


def _leave_it_to_the_pool(*_: Any) -> None:
    pass
