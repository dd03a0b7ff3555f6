"""A protocol's fault costs its connection only: it is reported, and all others go on."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.support import run_until, socket_pair, turn

Context = dict[str, Any]


class Fault(Exception):
    pass


class Good(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.got = b""
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class GoodBuffered(Good, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]


@pytest.fixture
def peer(loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[Any], socket.socket]]:
    """Connects a protocol (factory) over a socket pair and returns the other end."""
    peers: list[socket.socket] = []

    def connect(factory: Callable[[], Any]) -> socket.socket:
        near, far = socket_pair(4096)
        peers.append(far)
        loop.run_until_complete(loop.connect_accepted_socket(factory, near))
        return far

    yield connect
    for far in peers:
        far.close()
    for _ in range(5):
        turn(loop)


Connect = Callable[[Callable[[], Any]], socket.socket]


def failing(method: str, base: type = Good, error: BaseException | None = None) -> type:
    def fail(self: Any, *args: Any) -> None:
        raise error or Fault(method)

    return type(f"Failing_{method}", (base,), {method: fail})


def provoke(method: str, protocol: Any, far: socket.socket) -> None:
    """Make the loop call `method` of the protocol's."""
    if method in ("data_received", "get_buffer", "buffer_updated"):
        far.send(b"hello")
    elif method == "eof_received":
        far.shutdown(socket.SHUT_WR)
    elif method == "connection_lost":
        protocol.transport.abort()
    elif method == "pause_writing":
        protocol.transport.write(bytes(1_000_000))
    elif method == "resume_writing":
        protocol.transport.write(bytes(1_000_000))
        protocol.transport.set_write_buffer_limits(high=2_000_000, low=1_000_000 - 4096)


CALLBACKS = [
    ("data_received", Good),
    ("eof_received", Good),
    ("pause_writing", Good),
    ("resume_writing", Good),
    ("get_buffer", GoodBuffered),
    ("buffer_updated", GoodBuffered),
    ("eof_received", GoodBuffered),
]


@pytest.mark.parametrize(("method", "base"), CALLBACKS)
def test_a_callback_that_raises_closes_its_connection_alone(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], peer: Connect, method: str, base: type
) -> None:
    bystander, protocol = Good(), failing(method, base)()
    other = peer(lambda: bystander)
    far = peer(lambda: protocol)
    transport = protocol.transport
    provoke(method, protocol, far)
    if method == "resume_writing":
        run_until(loop, lambda: drained(far) or protocol.lost)
    run_until(loop, lambda: protocol.lost)
    (context,) = loop_errors
    loop_errors.clear()
    assert f"protocol.{method}() call failed" in context["message"]
    assert context["transport"] is transport
    assert context["protocol"] is protocol
    assert isinstance(context["exception"], Fault)
    assert protocol.lost == [context["exception"]]
    assert transport.is_closing()
    other.send(b"still here")
    run_until(loop, lambda: bystander.got)
    assert bystander.lost == []


def drained(far: socket.socket) -> bool:
    try:
        far.recv(1 << 20)
    except BlockingIOError:
        pass
    return False


def test_connection_made_that_raises(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], peer: Connect
) -> None:
    protocol = failing("connection_made")()
    far = peer(lambda: protocol)
    run_until(loop, lambda: protocol.lost)
    assert loop_errors[0]["message"] == "Fatal error: protocol.connection_made() call failed."
    assert protocol.lost == [loop_errors[0]["exception"]]
    loop_errors.clear()
    turn(loop)
    assert far.recv(1) == b""


def test_connection_lost_that_raises(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], peer: Connect
) -> None:
    protocol = failing("connection_lost")()
    far = peer(lambda: protocol)
    protocol.transport.abort()
    run_until(loop, lambda: loop_errors)
    (context,) = loop_errors
    loop_errors.clear()
    assert context["protocol"] is protocol
    assert isinstance(context["exception"], Fault)
    assert far.recv(1) == b""


USELESS = [bytearray(), b"read only", None, 1, "text", memoryview(bytearray(8))[::2]]


@pytest.mark.parametrize("buffer", USELESS)
def test_a_get_buffer_that_returns_nothing_useful(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], peer: Connect, buffer: object
) -> None:
    class Protocol(GoodBuffered):
        def get_buffer(self, sizehint: int) -> Any:
            return buffer

    protocol = Protocol()
    peer(lambda: protocol).send(b"hello")
    run_until(loop, lambda: protocol.lost)
    (context,) = loop_errors
    loop_errors.clear()
    assert "get_buffer" in context["message"]
    assert context["protocol"] is protocol
    assert protocol.lost == [context["exception"]]


# ---------------------------------------------------- what is hardly a protocol --


class Bare:
    """Not a subclass of anything, and without most of the methods."""


class Made:
    def connection_made(self, transport: Any) -> None:
        self.transport = transport


class Deaf(Made):
    """Fails when data comes."""

    lost: Any = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = [exc]


class PropertyFails(Deaf):
    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


@pytest.mark.parametrize("factory", [lambda: None, object, Bare, lambda: 1])
def test_an_accepted_connection_without_a_protocol_is_reported_and_the_server_goes_on(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], factory: Callable[[], object]
) -> None:
    protocols: list[Any] = [factory(), Good()]
    server = loop.run_until_complete(loop.create_server(lambda: protocols.pop(0), "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        good = protocols[1]
        second.send(b"hello")
        run_until(loop, lambda: good.got)
        run_until(loop, lambda: loop_errors)
        first.settimeout(10)
        turn(loop)
        turn(loop)
        assert first.recv(1) == b""
    run_until(loop, lambda: good.lost)
    server.close()
    loop_errors.clear()


@pytest.mark.parametrize("method", ["data_received", "eof_received", "pause_writing", "resume_writing"])
@pytest.mark.parametrize("kind", [Deaf, PropertyFails])
def test_a_missing_method_is_a_fault_like_any_other(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], peer: Connect, method: str, kind: type
) -> None:
    if kind is PropertyFails and method == "data_received":
        with pytest.raises(ZeroDivisionError):
            peer(kind)
        return
    others = {
        name: lambda self, *_: None
        for name in ("data_received", "eof_received", "pause_writing", "resume_writing")
        if name != method
    }
    protocol = type("Incomplete", (kind,), others)()
    far = peer(lambda: protocol)
    provoke(method, protocol, far)
    if method == "resume_writing":
        run_until(loop, lambda: drained(far) or protocol.lost)
    run_until(loop, lambda: protocol.lost)
    (context,) = loop_errors
    loop_errors.clear()
    assert context["protocol"] is protocol


def test_a_missing_connection_lost(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], peer: Connect
) -> None:
    protocol = Made()
    far = peer(lambda: protocol)
    protocol.transport.abort()
    run_until(loop, lambda: loop_errors)
    loop_errors.clear()
    assert far.recv(1) == b""


def test_a_missing_connection_made_on_a_connected_socket(loop: asyncio.AbstractEventLoop) -> None:
    near, far = socket_pair()
    with far:
        with pytest.raises(AttributeError, match="connection_made"):
            loop.run_until_complete(loop.connect_accepted_socket(Bare, near))
        assert far.recv(1) == b""


# ------------------------------------------------------------------------- exits --


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(("method", "base"), CALLBACKS)
def test_an_exit_out_of_a_callback_leaves_the_loop_and_closes_the_connection(
    loop: asyncio.AbstractEventLoop, peer: Connect, method: str, base: type, kind: type[BaseException]
) -> None:
    protocol = failing(method, base, kind("told to"))()
    far = peer(lambda: protocol)
    with pytest.raises(kind, match="told to"):
        provoke(method, protocol, far)
        if method == "resume_writing":
            run_until(loop, lambda: drained(far))
        run_until(loop, lambda: protocol.lost, limit=2)
    run_until(loop, lambda: protocol.lost)
    assert isinstance(protocol.lost[0], kind)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_connection_lost_leaves_the_loop_with_the_fd_given_back(
    loop: asyncio.AbstractEventLoop, peer: Connect, kind: type[BaseException]
) -> None:
    protocol = failing("connection_lost", Good, kind("told to"))()
    far = peer(lambda: protocol)
    protocol.transport.abort()
    with pytest.raises(kind, match="told to"):
        turn(loop)
    assert far.recv(1) == b""
