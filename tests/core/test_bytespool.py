"""Bytes objects that are filled again: nobody who keeps one, or anything of one, may notice."""

import asyncio
import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.support import Connect, run_until

SIZES = [479, 480, 481, 511, 512, 513, 700, 767, 768, 769, 1024, 1025, 2048, 16383, 16384, 16385]
POOLED = 1024  # bytes: a size that is


class Taker(asyncio.Protocol):
    """Does with each piece what it is made with, and keeps the result."""

    def __init__(self, take: Callable[[bytes], Any]) -> None:
        self.take = take
        self.taken: list[Any] = []

    def data_received(self, data: bytes) -> None:
        self.taken.append(self.take(data))


def send_each(
    loop: asyncio.AbstractEventLoop, peer: socket.socket, taker: Taker, pieces: list[bytes]
) -> None:
    """Send the pieces one by one, each when the one before has arrived."""
    for piece in pieces:
        before = len(taker.taken)
        peer.sendall(piece)
        run_until(loop, lambda before=before: len(taker.taken) > before)


def random_pieces(seed: int, count: int = 300) -> list[bytes]:
    numbers = random.Random(seed)
    return [numbers.randbytes(numbers.choice([*SIZES, POOLED, POOLED, POOLED, 1, 100])) for _ in range(count)]


TAKES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "the object": (lambda data: data, lambda kept: kept),
    "a view": (memoryview, bytes),
    "a view of a part": (lambda data: memoryview(data)[:-1], lambda kept: bytes(kept.obj)),
    "an iterator": (iter, bytes),
    "a tuple": (lambda data: (data,), lambda kept: kept[0]),
    "a closure": (lambda data: lambda: data, lambda kept: kept()),
    "a copy": (bytearray, bytes),
    "the slice that is the object": (lambda data: data[:], lambda kept: kept),
}


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("every", [1, 2, 7])
def test_what_is_kept_stays_as_it_was(
    loop: asyncio.AbstractEventLoop, connect: Connect, name: str, every: int
) -> None:
    """Some pieces are let go in between, whose objects are used again."""
    take, give = TAKES[name]
    taker = Taker(lambda data: (take(data), None)[len(taker.taken) % every != 0])
    _, peer = connect(taker)
    pieces = random_pieces(every)
    send_each(loop, peer, taker, pieces)
    kept = [
        (give(thing), piece) for thing, piece in zip(taker.taken, pieces, strict=True) if thing is not None
    ]
    assert len(kept) >= len(pieces) // every
    assert all(got == sent for got, sent in kept)


def test_each_piece_has_a_hash_of_its_own(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    taker = Taker(lambda data: (hash(data), data == bytes(bytearray(data))))
    _, peer = connect(taker)
    pieces = [os.urandom(POOLED) for _ in range(100)]
    send_each(loop, peer, taker, pieces)
    assert taker.taken == [(hash(piece), True) for piece in pieces]


def test_each_piece_ends_with_the_null_that_c_code_counts_on(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    """int() reads up to it; a shorter piece in the place of a longer would have digits behind."""
    taker = Taker(int)
    _, peer = connect(taker)
    send_each(loop, peer, taker, [b"7" * 760, b"1" * 600, b"2" * 500, b"3" * 768, b"4" * 767])
    assert taker.taken == [
        int(digit * size) for digit, size in zip("71234", [760, 600, 500, 768, 767], strict=True)
    ]


def test_pieces_of_many_connections_in_one_batch(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    """More at once than there are objects to use again; all are sent back in the flush that follows."""
    ends = []
    for _ in range(80):
        taker = Taker(len)
        transport, peer = connect(taker)
        ends.append((taker, transport, peer))
    for round_ in range(5):
        for i, (taker, transport, peer) in enumerate(ends):
            taker.take = lambda data, transport=transport: transport.write(data)
            peer.sendall(bytes([round_, i]) * (POOLED // 2))
        run_until(loop, lambda: all(len(taker.taken) > round_ for taker, _, _ in ends))  # noqa: B023 - called here
        for i, (_, _, peer) in enumerate(ends):
            peer.setblocking(True)
            peer.settimeout(10)
            got = b""
            while len(got) < POOLED:
                got += peer.recv(POOLED)
            peer.setblocking(False)
            assert got == bytes([round_, i]) * (POOLED // 2)


def test_what_waits_to_be_sent_stays_as_it_was(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    """The peer reads nothing for a long time: what it will get is queued by reference."""
    taker = Taker(lambda data: transport.write(data))  # noqa: PLW0108 - made on the next line
    transport, peer = connect(taker)
    transport.set_write_buffer_limits(high=100_000_000)
    pieces = [os.urandom(POOLED) for _ in range(3000)]
    send_each(loop, peer, taker, pieces)
    assert transport.get_write_buffer_size() > 0
    got = bytearray()

    def receive() -> bool:
        try:
            while True:
                got.extend(peer.recv(1 << 20))
        except BlockingIOError:
            return len(got) == POOLED * len(pieces)

    run_until(loop, receive)
    assert got == b"".join(pieces)
