"""Writing: what leaves, when, and in what order."""

import array
import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pinloop import _core
from tests.core.support import Connect, Recorder, read_available, run_until, socket_pair, tcp_pair, turn


class BytesSubclass(bytes):
    pass


def drain(loop: asyncio.AbstractEventLoop, peer: socket.socket, count: int) -> bytes:
    """Read `count` bytes from the peer while the loop runs."""
    parts: list[bytes] = []

    def all_there() -> bool:
        parts.append(read_available(peer))
        return sum(map(len, parts)) >= count

    run_until(loop, all_there)
    return b"".join(parts)


def pattern(count: int) -> bytes:
    """Bytes that tell a lost, repeated or moved part."""
    return b"".join(i.to_bytes(4, "big") for i in range(count // 4 + 1))[:count]


# ----------------------------------------------------------------------- what --

KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a part of a memoryview": lambda data: memoryview(b"no" + data + b"no")[2:-2],
    "a memoryview of ints": lambda data: memoryview(data).cast("I"),
    "array": lambda data: array.array("B", data),
    "a subclass of bytes": BytesSubclass,
}


@pytest.mark.parametrize("size", [4, 1000, 40_000, 400_000])
@pytest.mark.parametrize("kind", KINDS)
def test_anything_bytes_like_is_sent(
    loop: asyncio.AbstractEventLoop, connect: Connect, kind: str, size: int
) -> None:
    transport, peer = connect(Recorder())
    transport.write(KINDS[kind](pattern(size)))
    assert drain(loop, peer, size) == pattern(size)


@pytest.mark.parametrize("size", [10, 1000, 40_000, 1_000_000])
def test_what_is_changed_after_the_write_is_sent_as_it_was(
    loop: asyncio.AbstractEventLoop, connect: Connect, size: int
) -> None:
    transport, peer = connect(Recorder(), socket_pair(4096))
    data = bytearray(pattern(size))
    transport.write(data)
    transport.writelines([data, memoryview(data)])
    data[:] = bytes(size)
    data.extend(b"it is not locked either")
    assert drain(loop, peer, 3 * size) == pattern(size) * 3


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_nothing_is_nothing(loop: asyncio.AbstractEventLoop, connect: Connect, data: Any) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol)
    transport.set_write_buffer_limits(0, 0)
    transport.write(data)
    transport.writelines([data, data])
    transport.writelines([])
    turn(loop)
    assert read_available(peer) == b""
    assert protocol.told == ["made"]


@pytest.mark.parametrize("data", ["text", None, 1, 1.5, ["a"], object()])
def test_what_is_not_bytes_like_is_a_type_error_and_the_connection_goes_on(
    loop: asyncio.AbstractEventLoop, connect: Connect, data: Any
) -> None:
    transport, peer = connect(Recorder())
    with pytest.raises(TypeError):
        transport.write(data)
    with pytest.raises(TypeError):
        transport.writelines([b"not even this", data])
    transport.write(b"good")
    turn(loop)
    assert read_available(peer) == b"good"


def test_writelines_takes_any_iterable(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    transport, peer = connect(Recorder())
    for parts in (
        [b"1", b"2"],
        (b"3", bytearray(b"4")),
        iter([memoryview(b"5")]),
        (b"6" for _ in range(2)),
        {b"7": 1},
    ):
        transport.writelines(parts)
    turn(loop)
    assert read_available(peer) == b"12345667"


@pytest.mark.parametrize("parts", [None, 1, "text"])
def test_writelines_of_no_iterable_of_bytes_is_a_type_error(connect: Connect, parts: Any) -> None:
    transport, _ = connect(Recorder())
    with pytest.raises(TypeError):
        transport.writelines(parts)


# ----------------------------------------------------------------------- when --


def test_small_writes_of_a_turn_leave_together_before_the_loop_sleeps(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    transport, peer = connect(Recorder())
    seen: list[bytes] = []

    def respond() -> None:
        transport.write(b"head ")
        seen.append(read_available(peer))
        transport.writelines([b"body ", b"tail"])
        seen.append(read_available(peer))

    loop.call_soon(respond)
    loop.call_soon(transport.write, b" and more")
    turn(loop)
    assert seen == [b"", b""]
    assert read_available(peer) == b"head body tail and more"


@pytest.mark.skipif(
    not hasattr(socket, "SOCK_SEQPACKET"), reason="a record of a packet socket is a system call"
)
@pytest.mark.parametrize("count", [1, 2, 3, 10, 64])
def test_they_leave_in_one_system_call(loop: asyncio.AbstractEventLoop, count: int) -> None:
    try:
        near, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        pytest.skip("no packet socket pairs here")
    near.setblocking(False)
    peer.setblocking(False)
    transport = _core.stream_transport(loop, near, Recorder(), loop.create_future())
    turn(loop)
    for i in range(count):
        transport.write(b"%03d" % i)
    turn(loop)
    assert peer.recv(10_000) == b"".join(b"%03d" % i for i in range(count))
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    transport.abort()
    turn(loop)
    peer.close()


def test_a_large_write_leaves_at_once(connect: Connect) -> None:
    transport, peer = connect(Recorder())
    transport.write(bytes(40_000))
    assert len(read_available(peer)) == 40_000


def test_many_small_writes_do_not_wait_for_the_turn_to_end(connect: Connect) -> None:
    transport, peer = connect(Recorder())
    for _ in range(100):
        transport.write(bytes(1000))
    assert len(read_available(peer)) >= 60_000


def test_what_the_last_event_before_a_stop_wrote_has_left(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            loop.stop()

    _, peer = connect(Echo())
    peer.send(b"hello")
    loop.run_forever()
    assert read_available(peer) == b"hello"


def test_written_before_the_loop_runs(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    transport, peer = connect(Recorder())
    transport.write(b"early")
    assert transport.get_write_buffer_size() == 5
    turn(loop)
    assert read_available(peer) == b"early"
    assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("size", [5, 100_000])
def test_written_before_and_in_connection_made(loop: asyncio.AbstractEventLoop, size: int) -> None:
    class Greeter(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"made")

    near, peer = socket_pair()
    transport = _core.stream_transport(loop, near, Greeter(), loop.create_future())
    transport.write(pattern(size))
    assert read_available(peer) == b""
    assert drain(loop, peer, size + 4) == pattern(size) + b"made"
    transport.abort()
    turn(loop)
    peer.close()


def test_an_exit_keeps_what_was_written_for_the_next_run(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    transport, peer = connect(Recorder())

    def write_and_leave() -> None:
        transport.write(b"kept")
        raise SystemExit

    loop.call_soon(write_and_leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    turn(loop)
    assert read_available(peer) == b"kept"


# ----------------------------------------------------------------------- order --


def test_order_is_kept_between_small_and_large_of_every_kind(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    transport, peer = connect(Recorder(), socket_pair(4096))
    data = pattern(1_000_000)
    at = 0
    sizes = [10, 40_000, 1, 70_000, 0, 300, 33_000, 5]
    makers = [bytes, bytearray, memoryview]
    i = 0
    while at < len(data):
        part = data[at : at + sizes[i % len(sizes)]]
        if i % 5 == 4:
            transport.writelines([part[: len(part) // 2], bytearray(part[len(part) // 2 :])])
        else:
            transport.write(makers[i % 3](part))
        at += len(part)
        i += 1
        if i % 11 == 0:
            turn(loop)
    assert drain(loop, peer, len(data)) == data


def test_hundreds_of_chunks_in_the_queue(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    transport, peer = connect(Recorder(), socket_pair(4096))
    data = pattern(300_000)
    transport.write(data[:200_000])  # fills the kernel's buffer
    for at in range(200_000, 300_000, 100):
        transport.write(data[at : at + 100])
    assert drain(loop, peer, len(data)) == data
    assert transport.get_write_buffer_size() == 0


def test_over_tcp_as_well(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    near, far = tcp_pair()
    transport, peer = connect(Recorder(), (near, far))
    peer.setblocking(False)
    data = pattern(5_000_000)
    for at in range(0, len(data), 50_000):
        transport.write(data[at : at + 50_000])
    assert drain(loop, peer, len(data)) == data


def test_two_connections_write_in_each_others_callbacks(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    class Crossed(Recorder):
        other: "Crossed"

        def data_received(self, data: bytes) -> None:
            self.other.transport.write(data)

    first, second = Crossed(), Crossed()
    first.other, second.other = second, first
    _, peer_1 = connect(first)
    _, peer_2 = connect(second)
    peer_1.send(b"one")
    peer_2.send(b"two")
    turn(loop)
    turn(loop)
    assert read_available(peer_1) == b"two"
    assert read_available(peer_2) == b"one"
