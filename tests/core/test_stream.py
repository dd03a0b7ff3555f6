"""A transport's reading, what it tells of itself, its protocols and its context."""

import asyncio
import contextvars
import logging
import socket
import time
import weakref
from asyncio.trsock import TransportSocket
from typing import Any

import pytest

import pinloop
from tests.core.support import BufferedRecorder, Connect, Recorder, run_until, socket_pair, tcp_pair, turn


def pattern(count: int) -> bytes:
    return b"".join(i.to_bytes(4, "big") for i in range(count // 4 + 1))[:count]


def send_all(loop: asyncio.AbstractEventLoop, peer: socket.socket, data: bytes, protocol: Recorder) -> None:
    """Send from the peer while the loop runs, until the protocol has it all."""
    left = memoryview(data)
    already = len(protocol.got)

    def send() -> bool:
        nonlocal left
        try:
            while left:
                left = left[peer.send(left) :]
        except BlockingIOError:
            pass
        return len(protocol.got) - already >= len(data)

    run_until(loop, send)


# ------------------------------------------------------------------------- reading --


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("sizes", [[1], [100] * 20, [40_000] * 5, [300_000], [2_000_000, 10, 200_000, 1]])
def test_all_that_is_sent_is_delivered_in_order(
    loop: asyncio.AbstractEventLoop, connect: Connect, kind: type[Recorder], sizes: list[int]
) -> None:
    protocol = kind()
    _, peer = connect(protocol)
    data = pattern(sum(sizes))
    at = 0
    for size in sizes:
        send_all(loop, peer, data[at : at + size], protocol)
        at += size
    assert protocol.got == data


def test_pieces_once_handed_over_stay_as_they_were(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    class Keeper(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.pieces: list[bytes] = []

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.pieces.append(data)

    protocol = Keeper()
    _, peer = connect(protocol)
    data = pattern(1_000_000)
    for at in range(0, len(data), 50_000):
        send_all(loop, peer, data[at : at + 50_000], protocol)
    assert b"".join(protocol.pieces) == data


@pytest.mark.parametrize("size", [1, 3, 4096])
@pytest.mark.parametrize("kind", [bytearray, lambda n: memoryview(bytearray(n + 5))[5:]])
def test_a_buffer_of_any_size_and_kind(
    loop: asyncio.AbstractEventLoop, connect: Connect, size: int, kind: Any
) -> None:
    protocol = BufferedRecorder()
    protocol.buffer = kind(size)
    _, peer = connect(protocol)
    send_all(loop, peer, pattern(1000), protocol)
    assert protocol.got == pattern(1000)


def test_a_fresh_buffer_for_each_read(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    class Fresh(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.buffer = bytearray(7)
            return self.buffer

    protocol = Fresh()
    _, peer = connect(protocol)
    send_all(loop, peer, pattern(1000), protocol)
    assert protocol.got == pattern(1000)


def test_a_buffer_is_not_locked_when_buffer_updated_is_called(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    class Grower(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.buffer.extend(bytes(10))

    protocol = Grower(size=10)
    _, peer = connect(protocol)
    send_all(loop, peer, pattern(1000), protocol)
    assert protocol.got == pattern(1000)


def test_a_protocol_that_only_listens_to_the_ends(
    loop: asyncio.AbstractEventLoop, connect: Connect, loop_errors: list[dict[str, Any]]
) -> None:
    class Base(asyncio.BaseProtocol):
        lost = False

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True

    protocol = Base()
    transport, peer = connect(protocol)
    transport.write(b"it can write")
    turn(loop)
    assert peer.recv(100) == b"it can write"
    assert loop_errors == []
    peer.send(b"it cannot read")
    run_until(loop, lambda: protocol.lost)
    assert len(loop_errors) == 1
    loop_errors.clear()


def test_many_connections_at_once(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocols = [Recorder() for _ in range(300)]
    peers = [connect(protocol)[1] for protocol in protocols]
    for i, peer in enumerate(peers):
        peer.send(b"%d" % i)
    run_until(loop, lambda: all(protocol.got for protocol in protocols))
    assert [protocol.got for protocol in protocols] == [b"%d" % i for i in range(300)]


# ---------------------------------------------------------------- another protocol --


@pytest.mark.parametrize("later", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("first", [Recorder, BufferedRecorder])
def test_set_protocol_hands_over_between_two_reads(
    loop: asyncio.AbstractEventLoop, connect: Connect, first: type[Recorder], later: type[Recorder]
) -> None:
    old, new = first(), later()
    transport, peer = connect(old)
    assert transport.get_protocol() is old
    peer.send(b"for the old")
    run_until(loop, lambda: old.got)
    transport.set_protocol(new)
    assert transport.get_protocol() is new
    peer.send(b"for the new")
    run_until(loop, lambda: new.got)
    peer.close()
    run_until(loop, lambda: new.lost)
    assert (old.got, new.got) == (b"for the old", b"for the new")
    assert old.told == ["made"]
    assert new.told == ["eof", "lost"]


def test_protocols_of_both_kinds_in_turn_lose_and_repeat_nothing(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    got = bytearray()

    class Plain(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.extend(data)
            transport.set_protocol(Buffered())

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(100)

        def get_buffer(self, sizehint: int) -> bytearray:
            if len(got) % 3 == 0:
                transport.set_protocol(Plain())  # the read under way is still this one's
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            got.extend(self.buffer[:nbytes])
            transport.set_protocol(Plain() if len(got) % 2 else Buffered())

    transport, peer = connect(Plain())
    data = pattern(100_000)
    at = 0
    while at < len(data):
        at += peer.send(data[at : at + 777])
        turn(loop)
    run_until(loop, lambda: len(got) == len(data))
    assert got == data


def test_set_protocol_in_connection_made(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    new = BufferedRecorder()

    class First(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.set_protocol(new)

    _, peer = connect(First())
    peer.send(b"x")
    run_until(loop, lambda: new.got == b"x")


# ------------------------------------------------------------------- what it tells --


def test_it_passes_for_an_asyncio_transport(connect: Connect) -> None:
    transport, _ = connect(Recorder())
    assert isinstance(transport, asyncio.Transport)
    assert isinstance(transport, asyncio.ReadTransport)
    assert isinstance(transport, asyncio.WriteTransport)
    assert isinstance(transport, asyncio.BaseTransport)
    assert weakref.ref(transport)() is transport


def test_extra_info_of_a_tcp_connection(connect: Connect) -> None:
    near, far = tcp_pair()
    transport, _ = connect(Recorder(), (near, far))
    assert transport.get_extra_info("peername") == far.getsockname()
    assert transport.get_extra_info("sockname") == far.getpeername()
    sock = transport.get_extra_info("socket")
    assert isinstance(sock, TransportSocket)
    assert sock.fileno() == near.fileno()
    assert sock.family == socket.AF_INET
    assert transport.get_extra_info("socket") is sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert transport.get_extra_info("nothing") is None
    assert transport.get_extra_info("nothing", 5) == 5


def test_extra_info_of_an_ipv6_connection(connect: Connect) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no ::1 here")
    with listening:
        near = socket.create_connection(listening.getsockname()[:2])
        far, _ = listening.accept()
    near.setblocking(False)
    transport, _ = connect(Recorder(), (near, far))
    assert transport.get_extra_info("peername") == far.getsockname()
    assert transport.get_extra_info("sockname") == near.getsockname()
    assert len(transport.get_extra_info("peername")) == 4


def test_addresses_are_known_after_the_end(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    near, far = tcp_pair()
    address = near.getsockname()
    transport, _ = connect(Recorder(), (near, far))
    transport.close()
    turn(loop)
    assert transport.get_extra_info("sockname") == address
    assert transport.get_extra_info("peername") == far.getsockname()


def test_the_socket_asked_for_early_is_closed_in_the_end(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    transport, _ = connect(Recorder())
    sock = transport.get_extra_info("socket")
    transport.close()
    turn(loop)
    assert sock.fileno() == -1
    assert transport.get_extra_info("socket") is sock


def test_repr_tells_state_descriptor_and_queue(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    near, peer = socket_pair(4096)
    transport, _ = connect(Recorder(), (near, peer))
    assert f"open fd={near.fileno()}" in repr(transport)
    assert "read=polling" in repr(transport)
    assert "bufsize=0" in repr(transport)
    transport.pause_reading()
    transport.write(bytes(300_000))
    assert "read=paused" in repr(transport)
    assert "write=<polling" in repr(transport)
    transport.close()
    assert "closing" in repr(transport)
    transport.abort()
    turn(loop)
    assert "closed" in repr(transport)
    assert "fd=" not in repr(transport)


def test_debug_mode_reports_a_slow_protocol(
    loop: asyncio.AbstractEventLoop, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass

    loop.set_debug(True)
    protocol = Slow()
    _, peer = connect(protocol)
    loop.slow_callback_duration = 0.015
    with caplog.at_level(logging.WARNING, "asyncio"):
        peer.send(b"x")
        run_until(loop, lambda: protocol.got)
    assert any("Slow" in record.message and "took" in record.message for record in caplog.records)


# ------------------------------------------------------------------------- contexts --

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


class Contextual(Recorder):
    """Sets a variable when it is made and keeps what each later callback finds in it."""

    def __init__(self, name: str) -> None:
        super().__init__(keep_open=True)
        self.name = name
        self.found: dict[str, str] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.found["made"] = VAR.get()
        VAR.set(self.name)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.found["data"] = VAR.get()

    def eof_received(self) -> bool:
        self.found["eof"] = VAR.get()
        return super().eof_received()

    def pause_writing(self) -> None:
        self.found["pause"] = VAR.get()

    def resume_writing(self) -> None:
        self.found["resume"] = VAR.get()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.found["lost"] = VAR.get()


def test_the_callbacks_of_a_connection_share_a_context_of_their_own(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocols = [Contextual("first"), Contextual("second")]
    token = VAR.set("outside")
    try:
        for protocol in protocols:
            transport, peer = connect(protocol, socket_pair(4096))
            transport.write(bytes(200_000))
            peer.send(b"x")
            run_until(loop, lambda protocol=protocol: protocol.got)
            while transport.get_write_buffer_size():
                peer.recv(1 << 20)
                turn(loop)
            peer.shutdown(socket.SHUT_WR)
            run_until(loop, lambda protocol=protocol: "eof" in protocol.found)
            transport.close()
            run_until(loop, lambda protocol=protocol: protocol.lost)
        assert VAR.get() == "outside"
    finally:
        VAR.reset(token)
    for protocol in protocols:
        assert protocol.found.pop("made") == "outside"
        names = ["data", "eof", "pause", "resume", "lost"]
        assert protocol.found == dict.fromkeys(names, protocol.name)


def test_a_callback_that_writes_to_its_own_connection_meets_pressure_in_its_context(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    class Flood(Contextual):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(bytes(1_000_000))

    protocol = Flood("mine")
    _, peer = connect(protocol, socket_pair(4096))
    peer.send(b"x")
    run_until(loop, lambda: "pause" in protocol.found)
    assert protocol.found["pause"] == "mine"


def test_a_second_transport_for_a_socket_in_use_is_refused(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    near, peer = socket_pair()
    protocol = Recorder()
    connect(protocol, (near, peer))
    again = socket.socket(fileno=near.fileno())
    try:
        with pytest.raises(RuntimeError, match="is used by"):
            loop.run_until_complete(loop.connect_accepted_socket(Recorder, again))
    finally:
        again.detach()
    if near.fileno() != -1:
        peer.send(b"still the first one's")
        run_until(loop, lambda: protocol.got)


def test_a_loop_of_pinloop_is_what_a_transport_belongs_to(connect: Connect, loop: Any) -> None:
    assert isinstance(loop, pinloop.Loop)
    transport, _ = connect(Recorder())
    assert type(transport).__name__ == "StreamTransport"
