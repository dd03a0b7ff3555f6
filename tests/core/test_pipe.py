"""Pipe transports on the native floor: how they read and write, whose the descriptor is, how they end."""

import asyncio
import fcntl
import functools
import gc
import io
import logging
import os
import pty
import select
import socket
import sys
import tty
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from pinloop import _core
from tests.core.support import Pipe, Recorder, pipe_files, run_until, scripted, turn

F_SETPIPE_SZ: Any = getattr(fcntl, "F_SETPIPE_SZ", None)


@pytest.fixture
def pipe(loop: asyncio.AbstractEventLoop) -> Iterator[Pipe]:
    pipe = Pipe(loop)
    yield pipe
    pipe.end()


def fill(fd: int) -> bytes:
    """Write until a non-blocking pipe is full; what was written."""
    sent = b""
    try:
        while True:
            sent += bytes(os.write(fd, bytes(4096)))
    except BlockingIOError:
        return sent


# ------------------------------------------------------------------------ kinds --


def test_they_stand_in_for_asyncios(pipe: Pipe) -> None:
    assert isinstance(pipe.rt, asyncio.ReadTransport)
    assert not isinstance(pipe.rt, asyncio.WriteTransport)
    assert isinstance(pipe.wt, asyncio.WriteTransport)
    assert not isinstance(pipe.wt, asyncio.ReadTransport)
    transports: list[Any] = [pipe.rt, pipe.wt]
    for transport in transports:
        transport.attribute = "theirs"
        assert transport.attribute == "theirs"
        assert weakref.ref(transport)() is transport


@pytest.mark.parametrize("cls", ["PipeTransport", "ReadPipeTransport", "WritePipeTransport", "ChildWatcher"])
def test_only_a_loop_makes_them(cls: str) -> None:
    with pytest.raises(TypeError):
        getattr(_core, cls)()


def test_what_they_look_like(pipe: Pipe) -> None:
    r, w = (file.fileno() for file in pipe.files)
    assert repr(pipe.rt) == f"<pinloop.ReadPipeTransport open fd={r} polling>"
    assert repr(pipe.wt) == f"<pinloop.WritePipeTransport open fd={w} idle bufsize=0>"
    fill(w)
    pipe.wt.write(b"12345")
    assert repr(pipe.wt) == f"<pinloop.WritePipeTransport open fd={w} polling bufsize=5>"
    pipe.end()
    assert repr(pipe.rt) == "<pinloop.ReadPipeTransport closed>"
    assert repr(pipe.wt) == "<pinloop.WritePipeTransport closed>"
    assert pipe.rt.get_protocol() is None
    assert pipe.wt.get_protocol() is None


# ---------------------------------------------------------------------- reading --


def test_large_and_small_reads_follow_each_other(pipe: Pipe) -> None:
    sent = bytearray()
    for size in (1, 40_000, 65_536, 65_536, 10, 33_000, 5):
        sent += bytes([size & 0xFF]) * size
        os.write(pipe.files[1].fileno(), sent[-size:])
        run_until(pipe.loop, functools.partial(pipe.has_read, len(sent)))
    assert pipe.reader.got == sent


def test_the_end_after_a_large_read(pipe: Pipe) -> None:
    os.write(pipe.files[1].fileno(), bytes(65_536))
    pipe.wt.close()
    run_until(pipe.loop, lambda: pipe.reader.lost)
    assert len(pipe.reader.got) == 65_536
    assert pipe.reader.told == ["made", "eof", "lost"]


@pytest.mark.skipif(F_SETPIPE_SZ is None, reason="only Linux widens pipes")
def test_a_widened_pipe_is_drained_in_one_go(pipe: Pipe) -> None:
    w = pipe.files[1].fileno()
    size = fcntl.fcntl(w, F_SETPIPE_SZ, 1 << 20)
    sent = os.write(w, bytes(size))
    assert sent == size
    pipe.rt._drain()
    assert len(pipe.reader.got) == size


def test_a_drain_ends_although_somebody_writes_on(pipe: Pipe) -> None:
    w = pipe.files[1].fileno()
    reads: list[int] = []

    def data_received(data: bytes) -> None:
        reads.append(len(data))
        os.write(w, b"more")

    pipe.reader.data_received = data_received  # type: ignore[method-assign]
    pipe.rt.set_protocol(pipe.reader)
    os.write(w, b"first")
    pipe.rt._drain()
    assert 2 <= len(reads) <= 16
    pipe.rt.pause_reading()
    count = len(reads)
    pipe.rt._drain()
    assert len(reads) == count
    pipe.rt.close()
    pipe.rt._drain()
    assert len(reads) == count


def test_pausing_and_resuming_between_events_asks_the_kernel_nothing() -> None:
    loop, poller = scripted()
    pipe = Pipe(loop)
    asked = len([call for call in poller.calls if call[0] != "wait"])
    for _ in range(5):
        pipe.rt.pause_reading()
        pipe.rt.resume_reading()
    assert len([call for call in poller.calls if call[0] != "wait"]) == asked
    pipe.end()
    loop.close()


def test_an_event_for_a_paused_transport_ends_its_registration(loop: asyncio.AbstractEventLoop) -> None:
    pipe = Pipe(loop)
    os.write(pipe.files[1].fileno(), b"x")
    pipe.rt.pause_reading()
    assert "polling" in repr(pipe.rt)
    run_until(loop, lambda: "idle" in repr(pipe.rt))
    assert pipe.reader.got == b""
    pipe.rt.resume_reading()
    run_until(loop, lambda: pipe.reader.got == b"x")
    pipe.end()


def test_a_protocol_that_cannot_read_fails_when_bytes_come(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Any]
) -> None:
    r, w = pipe_files()
    loop.run_until_complete(loop.connect_read_pipe(asyncio.BaseProtocol, r))
    w.write(b"x")
    run_until(loop, lambda: r.closed)
    assert {type(error["exception"]) for error in loop_errors} == {TypeError}
    loop_errors.clear()
    w.close()


def test_a_protocol_that_fails_costs_its_pipe(pipe: Pipe, loop_errors: list[Any]) -> None:
    failure = ZeroDivisionError("data_received")

    def data_received(data: bytes) -> None:
        raise failure

    pipe.reader.data_received = data_received  # type: ignore[method-assign]
    pipe.rt.set_protocol(pipe.reader)
    pipe.wt.write(b"x")
    run_until(pipe.loop, lambda: pipe.reader.lost)
    assert pipe.reader.lost == [failure]
    assert [error["exception"] for error in loop_errors] == [failure]
    assert loop_errors[0]["transport"] is pipe.rt
    loop_errors.clear()


@pytest.mark.parametrize("exit_type", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_a_protocol_leaves_the_loop(pipe: Pipe, exit_type: type[BaseException]) -> None:
    def data_received(data: bytes) -> None:
        raise exit_type

    pipe.reader.data_received = data_received  # type: ignore[method-assign]
    pipe.rt.set_protocol(pipe.reader)
    pipe.wt.write(b"x")
    with pytest.raises(exit_type):
        run_until(pipe.loop, lambda: False)
    run_until(pipe.loop, lambda: pipe.reader.lost)


def test_a_read_error_is_reported(loop: asyncio.AbstractEventLoop, loop_errors: list[Any]) -> None:
    """A peer's reset, on a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    protocol = Recorder()
    loop.run_until_complete(loop.connect_read_pipe(lambda: protocol, near))
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    run_until(loop, lambda: protocol.lost)
    assert [type(exc) for exc in protocol.lost] == [ConnectionResetError]
    assert [error["exception"] for error in loop_errors] == protocol.lost
    loop_errors.clear()


# ---------------------------------------------------------------------- writing --


def test_a_write_of_up_to_pipe_buf_bytes_stays_whole(loop: asyncio.AbstractEventLoop) -> None:
    """However full the pipe is: POSIX promises that, and gathering writes would break it."""
    pipe = Pipe(loop)
    pipe.rt.pause_reading()
    w = pipe.files[1].fileno()
    room = len(fill(w)) // 4096
    assert room >= 1
    pipe.wt.write(b"a" * select.PIPE_BUF)
    assert pipe.wt.get_write_buffer_size() == select.PIPE_BUF
    pipe.end()


def test_writes_wait_in_line_and_leave_in_order(pipe: Pipe) -> None:
    pipe.rt.pause_reading()
    filler = fill(pipe.files[1].fileno())
    sent = [bytes([i]) * (i * 100) for i in range(1, 200)]
    for i, data in enumerate(sent):
        pipe.wt.write((data, bytearray(data), memoryview(data))[i % 3])
    changing = bytearray(b"before")
    pipe.wt.write(changing)
    changing[:] = b"after!"
    expected = filler + b"".join(sent) + b"before"
    assert pipe.wt.get_write_buffer_size() == len(expected) - len(filler)
    pipe.rt.resume_reading()
    run_until(pipe.loop, lambda: len(pipe.reader.got) == len(expected))
    assert pipe.reader.got == expected
    assert pipe.wt.get_write_buffer_size() == 0


def test_bytes_that_wait_are_kept_by_reference(pipe: Pipe) -> None:
    fill(pipe.files[1].fileno())
    data = os.urandom(1000)
    before = sys.getrefcount(data)
    pipe.wt.write(data)
    assert sys.getrefcount(data) == before + 1
    pipe.wt.abort()
    assert sys.getrefcount(data) == before


def test_a_buffer_that_is_not_contiguous_is_refused(pipe: Pipe) -> None:
    with pytest.raises(BufferError):
        pipe.wt.write(memoryview(b"abcdef")[::2])
    assert pipe.wt.get_write_buffer_size() == 0


def test_resume_writing_may_write_again_or_close(pipe: Pipe) -> None:
    rounds: list[int] = []

    def resume_writing() -> None:
        rounds.append(len(rounds))
        if len(rounds) < 3:
            pipe.wt.write(bytes(200_000))
        else:
            pipe.wt.close()

    pipe.writer.resume_writing = resume_writing  # type: ignore[method-assign]
    pipe.wt.write(bytes(200_000))
    run_until(pipe.loop, lambda: pipe.writer.lost)
    assert rounds == [0, 1, 2]
    assert pipe.writer.lost == [None]
    run_until(pipe.loop, lambda: pipe.reader.lost)
    assert len(pipe.reader.got) == 600_000


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_a_flow_control_method_that_fails_costs_the_pipe(
    pipe: Pipe, loop_errors: list[Any], method: str
) -> None:
    def fail() -> None:
        raise ZeroDivisionError(method)

    setattr(pipe.writer, method, fail)
    pipe.wt.write(bytes(1_000_000))
    run_until(pipe.loop, lambda: pipe.writer.lost)
    assert [type(exc) for exc in pipe.writer.lost] == [ZeroDivisionError]
    assert [type(error["exception"]) for error in loop_errors] == [ZeroDivisionError]
    loop_errors.clear()


def test_writes_after_the_end_are_told_of_once(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pipe.wt.close()
    for _ in range(20):
        pipe.wt.write(b"late")
        pipe.wt.write(b"")
    assert len(caplog.records) == 1
    pipe.end()
    pipe.wt.write(b"later")
    pipe.wt.write_eof()
    pipe.wt.abort()
    assert len(caplog.records) == 1


def test_a_socket_whose_peer_talks_is_not_taken_for_closed(loop: asyncio.AbstractEventLoop) -> None:
    near, far = socket.socketpair()
    protocol = Recorder()
    transport: Any = loop.run_until_complete(loop.connect_write_pipe(lambda: protocol, near))[0]
    far.send(b"what nobody reads")
    for _ in range(5):
        turn(loop)
    assert protocol.lost == []
    transport.write(b"heard")
    assert far.recv(10) == b"heard"
    far.close()
    for _ in range(5):
        transport.write(b"into the void")
        turn(loop)
    assert len(protocol.lost) == 1


# ----------------------------------------------------------------- whose fd it is --


def test_both_directions_on_one_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    try:
        master, slave = pty.openpty()
    except OSError as exc:  # a container without /dev/pts
        pytest.skip(f"no pseudo-terminals here: {exc}")
    tty.setraw(slave)
    pipe = Pipe(loop, (io.FileIO(master, "r+b"), io.FileIO(master, "r+b", closefd=False)))
    pipe.wt.write(b"out")
    assert os.read(slave, 10) == b"out"
    os.write(slave, b"in")
    run_until(loop, lambda: pipe.reader.got == b"in")
    pipe.rt.close()
    run_until(loop, lambda: pipe.reader.lost)
    pipe.wt.write(b"still")
    assert os.read(slave, 10) == b"still"
    pipe.end()
    os.close(slave)


def test_a_descriptor_of_a_stream_is_refused(loop: asyncio.AbstractEventLoop) -> None:
    near, far = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
    for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
        with pytest.raises(RuntimeError, match="used by transport"):
            loop.run_until_complete(connect(asyncio.Protocol, near))
    far.send(b"x")
    transport.abort()
    turn(loop)
    turn(loop)
    far.close()


@pytest.mark.parametrize("kind", ["file", "socket"])
def test_a_number_lost_to_a_close_elsewhere_is_never_closed(
    loop: asyncio.AbstractEventLoop, kind: str
) -> None:
    if kind == "file":
        r, w = pipe_files()
        near: Any = r
    else:
        near, w = socket.socketpair()  # type: ignore[assignment]
    protocol = Recorder()
    transport: Any = loop.run_until_complete(loop.connect_read_pipe(lambda: protocol, near))[0]
    number = near.fileno()
    near.close() if kind == "file" else os.close(number)
    other, far = socket.socketpair()
    if other.fileno() != number:
        os.dup2(other.fileno(), number)
        other.close()
        other = socket.socket(fileno=number)
    heard: list[bytes] = []
    loop.add_reader(number, lambda: heard.append(other.recv(10)))
    transport.close()
    run_until(loop, lambda: protocol.lost)
    far.send(b"alive")
    run_until(loop, lambda: heard)
    assert heard == [b"alive"]
    loop.remove_reader(number)
    other.close()
    far.close()
    w.close()


def test_closing_on_a_closed_loop_gives_the_descriptor_back(loop: asyncio.AbstractEventLoop) -> None:
    pipe = Pipe(loop)
    fill(pipe.files[1].fileno())
    pipe.wt.write(b"queued")
    loop.close()
    assert not pipe.rt.is_closing()
    pipe.rt.close()
    pipe.wt.close()
    assert [file.closed for file in pipe.files] == [True, True]
    pipe.wt.write(b"late")
    assert pipe.reader.lost == pipe.writer.lost == []


def test_dropped_transports_warn_and_close(loop: asyncio.AbstractEventLoop) -> None:
    pipe = Pipe(loop)
    files = pipe.files
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pipe
        gc.collect()
    said = sorted(str(each.message) for each in caught if "unclosed transport" in str(each.message))
    assert [message.split()[2] for message in said] == [
        "<pinloop.ReadPipeTransport",
        "<pinloop.WritePipeTransport",
    ]
    assert [file.closed for file in files] == [True, True]


def test_pipes_by_the_hundred_leave_nothing(loop: asyncio.AbstractEventLoop, no_fd_leak: None) -> None:
    references = []
    for _ in range(200):
        pipe = Pipe(loop)
        pipe.wt.write(b"x")
        references += [weakref.ref(pipe.rt), weakref.ref(pipe.wt)]
        pipe.end()
    del pipe
    gc.collect()
    assert [reference() for reference in references] == [None] * 400
