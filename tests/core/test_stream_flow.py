"""Flow control, both ways."""

import asyncio
import socket
import sys
import time
from typing import Any

import pytest

from pinloop import _core
from tests.core.support import (
    BufferedRecorder,
    Connect,
    Recorder,
    read_available,
    run_until,
    socket_pair,
    turn,
)  # fmt: skip


def read_all(loop: asyncio.AbstractEventLoop, transport: Any, peer: socket.socket) -> int:
    """Read from the peer until the transport's queue is empty and nothing more comes; how much it was."""
    count = 0
    while transport.get_write_buffer_size() or (count == 0):
        turn(loop)
        count += len(read_available(peer))
    turn(loop)
    return count + len(read_available(peer))


# ------------------------------------------------------------------------- limits --


def test_the_default_limits(connect: Connect) -> None:
    transport, _ = connect(Recorder())
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 100}, (25, 100)),
        ({"low": 10}, (10, 40)),
        ({"high": 100, "low": 0}, (0, 100)),
        ({"high": 0}, (0, 0)),
        ({"high": 0, "low": 0}, (0, 0)),
        ({"high": 7, "low": 7}, (7, 7)),
        ({"high": 1 << 40}, (1 << 38, 1 << 40)),
    ],
)
def test_limits_can_be_set(connect: Connect, given: dict[str, int], limits: tuple[int, int]) -> None:
    transport, _ = connect(Recorder())
    transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == limits


@pytest.mark.parametrize("given", [{"high": -1}, {"low": -1}, {"high": 1, "low": 2}, {"high": 5, "low": -5}])
def test_limits_out_of_order_are_a_value_error(connect: Connect, given: dict[str, int]) -> None:
    transport, _ = connect(Recorder())
    with pytest.raises(ValueError, match="must be >="):
        transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize("given", [{"high": "1"}, {"low": []}])
def test_limits_of_no_use_leave_the_old_ones(connect: Connect, given: dict[str, Any]) -> None:
    transport, _ = connect(Recorder())
    with pytest.raises(TypeError):
        transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize("high", [1 << 70, float("inf")])
def test_a_limit_that_no_buffer_reaches_is_none(connect: Connect, high: float) -> None:
    transport, _ = connect(Recorder())
    transport.set_write_buffer_limits(high, low=1)
    assert transport.get_write_buffer_limits() == (1, sys.maxsize)


def test_a_limit_with_a_fraction_counts_whole_bytes(connect: Connect) -> None:
    transport, _ = connect(Recorder())
    transport.set_write_buffer_limits(high=1.5, low=0.5)
    assert transport.get_write_buffer_limits() == (0, 1)


# ------------------------------------------------------------------------- writing --


@pytest.mark.parametrize(("high", "low"), [(0, 0), (1, 0), (1000, 10), (65536, 16384), (200_000, 200_000)])
def test_the_protocol_is_told_once_above_high_and_once_at_low(
    loop: asyncio.AbstractEventLoop, connect: Connect, high: int, low: int
) -> None:
    sizes: list[tuple[str, int]] = []

    class Protocol(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            sizes.append(("pause", self.transport.get_write_buffer_size()))

        def resume_writing(self) -> None:
            super().resume_writing()
            sizes.append(("resume", self.transport.get_write_buffer_size()))

    protocol = Protocol()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.set_write_buffer_limits(high, low)
    for _ in range(5):
        transport.write(bytes(100_000))
    assert protocol.told == ["made", "pause"]
    assert read_all(loop, transport, peer) == 500_000
    assert protocol.told == ["made", "pause", "resume"]
    (_, paused), (_, resumed) = sizes
    assert paused > high
    assert resumed <= low


def test_exactly_high_is_not_above_it(connect: Connect) -> None:
    protocol = Recorder()
    transport, _ = connect(protocol, socket_pair(4096))
    transport.set_write_buffer_limits(1 << 30)
    transport.write(bytes(200_000))
    transport.set_write_buffer_limits(transport.get_write_buffer_size())
    assert protocol.told == ["made"]
    transport.write(b"x")
    assert protocol.told == ["made", "pause"]


def test_what_the_kernel_takes_pauses_nobody(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol)
    transport.set_write_buffer_limits(0, 0)
    for _ in range(10):
        transport.write(bytes(1000))
        turn(loop)
    assert read_available(peer) == bytes(10_000)
    assert "resume" not in protocol.told or protocol.told.count("pause") == protocol.told.count("resume")


def test_a_large_write_that_the_kernel_takes_pauses_nobody(connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol)
    transport.set_write_buffer_limits(0, 0)
    transport.write(bytes(50_000))
    assert len(read_available(peer)) == 50_000
    assert protocol.told == ["made"]


def test_limits_set_below_what_is_queued_pause_at_once(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.set_write_buffer_limits(1 << 20)
    transport.write(bytes(200_000))
    assert protocol.told == ["made"]
    transport.set_write_buffer_limits(1000)
    assert protocol.told == ["made", "pause"]
    assert read_all(loop, transport, peer) == 200_000
    assert protocol.told == ["made", "pause", "resume"]


def test_once_drained_it_neither_spins_nor_waits_to_be_writable(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    transport, peer = connect(Recorder(), socket_pair(4096))
    transport.write(bytes(200_000))
    assert "write=<polling" in repr(transport)
    assert read_all(loop, transport, peer) == 200_000
    assert "write=<idle" in repr(transport)
    loop.call_later(0.2, loop.stop)
    begin = time.process_time()
    loop.run_forever()
    assert time.process_time() - begin < 0.1


def test_a_producer_driven_by_resume_writing_sends_it_all_with_a_bounded_queue(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    class Producer(Recorder):
        left = 3_000_000
        paused = False
        longest = 0

        def produce(self) -> None:
            while self.left and not self.paused:
                self.transport.write(bytes(10_000))
                self.left -= 10_000
                self.longest = max(self.longest, self.transport.get_write_buffer_size())

        def pause_writing(self) -> None:
            assert not self.paused
            self.paused = True

        def resume_writing(self) -> None:
            assert self.paused
            self.paused = False
            self.produce()

    protocol = Producer()
    _, peer = connect(protocol, socket_pair(4096))
    protocol.produce()
    received = 0
    while received < 3_000_000:
        turn(loop)
        received += len(read_available(peer))
    assert received == 3_000_000
    assert protocol.longest <= 65536 + 10_000


def test_writing_in_pause_writing_does_not_recurse(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    class Stubborn(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.write(b"x" * 100_000)

    protocol = Stubborn()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(100_000))
    assert protocol.told == ["made", "pause"]
    assert read_all(loop, transport, peer) == 200_000


@pytest.mark.parametrize(
    "action", ["close", "abort", "write_eof", "set_write_buffer_limits", "pause_reading"]
)
@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
def test_a_protocol_may_end_things_when_told_of_pressure(
    loop: asyncio.AbstractEventLoop, connect: Connect, callback: str, action: str
) -> None:
    def act(self: Any) -> None:
        getattr(self.transport, action)()

    protocol = type("Protocol", (Recorder,), {callback: act})()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(300_000))
    count = 0
    end = time.monotonic() + 10
    while time.monotonic() < end:
        turn(loop)
        try:
            data = peer.recv(1 << 20)
        except BlockingIOError:
            if not transport.get_write_buffer_size() and action in (
                "set_write_buffer_limits",
                "pause_reading",
            ):
                break
            continue
        if not data:
            break
        count += len(data)
    if action == "abort":
        assert count < 300_000
    else:
        assert count == 300_000
    for _ in range(3):
        turn(loop)
    assert protocol.lost == ([None] if action in ("close", "abort") else [])


# ------------------------------------------------------------------------- reading --


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_paused_nothing_is_delivered_resumed_all_is(
    loop: asyncio.AbstractEventLoop, connect: Connect, kind: type[Recorder]
) -> None:
    protocol = kind()
    transport, peer = connect(protocol)
    transport.pause_reading()
    assert not transport.is_reading()
    peer.send(b"one")
    for _ in range(3):
        turn(loop)
    assert protocol.got == b""
    peer.send(b"two")
    transport.resume_reading()
    assert transport.is_reading()
    run_until(loop, lambda: len(protocol.got) == 6)
    assert protocol.got == b"onetwo"


def test_pause_and_resume_may_be_repeated(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol)
    for i in range(20):
        transport.pause_reading()
        transport.pause_reading()
        if i % 2:
            turn(loop)
        peer.send(b"x")
        if i % 3:
            turn(loop)
        transport.resume_reading()
        transport.resume_reading()
        run_until(loop, lambda i=i: len(protocol.got) == i + 1)


def test_pausing_in_data_received_holds_the_next_piece_back(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    class Slow(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    protocol = Slow(size=3)
    transport, peer = connect(protocol)
    peer.send(b"123456789")
    for expected in (b"123", b"123456", b"123456789"):
        for _ in range(3):
            turn(loop)
        assert protocol.got == expected
        transport.resume_reading()


def test_paused_before_connection_made(loop: asyncio.AbstractEventLoop) -> None:
    near, peer = socket_pair()
    protocol = Recorder()
    transport = _core.stream_transport(loop, near, protocol, loop.create_future())
    transport.pause_reading()
    peer.send(b"x")
    for _ in range(3):
        turn(loop)
    assert protocol.told == ["made"]
    assert protocol.got == b""
    transport.resume_reading()
    run_until(loop, lambda: protocol.got == b"x")
    transport.abort()
    turn(loop)
    peer.close()


def test_paused_in_connection_made(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    class Paused(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    protocol = Paused()
    transport, peer = connect(protocol)
    peer.send(b"x")
    for _ in range(3):
        turn(loop)
    assert protocol.got == b""
    transport.resume_reading()
    run_until(loop, lambda: protocol.got == b"x")


def test_a_paused_reader_holds_the_peer_up(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.pause_reading()
    sent = 0
    with pytest.raises(BlockingIOError):
        while sent < 100_000_000:
            sent += peer.send(bytes(10_000))
            turn(loop)
    assert protocol.got == b""
    transport.resume_reading()
    run_until(loop, lambda: len(protocol.got) == sent)


def test_a_paused_transport_with_bytes_waiting_does_not_spin(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    transport, peer = connect(Recorder())
    transport.pause_reading()
    peer.send(b"x")
    loop.call_later(0.2, loop.stop)
    begin = time.process_time()
    loop.run_forever()
    assert time.process_time() - begin < 0.1


@pytest.mark.parametrize("keep_open", [False, True])
def test_a_paused_transport_whose_peer_is_gone_does_not_spin_and_tells_all_when_resumed(
    loop: asyncio.AbstractEventLoop, connect: Connect, keep_open: bool
) -> None:
    protocol = Recorder(keep_open)
    transport, peer = connect(protocol)
    transport.pause_reading()
    peer.send(b"last words")
    peer.close()
    loop.call_later(0.2, loop.stop)
    begin = time.process_time()
    loop.run_forever()
    assert time.process_time() - begin < 0.1
    assert protocol.told == ["made"]
    transport.resume_reading()
    run_until(loop, lambda: "eof" in protocol.told)
    assert protocol.got == b"last words"
    turn(loop)
    assert protocol.lost == ([] if keep_open else [None])


def test_an_open_half_after_the_peers_eof_does_not_spin(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder(keep_open=True)
    _, peer = connect(protocol)
    peer.close()
    run_until(loop, lambda: "eof" in protocol.told)
    loop.call_later(0.2, loop.stop)
    begin = time.process_time()
    loop.run_forever()
    assert time.process_time() - begin < 0.1


def test_is_reading_follows_the_state(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    transport, _ = connect(Recorder())
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    transport.resume_reading()
    transport.close()
    assert not transport.is_reading()
    transport.resume_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    turn(loop)
    transport.resume_reading()
    assert not transport.is_reading()
