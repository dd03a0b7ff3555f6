"""Accepting: batches, faults of the factory, and running out of descriptors."""

import asyncio
import contextvars
import os
import socket
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.core.support import Recorder, run_python, run_until, turn

Context = dict[str, Any]


class Counting(Recorder):
    """Keeps all protocols of its class."""

    made: list["Counting"]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.made.append(self)


@pytest.fixture
def counting() -> type[Counting]:
    return type("CountingHere", (Counting,), {"made": []})


def serve(loop: asyncio.AbstractEventLoop, factory: Any, **options: Any) -> tuple[Any, tuple[str, int]]:
    """A server and its address."""
    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0, **options))
    return server, server.sockets[0].getsockname()


def end(loop: asyncio.AbstractEventLoop, server: Any, clients: list[socket.socket]) -> None:
    """Close everything and let the loop notice."""
    server.close()
    for transport in list(server._transports):
        transport.abort()
    for client in clients:
        client.close()
    for _ in range(3):
        turn(loop)


def test_a_crowd_is_accepted(loop: asyncio.AbstractEventLoop, counting: type[Counting]) -> None:
    server, address = serve(loop, counting, backlog=256)
    clients = [socket.create_connection(address) for _ in range(200)]
    run_until(loop, lambda: len(counting.made) == 200)
    for i, client in enumerate(clients):
        client.send(b"%d" % i)
    run_until(loop, lambda: all(protocol.got for protocol in counting.made))
    assert sorted(int(protocol.got) for protocol in counting.made) == list(range(200))
    end(loop, server, clients)


def test_a_crowd_does_not_keep_other_events_waiting(
    loop: asyncio.AbstractEventLoop, counting: type[Counting]
) -> None:
    server, address = serve(loop, counting, backlog=256)
    clients = [socket.create_connection(address) for _ in range(150)]
    turn(loop)
    assert 0 < len(counting.made) < 150
    run_until(loop, lambda: len(counting.made) == 150)
    end(loop, server, clients)


def test_an_accepted_connection_knows_both_addresses_and_is_set_up(
    loop: asyncio.AbstractEventLoop, counting: type[Counting]
) -> None:
    server, address = serve(loop, counting)
    client = socket.create_connection(address)
    run_until(loop, lambda: counting.made)
    transport = counting.made[0].transport
    assert transport.get_extra_info("peername") == client.getsockname()
    assert transport.get_extra_info("sockname") == address
    sock = transport.get_extra_info("socket")
    assert sock.family == socket.AF_INET
    assert sock.type == socket.SOCK_STREAM
    assert sock.proto in (0, socket.IPPROTO_TCP)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not os.get_blocking(sock.fileno())
    assert not os.get_inheritable(sock.fileno())
    end(loop, server, [client])


def test_each_connection_has_a_context_of_its_own_that_descends_from_the_servers(
    loop: asyncio.AbstractEventLoop,
) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    found: list[tuple[str, str]] = []

    class Protocol(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.at_first = var.get()
            var.set("the factory's")

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            found.append((self.at_first, var.get()))
            var.set("the connection's")

    context = contextvars.copy_context()
    context.run(var.set, "the server's")
    server, address = context.run(serve, loop, Protocol)
    clients = [socket.create_connection(address) for _ in range(2)]
    run_until(loop, lambda: len(found) == 2)
    assert found == [("the server's", "the factory's")] * 2
    assert var.get() == "unset"
    end(loop, server, clients)


# -------------------------------------------------------------------------- faults --


def test_a_factory_that_raises_costs_that_connection_only(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], counting: type[Counting]
) -> None:
    attempts: list[int] = []

    def factory() -> Counting:
        attempts.append(1)
        if len(attempts) == 1:
            raise ZeroDivisionError
        return counting()

    server, address = serve(loop, factory)
    refused, accepted = socket.create_connection(address), socket.create_connection(address)
    accepted.send(b"hello")
    run_until(loop, lambda: counting.made and counting.made[0].got)
    (context,) = loop_errors
    loop_errors.clear()
    assert isinstance(context["exception"], ZeroDivisionError)
    refused.settimeout(10)
    assert refused.recv(1) == b""
    end(loop, server, [refused, accepted])


def test_connection_made_that_raises_while_accepting(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], counting: type[Counting]
) -> None:
    class Fails(counting):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.made) == 1:
                raise ZeroDivisionError

    server, address = serve(loop, Fails)
    clients = [socket.create_connection(address) for _ in range(3)]
    run_until(loop, lambda: len(counting.made) == 3)
    assert [type(context["exception"]) for context in loop_errors] == [ZeroDivisionError]
    assert loop_errors[0]["protocol"] is counting.made[0]
    loop_errors.clear()
    turn(loop)
    assert isinstance(counting.made[0].lost[0], ZeroDivisionError)
    assert [protocol.lost for protocol in counting.made[1:]] == [[], []]
    end(loop, server, clients)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["factory", "connection_made"])
def test_an_exit_leaves_the_loop_and_the_server_serves_on(
    loop: asyncio.AbstractEventLoop, counting: type[Counting], kind: type[BaseException], where: str
) -> None:
    attempts: list[int] = []

    class Protocol(counting):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            attempts.append(1)
            if len(attempts) == 1 and where == "factory":
                raise kind

        def connection_made(self, transport: Any) -> None:
            if len(attempts) == 1:
                raise kind
            super().connection_made(transport)

    server, address = serve(loop, Protocol)
    clients = [socket.create_connection(address) for _ in range(2)]
    with pytest.raises(kind):
        run_until(loop, lambda: False, limit=5)
    run_until(loop, lambda: counting.made)
    clients[0].settimeout(10)
    turn(loop)
    assert clients[0].recv(1) == b""
    end(loop, server, clients)


def test_a_protocol_that_closes_the_server_in_the_middle_of_a_batch(
    loop: asyncio.AbstractEventLoop, counting: type[Counting]
) -> None:
    class Closer(counting):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            server.close()

    server, address = serve(loop, Closer)
    clients = [socket.create_connection(address) for _ in range(5)]
    run_until(loop, lambda: counting.made)
    for _ in range(3):
        turn(loop)
    assert len(counting.made) == 1
    end(loop, server, clients)


def test_a_listening_socket_closed_behind_the_loops_back_is_reported_and_no_spin(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context]
) -> None:
    """It stops listening while it stays open: accept fails for good."""
    server, _ = serve(loop, Recorder)
    listening = socket.socket(fileno=os.dup(server.sockets[0].fileno()))
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    run_until(loop, lambda: loop_errors, limit=5)
    for _ in range(10):
        turn(loop)
    assert len(loop_errors) == 1
    assert isinstance(loop_errors.pop()["exception"], OSError)
    server.close()


@pytest.mark.parametrize("args", [(), (None, None, None, None), (1, 2, 3, 4)])
def test_a_listener_is_made_of_a_loop_and_a_socket(args: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        _core.Listener(*args)


# ---------------------------------------------------------------- out of descriptors --

EXHAUSTED = """
import asyncio, os, resource, socket, sys, time
import pinloop

LIMIT = 64
errors, made = [], []


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        made.append(self)

    def data_received(self, data):
        self.transport.write(data.upper())


async def until(condition, limit=10):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, (len(made), errors)
        await asyncio.sleep(0.01)


async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    for _ in range(6):
        os.close(taken.pop())
    clients = [socket.create_connection(address) for _ in range(3)]   # three are left for the server
    await until(lambda: len(made) == 3)
    for _ in range(3):
        os.close(taken.pop())
    late = [socket.create_connection(address) for _ in range(3)]      # none is left for it
    await until(lambda: errors)

    begin, cpu = time.monotonic(), time.process_time()
    clients[0].setblocking(False)
    rounds = 0
    while time.monotonic() - begin < 2.3:                             # two back-offs later
        clients[0].send(b"x")
        await asyncio.sleep(0.02)
        assert clients[0].recv(10) == b"X"                            # still served
        rounds += 1
    assert time.process_time() - cpu < 1, "it spins"
    assert rounds > 20
    assert len(errors) == 1, errors                                   # told of once
    assert len(made) == 3
    (context,) = errors
    assert isinstance(context["exception"], OSError) and "resource" in context["message"], context

    for fd in taken:
        os.close(fd)
    await until(lambda: len(made) == 6)                               # recovered
    for client in late:
        client.sendall(b"hello")
    await asyncio.sleep(0.1)
    assert [client.recv(10) for client in late] == [b"HELLO"] * 3

    # Told of again when it happens again, and stopped cleanly in the middle of it.
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    os.close(taken.pop())
    clients.append(socket.create_connection(address))
    await until(lambda: len(errors) == 2)
    server.close()
    for fd in taken:
        os.close(fd)
    await asyncio.sleep(1.2)
    assert len(errors) == 2 and len(made) == 6, errors
    for protocol in made:
        protocol.transport.abort()
    for client in clients + late:
        client.close()
    await asyncio.sleep(0)


pinloop.run(main())
print("recovered")
"""


def test_out_of_descriptors_it_backs_off_serves_on_tells_once_and_recovers() -> None:
    pytest.importorskip("resource")
    assert run_python(EXHAUSTED) == "recovered\n"


def test_out_of_descriptors_a_loop_cannot_be_made_and_nothing_is_left_open() -> None:
    pytest.importorskip("resource")
    out = run_python(
        """
import gc, os, resource
import pinloop
pinloop.new_event_loop().close()
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
for free in range(3):
    try:
        loop = pinloop.new_event_loop()
    except OSError:
        print("refused")
    else:
        print("made")
        loop.close()
    left = []
    try:
        while True:
            left.append(os.dup(0))
    except OSError:
        pass
    assert len(left) == free, (free, left)
    for fd in left:
        os.close(fd)
    os.close(taken.pop())
"""
    )
    assert out.split() == ["refused", "refused", "made"]


def test_loops_of_pinloop_listen(loop: asyncio.AbstractEventLoop) -> None:
    assert isinstance(loop, pinloop.Loop)
    server, _ = serve(loop, Recorder)
    (listener,) = server._listeners
    assert "accepting" in repr(listener)
    server.close()
    assert "idle" in repr(listener)
