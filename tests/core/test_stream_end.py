"""How a connection ends: close, abort, EOF on either side, a reset, the end of the loop."""

import asyncio
import gc
import logging
import socket
import struct
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pinloop import _core
from tests.core.support import (
    BufferedRecorder,
    Connect,
    Recorder,
    read_available,
    run_python,
    run_until,
    socket_pair,
    tcp_pair,
    turn,
)


def read_to_eof(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> bytes:
    """Everything up to the end, read while the loop runs."""
    parts: list[bytes] = []
    ended: list[bool] = []

    def read() -> bool:
        try:
            while part := peer.recv(1 << 20):
                parts.append(part)
            ended.append(True)
        except BlockingIOError:
            pass
        except ConnectionResetError:  # it was closed with bytes unread
            ended.append(True)
        return bool(ended)

    run_until(loop, read)
    return b"".join(parts)


def reset(sock: socket.socket) -> None:
    """Close a TCP socket with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --------------------------------------------------------------------------- close --


@pytest.mark.parametrize("size", [0, 10, 50_000, 1_000_000])
def test_close_sends_what_was_written_first(
    loop: asyncio.AbstractEventLoop, connect: Connect, size: int
) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(size))
    transport.close()
    assert transport.is_closing()
    assert protocol.lost == []
    assert read_to_eof(loop, peer) == bytes(size)
    assert protocol.lost == [None]
    assert [name for name in protocol.told if name not in ("pause", "resume")] == ["made", "lost"]


def test_connection_lost_comes_in_a_later_turn_and_once(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder()
    transport, _ = connect(protocol)
    for _ in range(3):
        transport.close()
        transport.abort()
    assert protocol.lost == []
    for _ in range(3):
        turn(loop)
        transport.close()
        transport.abort()
    assert protocol.lost == [None]


def test_a_closing_transport_reads_no_more(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(300_000))
    transport.close()
    peer.send(b"too late")
    read_to_eof(loop, peer)
    assert protocol.got == b""
    assert protocol.lost == [None]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_ending_in_data_received_delivers_nothing_more(
    loop: asyncio.AbstractEventLoop, connect: Connect, end: str
) -> None:
    class Once(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            getattr(self.transport, end)()

    protocol = Once(size=2)
    _, peer = connect(protocol)
    peer.send(b"123456")
    run_until(loop, lambda: protocol.lost)
    assert protocol.got == b"12"
    assert protocol.lost == [None]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_ending_in_connection_made(loop: asyncio.AbstractEventLoop, connect: Connect, end: str) -> None:
    class Rude(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"bye")
            getattr(transport, end)()

    protocol = Rude()
    _, peer = connect(protocol)
    run_until(loop, lambda: protocol.lost)
    assert read_available(peer) == b"bye"  # also with abort: the kernel had room for it
    assert protocol.told == ["made", "lost"]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_ending_before_connection_made_still_tells_both(loop: asyncio.AbstractEventLoop, end: str) -> None:
    near, peer = socket_pair()
    protocol = Recorder()
    waiter = loop.create_future()
    transport = _core.stream_transport(loop, near, protocol, waiter)
    transport.write(b"bye")
    getattr(transport, end)()
    run_until(loop, lambda: protocol.lost)
    assert waiter.done()
    assert protocol.told == ["made", "lost"]
    assert read_available(peer) == (b"bye" if end == "close" else b"")
    peer.close()


def test_a_cancelled_waiter_does_no_harm(loop: asyncio.AbstractEventLoop) -> None:
    near, peer = socket_pair()
    protocol, waiter = Recorder(), loop.create_future()
    transport = _core.stream_transport(loop, near, protocol, waiter)
    waiter.cancel()
    turn(loop)
    assert protocol.told == ["made"]
    transport.close()
    turn(loop)
    peer.close()


def test_abort_drops_what_was_not_sent(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(1_000_000))
    transport.abort()
    assert transport.get_write_buffer_size() == 0
    assert len(read_to_eof(loop, peer)) < 1_000_000
    assert protocol.lost == [None]


def test_abort_ends_a_close_that_waits_for_a_slow_peer(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder()
    transport, _ = connect(protocol, socket_pair(4096))
    transport.write(bytes(1_000_000))
    transport.close()
    for _ in range(3):
        turn(loop)
    assert protocol.lost == []
    transport.abort()
    turn(loop)
    assert protocol.lost == [None]


# ---------------------------------------------------------------------- too late --


@pytest.mark.parametrize("when", ["closing", "closed"])
def test_a_write_after_close_does_nothing_and_the_fifth_is_logged(
    loop: asyncio.AbstractEventLoop, connect: Connect, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    transport, peer = connect(Recorder())
    transport.close()
    if when == "closed":
        turn(loop)
    with caplog.at_level(logging.WARNING, "asyncio"):
        for _ in range(4):
            transport.write(b"too late")
        assert not caplog.records
        transport.writelines([b"too", b"late"])
        transport.write(b"too late")
    assert len(caplog.records) == 1
    assert read_to_eof(loop, peer) == b""


def test_a_closed_transport_answers_every_question(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    transport, _ = connect(Recorder())
    transport.close()
    turn(loop)
    transport.pause_reading()
    transport.resume_reading()
    transport.set_write_buffer_limits(1)
    transport.write_eof()
    assert transport.is_closing()
    assert not transport.is_reading()
    assert transport.get_write_buffer_size() == 0
    assert transport.get_extra_info("nothing", "default") == "default"
    assert "closed" in repr(transport)


# ----------------------------------------------------------------------------- EOF --


@pytest.mark.parametrize("size", [0, 10, 50_000, 1_000_000])
def test_write_eof_follows_what_was_written_and_reading_goes_on(
    loop: asyncio.AbstractEventLoop, connect: Connect, size: int
) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    assert transport.can_write_eof()
    transport.write(bytes(size))
    transport.write_eof()
    transport.write_eof()
    assert read_to_eof(loop, peer) == bytes(size)
    peer.send(b"still there?")
    run_until(loop, lambda: protocol.got == b"still there?")
    assert protocol.lost == []
    assert not transport.is_closing()


def test_write_after_write_eof_is_a_runtime_error(connect: Connect) -> None:
    transport, _ = connect(Recorder())
    transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        transport.write(b"x")
    with pytest.raises(RuntimeError, match="write_eof"):
        transport.writelines([b"x"])


def test_write_eof_then_close(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(300_000))
    transport.write_eof()
    transport.close()
    assert read_to_eof(loop, peer) == bytes(300_000)
    run_until(loop, lambda: protocol.lost)
    assert protocol.lost == [None]


def test_write_eof_before_connection_made(loop: asyncio.AbstractEventLoop) -> None:
    near, peer = socket_pair()
    protocol = Recorder()
    transport = _core.stream_transport(loop, near, protocol, loop.create_future())
    transport.write(b"early")
    transport.write_eof()
    assert read_to_eof(loop, peer) == b"early"
    assert protocol.lost == []
    transport.abort()
    turn(loop)
    peer.close()


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_the_peers_eof_closes_unless_the_protocol_wants_to_keep_its_half(
    loop: asyncio.AbstractEventLoop, connect: Connect, kind: type[Recorder]
) -> None:
    protocol = kind()
    _, peer = connect(protocol)
    peer.send(b"last words")
    peer.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: protocol.lost)
    assert protocol.got == b"last words"
    assert protocol.told == ["made", "eof", "lost"]
    assert protocol.lost == [None]


@pytest.mark.parametrize("answer", [None, False, 0, "", True, 1, "yes"])
def test_the_truth_of_eof_receiveds_answer_counts(
    loop: asyncio.AbstractEventLoop, connect: Connect, answer: Any
) -> None:
    protocol = Recorder(keep_open=answer)
    transport, peer = connect(protocol)
    peer.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: "eof" in protocol.told)
    assert transport.is_closing() == (not answer)


def test_a_half_kept_open_can_still_write(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder(keep_open=True)
    transport, peer = connect(protocol, socket_pair(4096))
    peer.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: "eof" in protocol.told)
    transport.write(bytes(300_000))
    transport.pause_reading()
    transport.resume_reading()
    transport.close()
    assert read_to_eof(loop, peer) == bytes(300_000)
    assert protocol.told.count("eof") == 1


def test_both_halves_closed_one_after_the_other(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder(keep_open=True)
    transport, peer = connect(protocol)
    transport.write_eof()
    assert read_to_eof(loop, peer) == b""
    peer.send(b"answer")
    peer.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: "eof" in protocol.told)
    assert protocol.got == b"answer"
    assert protocol.lost == []
    transport.close()
    turn(loop)
    assert protocol.lost == [None]


def test_what_was_queued_still_leaves_after_the_peers_eof(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, socket_pair(4096))
    transport.write(bytes(500_000))
    peer.shutdown(socket.SHUT_WR)
    assert read_to_eof(loop, peer) == bytes(500_000)
    assert protocol.lost == [None]


# --------------------------------------------------------------------------- resets --


def test_a_reset_is_told_to_the_protocol_and_to_nobody_else(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder()
    _, peer = connect(protocol, tcp_pair())
    reset(peer)
    run_until(loop, lambda: protocol.lost)
    assert isinstance(protocol.lost[0], ConnectionResetError)
    assert protocol.told == ["made", "lost"]


def test_a_reset_while_the_queue_is_full(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    protocol = Recorder()
    transport, peer = connect(protocol, tcp_pair())
    transport.pause_reading()
    transport.write(bytes(20_000_000))
    assert transport.get_write_buffer_size()
    reset(peer)
    run_until(loop, lambda: protocol.lost)
    assert isinstance(protocol.lost[0], (ConnectionResetError, BrokenPipeError))
    assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_writing_to_a_peer_that_is_gone(
    loop: asyncio.AbstractEventLoop, connect: Connect, size: int, kind: Callable[[int], Any]
) -> None:
    """A half-open peer: nobody reads our side, and we do not read theirs."""
    protocol = Recorder(keep_open=True)
    transport, peer = connect(protocol)
    peer.close()
    run_until(loop, lambda: "eof" in protocol.told)
    transport.write(kind(size))
    run_until(loop, lambda: protocol.lost)
    assert isinstance(protocol.lost[0], BrokenPipeError)
    assert transport.is_closing()


def test_bytes_that_came_before_a_reset_are_delivered_or_the_reset_is_told(
    loop: asyncio.AbstractEventLoop, connect: Connect
) -> None:
    protocol = Recorder()
    _, peer = connect(protocol, tcp_pair())
    peer.send(b"hello")
    run_until(loop, lambda: protocol.got == b"hello")
    reset(peer)
    run_until(loop, lambda: protocol.lost)
    assert isinstance(protocol.lost[0], ConnectionResetError)


# ----------------------------------------------------------------- what is left behind --


def open_and_end(loop: asyncio.AbstractEventLoop, end: str, asked: bool) -> list[weakref.ref[Any]]:
    """Weak references to a transport and a protocol whose connection is over."""
    near, peer = socket_pair()
    protocol = Recorder()
    transport: Any = loop.run_until_complete(loop.connect_accepted_socket(lambda: protocol, near))[0]
    if asked:
        transport.get_extra_info("socket")
    if end == "peer":
        peer.close()
    else:
        getattr(transport, end)()
    run_until(loop, lambda: protocol.lost)
    assert near.fileno() == -1
    assert transport.get_protocol() is None
    peer.close()
    return [weakref.ref(transport), weakref.ref(protocol)]


@pytest.mark.parametrize("end", ["close", "abort", "peer"])
@pytest.mark.parametrize("asked", [False, True])
def test_the_descriptor_is_given_back_and_the_protocol_let_go(
    loop: asyncio.AbstractEventLoop, end: str, asked: bool
) -> None:
    alive = open_and_end(loop, end, asked)
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_an_open_transport_warns_when_the_loop_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    near, peer = socket_pair()
    loop.run_until_complete(loop.connect_accepted_socket(Recorder, near))
    number = near.fileno()
    del near
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
        gc.collect()
    assert any(f"fd={number}" in str(each.message) for each in caught)
    assert any("unclosed transport" in str(each.message) for each in caught)
    assert {each.category for each in caught} == {ResourceWarning}
    peer.setblocking(True)
    assert peer.recv(1) == b""
    peer.close()


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_transport_ended_after_its_loop_gives_its_descriptor_back(
    loop: asyncio.AbstractEventLoop, end: str
) -> None:
    near, peer = socket_pair()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(Recorder, near))
    transport.write(b"x")
    loop.close()
    try:
        getattr(transport, end)()
    except RuntimeError:
        transport.abort()
    if near.fileno() != -1:  # close() of a loop that cannot flush any more
        transport.abort()
    assert near.fileno() == -1
    peer.close()


def test_a_closed_transport_does_not_warn(loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
    transport, _ = connect(Recorder())
    transport.close()
    turn(loop)
    del transport
    gc.collect()


def test_what_is_not_made_by_a_loop_is_of_no_use_and_no_harm() -> None:
    out = run_python(
        """
import asyncio, socket
import pinloop
from pinloop import _core

loop = pinloop.new_event_loop()
near, peer = socket.socketpair()
transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
arguments = {
    "write": (b"x",), "writelines": ([b"x"],), "set_protocol": (asyncio.Protocol(),),
    "get_extra_info": ("socket",), "set_write_buffer_limits": (0, 0),
}
for thing in (transport, loop.call_soon(int), loop.call_later(0, int), _core.Listener, _core.CallbackWatcher):
    kind = thing if isinstance(thing, type) else type(thing)
    try:
        kind()
    except TypeError:
        pass
    for name in dir(kind):
        method = getattr(kind, name)
        if name == "__repr__" or (callable(method) and not name.startswith("_")):
            print(kind.__name__, name, flush=True)
            try:
                method(kind.__new__(kind), *arguments.get(name, ()))
            except Exception:
                pass
transport.abort()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
peer.close()
print("alive")
"""
    )
    assert out.endswith("alive\n")
