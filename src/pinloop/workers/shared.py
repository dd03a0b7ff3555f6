"""Shared memory between the two ends of a link, and the socket over which its descriptors go.

It has no name: it is a memfd (elsewhere a shm object that is unlinked at once), and the kernel takes it back
with the last process that holds it, however that ends.

What is large is sent in one of two ways. Up to `KEPT_MOST` bytes it is written to a segment that both ends
keep mapped; the receiver copies it out and gives the segment back. What is larger has memory of its own, of
which the receiver's buffers are views.
"""

from __future__ import annotations

import mmap
import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence

SHARE = 128 * 1024
"""Bytes from which on shared memory is cheaper than two copies through a socket."""

KEPT_MOST = 4 << 20  # bytes of a segment that is kept,
KEPT_EACH = 8  # and how many are, of each size, for one direction of a link: 63 MiB in all

ALIGNMENT = 64

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)
MAPPED = mmap.MAP_SHARED | _POPULATE
UNTRACKED = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # before, each map keeps a descriptor

Area = mmap.mmap


def anonymous_file(size: int) -> int:
    """The descriptor of a file in memory that has no name, `size` bytes long."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("pinloop", os.MFD_CLOEXEC)
    else:  # macOS, BSD
        import _posixshmem  # type: ignore[import-not-found]  # of multiprocessing, where there is no memfd

        name = f"/pinloop-{secrets.token_hex(8)}"
        fd = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
        _posixshmem.shm_unlink(name)
    try:
        if size:
            os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def mapped(fd: int) -> Area:
    """All of the file, mapped. It stays so without the descriptor."""
    return mmap.mmap(fd, 0, flags=MAPPED, **UNTRACKED)


def aligned(size: int) -> int:
    """Where what follows so many bytes begins."""
    return size + -size % ALIGNMENT


class Side:
    """The second socket of a link: descriptors, each on its way before the frame that tells of it.

    Also the segments of the link: those that this end writes to, and those of the other end.
    """

    __slots__ = ("_current", "_free", "_others", "_own", "exhausted", "give_back", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.give_back: Callable[[int, bool], None] = _keep
        """Called with the number of the other end's segment that was read; False if it could not be had."""
        self.exhausted: set[int] = set()
        """The sizes of which the other end has so many segments that whoever can wait should do so."""
        self._own: list[Area | None] = []
        self._free: dict[int, list[int]] = {}  # by size, those that the other end is not reading
        self._others: dict[int, Area] = {}
        self._current = -1  # what the frame being handled is in

    def close(self) -> None:
        # The maps end with the last view of them.
        self.sock.close()
        self._own.clear()
        self._free.clear()
        self._others.clear()
        self.exhausted.clear()
        self._current = -1

    # --------------------------------------------------------------- descriptors --

    def send(self, fds: Sequence[int]) -> bool:
        """Send descriptors; whether there was room."""
        try:
            socket.send_fds(self.sock, [b"\0"], fds)
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def receive(self, most: int) -> list[int]:
        """The descriptors that belong to a frame that has come."""
        _, fds, _, _ = socket.recv_fds(self.sock, 1, most)
        for fd in fds:
            os.set_inheritable(fd, False)
        return fds

    def receive_area(self) -> Area:
        """The memory that belongs to a frame that has come."""
        (fd,) = self.receive(1)
        try:
            return mapped(fd)
        finally:
            os.close(fd)

    # ------------------------------------------------------------------- sending --

    def share(self, parts: list[memoryview]) -> bool:
        """Send `parts` in memory of their own; False if that cannot be done now."""
        try:
            fd = anonymous_file(sum(aligned(part.nbytes) for part in parts))
        except OSError:  # out of descriptors, or of memory of this kind: it goes through the socket
            return False
        try:
            if hasattr(os, "memfd_create"):
                at = 0
                for part in parts:  # written, not mapped: no page is made empty first, nor faulted in
                    _write(fd, part, at)
                    at += aligned(part.nbytes)
            else:
                _fill(mapped(fd), parts)  # macOS can do nothing with shm objects but map them
            return self.send([fd])
        except OSError:
            return False
        finally:
            os.close(fd)

    def lend(self, parts: list[memoryview], total: int) -> tuple[int, bool] | None:
        """Write `parts` to a segment: its number, and whether the other end has yet to receive it.

        None if they are too large for one, or if none is to be had now.
        """
        if total > KEPT_MOST:
            return None
        size = max(SHARE, 1 << (total - 1).bit_length())
        free = self._free.setdefault(size, [])
        number = free.pop() if free else -1
        fresh = number < 0
        if fresh:
            number = self._make(size)
            if number < 0:
                return None
        area = self._own[number]
        assert area is not None
        _fill(area, parts)
        if not free and self._count(size) >= KEPT_EACH:
            self.exhausted.add(size)
        return number, fresh

    def _count(self, size: int) -> int:
        return sum(area is not None and len(area) == size for area in self._own)

    def _make(self, size: int) -> int:
        """A new segment, its descriptor sent: its number. -1 if there are enough, or it cannot be made."""
        if self._count(size) >= KEPT_EACH:
            return -1
        try:
            fd = anonymous_file(size)
        except OSError:
            return -1
        try:
            area = mapped(fd)
            if not self.send([fd]):
                return -1
        except OSError:
            return -1
        finally:
            os.close(fd)
        self._own.append(area)
        return len(self._own) - 1

    def given_back(self, number: int, there: bool) -> None:
        """The other end has read a segment, or could not have it."""
        area = self._own[number]
        assert area is not None
        size = len(area)
        if there:
            self._free[size].append(number)
        else:
            self._own[number] = None
        if not there or len(self._free[size]) >= KEPT_EACH // 2:
            self.exhausted.discard(size)

    # ----------------------------------------------------------------- receiving --

    def borrow(self, number: int, fresh: bool) -> memoryview:
        """The other end's segment that a frame is in, until `release`."""
        self._current = number
        if fresh:
            self._others[number] = self.receive_area()
        return memoryview(self._others[number])

    def release(self) -> None:
        """The frame has been handled: give its segment back, if it was in one."""
        number, self._current = self._current, -1
        if number >= 0:
            self.give_back(number, number in self._others)


def _keep(number: int, there: bool) -> None:
    pass


def _write(fd: int, part: memoryview, at: int) -> None:
    while part.nbytes:
        written = os.pwrite(fd, part, at)
        part = part[written:]
        at += written


def _fill(area: Area, parts: list[memoryview]) -> None:
    at = 0
    for part in parts:
        area[at : at + part.nbytes] = part
        at += aligned(part.nbytes)
