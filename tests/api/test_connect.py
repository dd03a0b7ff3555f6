"""create_connection: addresses, options, what others rely on."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.connects import echo_server, hang_up
from tests.api.support import Recorder, answer_lookups_with, info, refusing_address, tcp_pair

Run = Callable[..., Any]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_connects_and_returns_transport_and_protocol(run: Run, host: str) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        async with echo_server(host) as (address, _):
            transport, protocol = await loop.create_connection(Recorder, *address)
            assert isinstance(transport, asyncio.Transport)
            assert protocol.made.result() is transport
            assert transport.get_protocol() is protocol
            transport.write(b"hello")
            echoed = await protocol.receive(5)
            await hang_up(transport, protocol)
            return echoed

    assert run(main()) == b"hello"


def test_it_connects_by_name(run: Run) -> None:
    async def main() -> None:
        async with echo_server() as ((_, port), _):
            await hang_up(*await asyncio.get_running_loop().create_connection(Recorder, "localhost", port))

    run(main())


def test_the_port_may_be_text(run: Run) -> None:
    async def main() -> None:
        async with echo_server() as ((host, port), _):
            await hang_up(*await asyncio.get_running_loop().create_connection(Recorder, host, str(port)))

    run(main())


def test_the_transport_knows_both_addresses(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, made):
            transport, protocol = await loop.create_connection(Recorder, *address)
            accepted = await (await made.next()).made
            assert transport.get_extra_info("peername") == address
            assert accepted.get_extra_info("sockname") == address
            assert accepted.get_extra_info("peername") == transport.get_extra_info("sockname")
            await hang_up(transport, protocol)

    run(main())


def test_small_segments_are_sent_at_once(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, made):
            transport, protocol = await loop.create_connection(Recorder, *address)
            for each in (transport, await (await made.next()).made):
                sock = each.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await hang_up(transport, protocol)

    run(main())


def test_the_next_address_is_tried_when_the_first_refuses(run: Run) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, _):
            answer_lookups_with(loop, refusing_address(), refusing_address(), address)
            transport, protocol = await loop.create_connection(Recorder, "a.name", 80)
            peer = transport.get_extra_info("peername")
            await hang_up(transport, protocol)
            return peer == address

    assert run(main())


def test_the_first_address_that_answers_is_taken(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (first, _), echo_server("::1") as (second, made):
            answer_lookups_with(loop, first, second)
            transport, protocol = await loop.create_connection(Recorder, "a.name", 80)
            assert transport.get_extra_info("peername") == first
            await hang_up(transport, protocol)
            assert made == []

    run(main())


def test_only_addresses_of_the_family_are_tried(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server("::1") as ((_, port), _):
            transport, protocol = await loop.create_connection(Recorder, "::1", port, family=socket.AF_INET6)
            await hang_up(transport, protocol)
            with pytest.raises(socket.gaierror):
                await loop.create_connection(Recorder, "::1", port, family=socket.AF_INET)

    run(main())


def test_a_connected_socket_may_be_given(run: Run) -> None:
    async def main() -> bytes:
        ours, theirs = tcp_pair()
        with theirs:
            theirs.send(b"hello")
            transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
            got: bytes = await protocol.receive(5)
            await hang_up(transport, protocol)
            assert ours.fileno() == -1
            return got

    assert run(main()) == b"hello"


def test_a_unix_socket_may_be_given(run: Run) -> None:
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(b"hello")
            transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
            got: bytes = await protocol.receive(5)
            await hang_up(transport, protocol)
            return got

    assert run(main()) == b"hello"


def test_the_local_address_is_bound(run: Run) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, _):
            transport, protocol = await loop.create_connection(
                Recorder, *address, local_addr=("127.0.0.2", 0)
            )
            name = transport.get_extra_info("sockname")
            await hang_up(transport, protocol)
            return name[0]

    assert run(main()) == "127.0.0.2"


# --------------------------------------------------------------------- what others rely on --


def test_a_server_in_the_same_loop_has_accepted_by_then(run: Run) -> None:
    """Even in a chain of callbacks too quick for a poll: programs that are both ends rely on it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, made):
            for count in range(1, 50):
                transport, _ = await loop.create_connection(Recorder, *address)
                assert len(made) == count
                transport.abort()

    run(main())


def test_local_addresses_that_failed_are_told_with_the_rest(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        refusing = refusing_address()

        async def getaddrinfo(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
            if host == "local.name":
                return [info(("192.0.2.1", 0)), info(("127.0.0.1", 0))]  # the first is nobody's (RFC 5737)
            return [info(refusing)]

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
        with pytest.raises(OSError, match="Multiple exceptions") as caught:
            await loop.create_connection(Recorder, "a.name", refusing[1], local_addr=("local.name", 0))
        assert "('192.0.2.1', 0)" in str(caught.value)
        assert "Connect call failed" in str(caught.value)

    run(main())


def test_connecting_goes_by_way_of_sock_connect(run: Run) -> None:
    """Programs replace it, as they do getaddrinfo."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def sock_connect(sock: socket.socket, address: Any) -> None:
            raise ConnectionResetError(f"not to {address}")

        loop.sock_connect = sock_connect  # type: ignore[method-assign]
        with pytest.raises(ConnectionResetError, match=r"192\.0\.2\.7"):
            await loop.create_connection(Recorder, "192.0.2.7", 80)

    run(main())


def test_the_scope_of_an_address_is_kept(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: list[Any] = []

        class Socket(socket.socket):
            def connect(self, address: Any) -> None:
                told.append(address)

        with Socket(socket.AF_INET6) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("fe80::1", 80, 0, 1))
        assert told == [("fe80::1", 80, 0, 1)]

    run(main())
