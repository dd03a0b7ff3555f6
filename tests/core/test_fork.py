"""A fork while the loop runs: the child has no use of its parent's loop, and does the parent no harm."""

import asyncio
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pinloop
from tests.core.datagrams import Maker
from tests.core.support import read_available, run_until, socket_pair, turn

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_child(action: Callable[[], object]) -> str:
    """What `action` returns, or its exception, in a forked child that then ends."""
    near, far = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "This process is multi-threaded"
        pid = os.fork()
    if pid == 0:
        text = "nothing"
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            os.close(near)
            text = repr(action())
        except BaseException as exc:
            text = f"{type(exc).__name__}: {exc}"
        finally:
            os.write(far, text.encode())
            os._exit(0)
    os.close(far)
    with os.fdopen(near, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def forked_in_a_callback(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> str:
    """The same, forked from a callback of the running loop."""
    told: list[str] = []
    loop.call_soon(lambda: told.append(in_child(action)))
    turn(loop)
    return told[0]


class Counter(asyncio.Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@pytest.fixture
def connection(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[Any, Counter, socket.socket]]:
    """A transport of the loop, its protocol, and the peer's socket."""
    near, peer = socket_pair()
    transport, protocol = loop.run_until_complete(loop.connect_accepted_socket(Counter, near))
    yield transport, protocol, peer
    if not loop.is_closed():
        transport.abort()
        turn(loop)
        turn(loop)
    peer.close()


USES: dict[str, Callable[[Any], object]] = {
    "call_soon": lambda loop: loop.call_soon(int),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(int),
    "call_later": lambda loop: loop.call_later(1, int),
    "call_at": lambda loop: loop.call_at(1, int),
    "create_task": lambda loop: create_task(loop),  # noqa: PLW0108 - defined below
    "run_forever": lambda loop: loop.run_forever(),
    "add_reader": lambda loop: loop.add_reader(0, int),
    "add_writer": lambda loop: loop.add_writer(0, int),
    "add_signal_handler": lambda loop: loop.add_signal_handler(signal.SIGUSR2, int),
    "run_in_executor": lambda loop: loop.run_in_executor(None, int),
}


def create_task(loop: asyncio.AbstractEventLoop) -> object:
    async def nothing() -> None: ...

    coro = nothing()
    try:
        return loop.create_task(coro)
    finally:
        coro.close()


@pytest.mark.parametrize("use", USES)
def test_the_childs_use_of_the_parents_loop_is_an_error_that_names_the_parent(
    loop: asyncio.AbstractEventLoop, use: str
) -> None:
    told = forked_in_a_callback(loop, lambda: USES[use](loop))
    assert told.startswith("RuntimeError: ")
    assert str(os.getpid()) in told
    turn(loop)


def test_the_same_when_the_loop_does_not_run(loop: asyncio.AbstractEventLoop) -> None:
    told = in_child(lambda: loop.call_soon(int))
    assert told.startswith("RuntimeError: ")
    assert str(os.getpid()) in told


def test_a_grandchild_is_told_too(loop: asyncio.AbstractEventLoop) -> None:
    told = in_child(lambda: in_child(lambda: loop.call_soon(int)))
    assert str(os.getpid()) in told
    assert "RuntimeError: " in told


def test_the_child_cannot_send_a_datagram_nor_take_what_the_parent_has_queued(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    transport, _ = make(("127.0.0.1", 0), remote_addr=plain.getsockname())

    def in_parent() -> None:
        transport.sendto(b"the parent's")
        told.append(in_child(lambda: transport.sendto(b"the child's")))
        told.append(in_child(lambda: transport.abort()))  # noqa: PLW0108

    told: list[str] = []
    loop.call_soon(in_parent)
    turn(loop)
    assert told[0].startswith("RuntimeError: ")
    assert str(os.getpid()) in told[0]
    assert plain.recv(100) == b"the parent's"
    transport.sendto(b"and one more")
    turn(loop)
    assert plain.recv(100) == b"and one more"


def test_a_child_that_returns_from_the_callback_leaves_run_forever(loop: asyncio.AbstractEventLoop) -> None:
    near, far = os.pipe()
    parent = os.getpid()
    ran: list[int] = []

    def fork() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            ran.append(os.fork())

    loop.call_soon(fork)
    loop.call_soon(lambda: os.getpid() == parent or os.write(far, b"the next callback ran;"))
    try:
        turn(loop)
    except BaseException as exc:
        if os.getpid() != parent:
            os.write(far, f"{type(exc).__name__}: {exc}".encode())
        else:
            raise
    finally:
        if os.getpid() != parent:
            os._exit(0)
    os.close(far)
    with os.fdopen(near, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(ran[0], 0)
    assert told.startswith("RuntimeError: ")
    assert str(parent) in told


def test_the_child_makes_a_loop_of_its_own(loop: asyncio.AbstractEventLoop) -> None:
    async def echo() -> str:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line.decode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    def child() -> str:
        asyncio._set_running_loop(None)
        return pinloop.run(echo())

    assert forked_in_a_callback(loop, child) == repr("hello\n")
    assert in_child(lambda: pinloop.run(echo())) == repr("hello\n")


# -------------------------------------------------- what the child cannot undo --

DISTURBANCES: dict[str, Callable[[Any, Any], object]] = {
    "loop.close": lambda loop, transport: loop.close(),
    "transport.close": lambda loop, transport: transport.close(),
    "transport.abort": lambda loop, transport: transport.abort(),
    "transport.write": lambda loop, transport: transport.write(b"from the child"),
    "a large transport.write": lambda loop, transport: transport.write(b"from the child" * 10_000),
    "transport.writelines": lambda loop, transport: transport.writelines([b"from the child"] * 10_000),
    "transport.write_eof": lambda loop, transport: transport.write_eof(),
    "pause and resume": lambda loop, transport: (transport.pause_reading(), transport.resume_reading()),
    "loop.stop": lambda loop, transport: loop.stop(),
}


@pytest.mark.parametrize("how", DISTURBANCES)
def test_a_connection_of_the_parent_goes_on_whatever_the_child_does(
    loop: asyncio.AbstractEventLoop, connection: tuple[Any, Counter, socket.socket], how: str
) -> None:
    transport, protocol, peer = connection
    forked_in_a_callback(loop, lambda: DISTURBANCES[how](loop, transport))
    assert read_available(peer) == b""
    peer.send(b"to the parent")
    run_until(loop, lambda: protocol.got, limit=2)
    transport.write(b"from the parent")
    turn(loop)
    assert read_available(peer) == b"from the parent"
    assert not protocol.lost


READER_DISTURBANCES: dict[str, Callable[[Any, int], object]] = {
    "remove_reader": lambda loop, fd: loop.remove_reader(fd),
    "remove_writer": lambda loop, fd: loop.remove_writer(fd),
    "close": lambda loop, fd: loop.close(),
}


@pytest.mark.parametrize("how", READER_DISTURBANCES)
def test_a_reader_of_the_parent_stays_whatever_the_child_does(
    loop: asyncio.AbstractEventLoop, how: str
) -> None:
    near, peer = socket_pair()
    got: list[bytes] = []
    loop.add_reader(near, lambda: got.append(near.recv(100)))
    forked_in_a_callback(loop, lambda: READER_DISTURBANCES[how](loop, near.fileno()))
    peer.send(b"hello")
    run_until(loop, lambda: got, limit=2)
    assert loop.remove_reader(near)
    near.close()
    peer.close()


@pytest.mark.parametrize("running", [True, False])
def test_signals_of_the_parent_arrive_after_the_child_closed_its_copy_of_the_loop(
    loop: asyncio.AbstractEventLoop, running: bool
) -> None:
    got: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    told = forked_in_a_callback(loop, loop.close) if running else in_child(loop.close)
    assert told == "None"
    os.kill(os.getpid(), signal.SIGUSR1)
    run_until(loop, lambda: got, limit=2)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_wake_from_a_thread_arrives_after_the_child_closed_its_copy_of_the_loop(
    loop: asyncio.AbstractEventLoop,
) -> None:
    import threading

    forked_in_a_callback(loop, loop.close)
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_soon(thread.start)
    guard = loop.call_later(10, pytest.fail, "not woken")
    loop.run_forever()
    guard.cancel()
    thread.join()


def test_dropping_the_parents_objects_in_the_child_does_no_harm(
    loop: asyncio.AbstractEventLoop, connection: tuple[Any, Counter, socket.socket]
) -> None:
    import gc

    _, protocol, peer = connection

    def child() -> None:
        protocol.__dict__.clear()
        gc.collect()

    assert forked_in_a_callback(loop, child) == "None"
    peer.send(b"hello")
    run_until(loop, lambda: protocol.got, limit=2)


def test_children_of_subprocess_leave_the_loop_alone(loop: asyncio.AbstractEventLoop) -> None:
    import subprocess
    import sys

    ran: list[int] = []
    loop.call_soon(lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    loop.call_soon(lambda: ran.append(1))
    turn(loop)
    turn(loop)
    assert ran == [1]
