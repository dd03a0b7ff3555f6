"""What goes over a link as bytes: frames, and what is pickled in them.

A frame is a header, the sizes of the out-of-band buffers, the number of the segment of shared memory if there
is one, the pickle and the small buffers. What is large, a buffer or the pickle itself, is in shared memory.
"""

from __future__ import annotations

import errno
import os
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

from .shared import SHARE, Side, aligned

HEADER = struct.Struct("=QQHBB")
"""Bytes that follow, number (of a call, a channel ...), how many out-of-band buffers, kind, flags."""

# The kinds of messages. To a worker:
START, DEFINE, CALL, CALL_ANYWHERE, CALL_WITH_ENDS, CANCEL, RECALL, PING, STOP, MEASURE = range(10)
# From a worker:
READY, FAILED, RESULT, ERROR, CANCELLED, EXPIRED, RETURNED, RECALLED, PONG, ENDED, MEASURED = range(10, 21)
# Both ways, of channels:
ITEMS, CREDIT, SENDERS_GONE, RECEIVERS_GONE = range(21, 25)
# Both ways, of segments of shared memory:
GIVEN_BACK = 25

SHARED_PICKLE = 1
"""Flag: the pickle is the first thing in the shared memory."""
SHARED = 2
"""Flag: there is shared memory. Its descriptor is on the side socket, unless it is a known segment."""
DESCRIPTORS = 4
"""Flag: descriptors that go with the message are on the side socket, before the shared memory's."""
SEGMENT = 8
"""Flag: the shared memory is a segment, which is to be given back."""
FRESH = 16
"""Flag: a segment that the other end has not had yet."""

MOST_DESCRIPTORS = 250  # in one message; the kernel's own limit is 253

COPIED = 4096
"""Bytes up to which to copy a pickle behind its header is cheaper than to have two pieces."""

BYTES = (bytes, bytearray)
MOST_BUFFERS = 0xFFFF

Buffer = bytes | bytearray | memoryview
Payload = tuple[Buffer, list[Buffer] | None]
"""A pickle as it came, and its buffers. It counts until the handler of its frame returns."""

SIZE = struct.Struct("=Q")

protocol = 5
dumps = pickle.dumps
loads = pickle.loads


def dumps_by_value(
    obj: Any, protocol: int = protocol, *, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None
) -> bytes:
    """As `dumps`; but functions and classes that another process could not import go as what they are.

    It needs cloudpickle, which is there where Dask is.
    """
    found: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(obj, protocol, buffer_callback=found.append if buffer_callback else None)
        by_value = b"__main__" in data  # the other process has another main module
    except Exception:
        by_value = True
    if by_value:
        import cloudpickle

        found.clear()
        data = cloudpickle.dumps(obj, protocol, buffer_callback=found.append if buffer_callback else None)
    if buffer_callback is not None:
        for buffer in found:
            buffer_callback(buffer)
    return data


class Blob:
    """Bytes that are pickled out of band, and so are not copied on the way to the shared memory."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return type(self.data), (pickle.PickleBuffer(self.data),)


def lightened(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, with a Blob for each that is large bytes."""
    for value in values:
        if type(value) in BYTES and len(value) >= SHARE:
            return tuple(Blob(one) if type(one) in BYTES and len(one) >= SHARE else one for one in values)
    return values


def encode(
    kind: int,
    number: int,
    obj: Any,
    side: Side | None,
    fds: Sequence[int] = (),
    dump: Callable[..., bytes] = dumps,
) -> tuple[list[Buffer], int]:
    """A frame, in pieces, and how many bytes it is of, also of shared memory. Raises what pickling raises.

    All of it is taken now: what happens to `obj` afterwards does not change it. The descriptors `fds` go with
    it; OSError is raised if there is no room for them now.
    """
    found: list[pickle.PickleBuffer] = []
    data = dump(obj, protocol, buffer_callback=found.append)
    size = len(data)
    if not found and size < SHARE and not fds:
        header = HEADER.pack(size, number, 0, kind, 0)
        return [header + data] if size < COPIED else [header, data], size
    raws = [buffer.raw() for buffer in found]
    if len(raws) > MOST_BUFFERS:
        raise ValueError(f"more than {MOST_BUFFERS} out-of-band buffers in one object")
    if fds and (side is None or len(fds) > MOST_DESCRIPTORS or not side.send(fds)):
        raise OSError(errno.ENOBUFS, f"{len(fds)} descriptors cannot be sent now")
    pieces = _encode_large(kind, number, data, raws, side, DESCRIPTORS if fds else 0)
    return pieces, size + sum(raw.nbytes for raw in raws)


def _encode_large(
    kind: int, number: int, data: bytes, raws: list[memoryview], side: Side | None, flags: int
) -> list[Buffer]:
    big = [raw for raw in raws if raw.nbytes >= SHARE]
    segment: tuple[int, ...] = ()
    if side is not None and (big or len(data) >= SHARE):
        own = SHARED_PICKLE if len(data) >= SHARE else 0
        if own:
            big.insert(0, memoryview(data))
        lent = side.lend(big, sum(aligned(part.nbytes) for part in big))
        if lent is not None:
            number_of_it, fresh = lent
            segment = (number_of_it,)
            flags |= SHARED | SEGMENT | own | (FRESH if fresh else 0)
        elif side.share(big):
            flags |= SHARED | own
    sizes: list[int] = []
    inline: list[Buffer] = []
    for raw in raws:
        shared = bool(flags & SHARED) and raw.nbytes >= SHARE
        sizes.append(raw.nbytes << 2 | raw.readonly << 1 | shared)
        if not shared:
            inline.append(bytes(raw))
    body: Buffer = SIZE.pack(len(data)) if flags & SHARED_PICKLE else data
    table = struct.pack(f"={len(sizes) + len(segment)}Q", *sizes, *segment)
    length = len(table) + len(body) + sum(map(len, inline))
    return [HEADER.pack(length, number, len(sizes), kind, flags) + table, body, *inline]


def split(body: memoryview, count: int, flags: int, side: Side | None) -> Payload:
    """The payload of a frame with buffers or shared memory, from what follows its header."""
    sizes = struct.unpack_from(f"={count}Q", body)
    at = count * SIZE.size
    shared = memoryview(b"")
    if flags & SEGMENT:
        assert side is not None
        (number,) = SIZE.unpack_from(body, at)
        at += SIZE.size
        shared = side.borrow(number, bool(flags & FRESH))
    elif flags & SHARED:
        assert side is not None
        shared = memoryview(side.receive_area())
    rest = len(body) - sum(size >> 2 for size in sizes if not size & 1)
    data: Buffer = body[at:rest]
    at_shared = 0
    if flags & SHARED_PICKLE:
        (length,) = SIZE.unpack(data)
        data = shared[:length]
        at_shared = aligned(length)
    buffers: list[Buffer] = []
    for size in sizes:
        length = size >> 2
        if size & 1:
            piece = shared[at_shared : at_shared + length]
            at_shared += aligned(length)
        else:
            piece = body[rest : rest + length]
            rest += length
        if size & 1 and not flags & SEGMENT:
            buffers.append(piece.toreadonly() if size & 2 else piece)
        else:  # what it is in now will be something else soon
            buffers.append(bytes(piece) if size & 2 else bytearray(piece))
    return data, buffers


class Inflow:
    """What has been read of a stream of frames."""

    __slots__ = ("_end", "_handle", "_large", "_side", "_start", "_view", "descriptors")

    ROOM = 256 * 1024

    def __init__(self, side: Side | None, handle: Callable[[int, int, Payload], None]) -> None:
        self._view = memoryview(bytearray(self.ROOM))
        self._start = self._end = 0
        self._side = side
        self._handle = handle
        self._large: memoryview | None = None  # a frame that does not fit, so far as it has come
        self.descriptors: list[int] = []
        """Those that came with the message that is being handled; its handler takes out what it uses."""

    def room(self) -> memoryview:
        """Where to read to."""
        if self._large is not None:
            return self._large[self._end :]
        return self._view[self._end :]

    def fed(self, count: int) -> None:
        """So many bytes were read there: handle the frames that are complete."""
        self._end += count
        if self._large is not None:
            if self._end == len(self._large):
                frame, self._large = self._large, None
                self._start = self._end = 0
                self._deliver(frame, *HEADER.unpack_from(frame))
            return
        start, end, view = self._start, self._end, self._view
        while end - start >= HEADER.size:
            length, number, count, kind, flags = HEADER.unpack_from(view, start)
            stop = start + HEADER.size + length
            if stop > end:
                if HEADER.size + length > len(view):
                    large = memoryview(bytearray(HEADER.size + length))
                    large[: end - start] = view[start:end]
                    self._large, self._end = large, end - start
                    return
                break
            if count or flags:
                self._deliver(view[start:stop], length, number, count, kind, flags)
            else:
                self._handle(kind, number, (view[start + HEADER.size : stop], None))
            start = stop
        if start == end:
            start = end = 0
        elif start:
            view[: end - start] = bytes(view[start:end])
            start, end = 0, end - start
        self._start, self._end = start, end

    def _deliver(
        self, frame: memoryview, length: int, number: int, count: int, kind: int, flags: int
    ) -> None:
        body = frame[HEADER.size :]
        payload: Any = (body, None)
        if count or flags:
            try:
                if flags & DESCRIPTORS:
                    assert self._side is not None
                    self.descriptors = self._side.receive(MOST_DESCRIPTORS)
                payload = split(body, count, flags, self._side)
            except Exception as error:  # out of descriptors or memory: it costs this one message
                payload = (error, None)
        self._handle(kind, number, payload)
        if flags & SEGMENT:
            assert self._side is not None
            self._side.release()
        while self.descriptors:
            os.close(self.descriptors.pop())
