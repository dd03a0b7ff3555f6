"""connect_accepted_socket, and the methods that are not there yet."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import Echo, Recorder, only_pinloop, tcp_pair

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair], ids=["tcp", "unix"])
def test_an_accepted_socket_gets_a_transport(run: Run, pair: Callable[[], Any]) -> None:
    async def main() -> bytes:
        ours, theirs = pair()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_accepted_socket(Echo, ours)
        assert protocol.made.result() is transport
        theirs.setblocking(False)
        theirs.send(b"hello")
        await protocol.receive(5)
        await asyncio.sleep(0)
        echoed: bytes = await asyncio.to_thread(receive, theirs)
        assert await protocol.lost is None
        return echoed

    def receive(sock: socket.socket) -> bytes:
        sock.settimeout(10)
        with sock:
            return sock.recv(5)

    assert run(main()) == b"hello"


def test_the_socket_belongs_to_the_transport(run: Run) -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Recorder, ours)
        transport.close()
        await protocol.lost
        assert ours.fileno() == -1
        theirs.close()

    run(main())


def test_a_datagram_socket_is_refused(loop: Loop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            loop.run_until_complete(loop.connect_accepted_socket(Recorder, sock))
        assert sock.fileno() != -1


@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_options_of_tls_without_tls_are_refused(loop: Loop, option: str) -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match=f"{option} is only meaningful with ssl"):
        loop.run_until_complete(loop.connect_accepted_socket(Recorder, sock, **{option: 1.0}))  # type: ignore[arg-type]


def test_a_socket_that_is_closed_is_an_error(loop: Loop) -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises((OSError, ValueError)):
        loop.run_until_complete(loop.connect_accepted_socket(Recorder, sock))


@only_pinloop  # asyncio leaves the socket open
def test_a_protocol_factory_that_raises_closes_the_socket(loop: Loop) -> None:
    def factory() -> asyncio.Protocol:
        raise ZeroDivisionError("mine")

    ours, theirs = tcp_pair()
    with theirs:
        with pytest.raises(ZeroDivisionError, match="mine"):
            loop.run_until_complete(loop.connect_accepted_socket(factory, ours))
        theirs.settimeout(10)
        assert theirs.recv(1) == b""


@only_pinloop  # asyncio's loops inherit some of them
def test_every_method_of_the_abstract_loop_is_there(loop: Loop) -> None:
    missing = [
        name
        for name in dir(asyncio.AbstractEventLoop)
        if not name.startswith("_") and getattr(type(loop), name) is getattr(asyncio.AbstractEventLoop, name)
    ]
    assert missing == []
