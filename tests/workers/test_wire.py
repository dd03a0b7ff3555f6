"""Frames: what goes in comes out, whatever its size, however it is cut; descriptors and memory go back."""

import os
import pickle
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pinloop.workers import shared, wire
from pinloop.workers.shared import SHARE, Side
from pinloop.workers.wire import HEADER, Inflow, encode

pytestmark = pytest.mark.usefixtures("no_fd_leak")


class Block:
    """Bytes that pickle out of band."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    a, b = (Side(sock) for sock in socket.socketpair())
    yield a, b
    a.close()
    b.close()


def flat(encoded: tuple[list[Any], int]) -> bytes:
    return b"".join(encoded[0])


Seen = list[tuple[int, int, Any]]


def reader(side: Side | None) -> tuple[Inflow, Seen]:
    seen: Seen = []

    def handle(kind: int, number: int, payload: Any) -> None:
        data, buffers = payload
        obj = data if isinstance(data, Exception) else pickle.loads(data, buffers=buffers)
        if isinstance(obj, list):
            obj = [bytes(one.data) if isinstance(one, Block) else one for one in obj]
        seen.append((kind, number, obj))

    return Inflow(side, handle), seen


def feed(inflow: Inflow, data: bytes, step: int) -> None:
    while data:
        room = inflow.room()
        count = min(step, len(room), len(data))
        room[:count] = data[:count]
        inflow.fed(count)
        data = data[count:]


@pytest.mark.parametrize("step", [1, 7, 4096, 10**9])
@pytest.mark.parametrize("shared", [True, False])
def test_frames_come_out_as_they_went_in(sides: tuple[Side, Side], step: int, shared: bool) -> None:
    chance = random.Random(step)
    sizes = (
        [0, 1, 100, 70_000] if step == 1 else [0, 1, 5000, SHARE - 1, SHARE, SHARE + 1, 3 * SHARE, 700_000]
    )
    ours, theirs = sides if shared else (None, None)
    inflow, seen = reader(theirs)
    expected: Seen = []
    for number in range(12):
        obj: list[Any] = [chance.randbytes(chance.choice(sizes)) for _ in range(chance.randrange(3))]
        sent = [Block(one) if chance.random() < 0.5 else one for one in obj]
        feed(inflow, flat(encode(number % 200, number << 33, sent, ours)), step)
        expected.append((number % 200, number << 33, obj))
    assert seen == expected


def test_several_frames_in_one_read() -> None:
    inflow, seen = reader(None)
    feed(inflow, b"".join(flat(encode(1, i, "x" * i, None)) for i in range(200)), 10**9)
    assert seen == [(1, i, "x" * i) for i in range(200)]


def test_what_is_writable_stays_so(sides: tuple[Side, Side]) -> None:
    for size in (10, SHARE):
        got: list[Any] = []

        def handle(kind: int, number: int, payload: Any, got: list[Any] = got) -> None:
            got.extend(payload[1])

        inflow = Inflow(sides[1], handle)
        data = flat(encode(1, 1, [Block(bytes(size)), Block(bytearray(size))], sides[0]))
        feed(inflow, data, 10**9)
        fixed, free = map(memoryview, got)
        assert fixed.readonly and not free.readonly
        free[0] = 7
        assert bytes(free) == b"\7" + bytes(size - 1)


def test_large_buffers_do_not_go_through_the_socket(sides: tuple[Side, Side]) -> None:
    assert len(flat(encode(1, 1, [Block(bytes(SHARE))] * 3, sides[0]))) < 1000
    assert len(flat(encode(1, 1, b"x" * SHARE, sides[0]))) < 1000
    for _ in range(2):
        (fd,) = sides[1].receive(1)
        assert os.fstat(fd).st_size >= SHARE and not os.get_inheritable(fd)
        os.close(fd)


@pytest.mark.parametrize("size", [100, SHARE, shared.KEPT_MOST + 1])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_buffer_that_is_kept_outlives_its_message(sides: tuple[Side, Side], size: int, kind: Any) -> None:
    sides[1].give_back = sides[0].given_back
    kept: list[Any] = []
    inflow = Inflow(sides[1], lambda kind, number, payload: kept.extend(payload[1]))
    for letter in b"ab":
        data = flat(encode(1, 1, [Block(kind([letter]) * size)], sides[0]))
        feed(inflow, data, 10**9)
    assert [bytes(one) for one in kept] == [b"a" * size, b"b" * size]


class Sharing:
    """The memory that was made to be shared, by its size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[int] = []
        make = shared.anonymous_file

        def counted(size: int) -> int:
            self.made.append(size)
            return make(size)

        monkeypatch.setattr(shared, "anonymous_file", counted)


def test_a_segment_that_was_given_back_is_used_again(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is what was written, whatever the order in which segments come back."""
    sharing = Sharing(monkeypatch)
    chance = random.Random(7)
    away: list[tuple[int, bool]] = []
    sides[1].give_back = lambda number, there: away.append((number, there))
    inflow, seen = reader(sides[1])
    expected = []
    for number in range(200):
        obj = [chance.randbytes(chance.randrange(SHARE, 5 * SHARE)) for _ in range(chance.randrange(1, 3))]
        feed(inflow, flat(encode(1, number, [Block(one) for one in obj], sides[0])), 10**9)
        expected.append((1, number, obj))
        while len(away) > chance.randrange(8):
            sides[0].given_back(*away.pop(chance.randrange(len(away))))
    assert seen == expected
    assert len(sharing.made) <= 4 * shared.KEPT_EACH
    assert all(size & (size - 1) == 0 for size in sharing.made)


def test_when_all_segments_are_away_the_side_says_so_and_more_goes_on_its_own(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing = Sharing(monkeypatch)
    away: list[int] = []
    sides[1].give_back = lambda number, there: away.append(number)
    inflow, seen = reader(sides[1])

    def send(count: int) -> None:
        for _ in range(count):
            feed(inflow, flat(encode(1, 1, "x" * SHARE, sides[0])), 10**9)

    send(shared.KEPT_EACH - 1)
    assert not sides[0].exhausted
    send(1)
    assert sides[0].exhausted and len(away) == shared.KEPT_EACH
    send(2)
    assert len(away) == shared.KEPT_EACH and len(sharing.made) == shared.KEPT_EACH + 2
    while away:
        assert bool(sides[0].exhausted) == (len(away) > shared.KEPT_EACH // 2)
        sides[0].given_back(away.pop(), True)
    send(3)
    assert len(sharing.made) == shared.KEPT_EACH + 2 and not sides[0].exhausted
    assert len(seen) == shared.KEPT_EACH + 5


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="shm objects are what is used here anyway")
def test_shm_objects_in_place_of_memfd(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    before = set(os.listdir("/dev/shm"))
    inflow, seen = reader(sides[1])
    data = flat(encode(1, 1, [Block(b"x" * SHARE), b"y" * SHARE, Block(b"z" * (SHARE + 1))], sides[0]))
    assert len(data) < 1000
    feed(inflow, data, 10**9)
    assert seen == [(1, 1, [b"x" * SHARE, b"y" * SHARE, b"z" * (SHARE + 1)])]
    assert set(os.listdir("/dev/shm")) == before


@pytest.mark.parametrize("what", ["memory", "room"])
def test_without_shared_memory_it_goes_through_the_socket(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "memory":

        def refuse(size: int) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(shared, "anonymous_file", refuse)
    else:
        while sides[0].send([0]):
            pass
    inflow, seen = reader(sides[1])
    feed(inflow, flat(encode(1, 1, [Block(b"x" * SHARE), b"y" * SHARE], sides[0])), 10**9)
    assert seen == [(1, 1, [b"x" * SHARE, b"y" * SHARE])]


@pytest.mark.parametrize("size", [SHARE, shared.KEPT_MOST + 1])
def test_a_descriptor_that_cannot_be_received_costs_one_message(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sides[1].give_back = sides[0].given_back
    inflow, seen = reader(sides[1])
    frames = [flat(encode(1, i, [Block(b"x" * size)], sides[0])) for i in range(2)]
    with monkeypatch.context() as patch:

        def nothing(sock: Any, size: int, most: int) -> Any:
            data, fds, *rest = receive(sock, size, most)
            for fd in fds:
                os.close(fd)
            return data, [], *rest

        receive = socket.recv_fds
        patch.setattr(socket, "recv_fds", nothing)
        feed(inflow, frames[0], 10**9)
    feed(inflow, frames[1], 10**9)
    for i in range(2, 4):  # and the segment that is not there is not used again
        feed(inflow, flat(encode(1, i, [Block(b"x" * size)], sides[0])), 10**9)
    assert isinstance(seen[0][2], Exception)
    assert seen[1:] == [(1, i, [b"x" * size]) for i in range(1, 4)]


def test_the_header_has_no_padding() -> None:
    assert HEADER.size == 20


def test_what_cannot_be_pickled_sends_nothing(sides: tuple[Side, Side]) -> None:
    with pytest.raises(TypeError):
        encode(1, 1, [Block(bytes(SHARE)), sides[0].sock.makefile], sides[0])
    with pytest.raises(BlockingIOError):
        sides[1].receive(1)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_are_not_pickled_in_band(sides: tuple[Side, Side], kind: Any) -> None:
    large, small = kind(b"x" * SHARE), kind(b"y" * (SHARE - 1))
    values = wire.lightened((large, small, 3))
    assert [type(value) for value in values] == [wire.Blob, kind, int]
    assert wire.lightened(values[1:]) is not None
    inflow, seen = reader(sides[1])
    pieces, size = encode(1, 1, values, sides[0])
    assert size > 2 * SHARE - 1 and sum(map(len, pieces)) < SHARE + 1000
    feed(inflow, b"".join(pieces), 10**9)
    assert seen == [(1, 1, (large, small, 3))]
    assert [type(value) for value in seen[0][2]] == [kind, kind, int]
