"""getaddrinfo and getnameinfo: the socket module's answers; a literal address without a thread."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.api.support import only_pinloop

Loop = asyncio.AbstractEventLoop

FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICSERV, socket.AI_CANONNAME, socket.AI_V4MAPPED | socket.AI_ALL]

v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).flatmap(lambda ip: st.sampled_from([str(ip), ip.exploded, str(ip).upper()]))
odd_hosts = st.sampled_from(
    [
        "127.1", "0x7f.1", "127.0.0.01", "1.2.3", "1.2.3.4.5", "256.1.1.1", " 127.0.0.1", "127.0.0.1 ",
        "::", "::1", "::ffff:1.2.3.4", "::1.2.3.4", "1::2::3", "[::1]", "::1%lo", "fe80::1", "ff02::1",
        "0.0.0.0", "255.255.255.255", "١.2.3.4", "", "1",
    ]
)  # fmt: skip
hosts = st.one_of(v4, v6, odd_hosts).flatmap(lambda host: st.sampled_from([host, host.encode()]))
port_numbers = st.one_of(st.integers(0, 65535), st.sampled_from([-1, 65536, 99999, 2**31, 2**64]))
ports = st.one_of(
    port_numbers,
    port_numbers.map(str),
    port_numbers.map(lambda port: str(port).encode()),
    st.sampled_from(
        [None, "", b"", "080", "+80", " 80", "80 ", "8_0", "٨٠", "²", "http", b"http", "no such", True, 80.0]
    ),
)


def outcome(call: Callable[[], Any]) -> Any:
    """The result, or the kind of the error (and its number, for those of the lookup)."""
    try:
        return call()
    except socket.gaierror as exc:
        return type(exc), exc.errno
    except Exception as exc:
        return type(exc)


@pytest.fixture(scope="module")
def shared_loop(loop_factory: Callable[[], Loop]) -> Iterator[Loop]:
    """One loop for many examples."""
    loop = loop_factory()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@given(
    host=hosts,
    port=ports,
    family=st.sampled_from(FAMILIES),
    kind=st.sampled_from(TYPES),
    proto=st.sampled_from(PROTOCOLS),
    flags=st.sampled_from(FLAGS),
)
@example("127.0.0.1", "²", 0, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", "٨٠", 0, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", True, 0, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", "http", 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICSERV)
@example("127.0.0.1", None, 0, socket.SOCK_STREAM, 0, 0)
@example("::1", 80, socket.AF_INET, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", 80, socket.AF_INET6, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", 65536, 0, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", -1, 0, socket.SOCK_STREAM, 0, 0)
@example("127.0.0.1", "99999", 0, socket.SOCK_STREAM, 0, 0)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_literal_addresses_give_what_the_socket_module_gives(
    shared_loop: Loop, host: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> None:
    numeric = flags | socket.AI_NUMERICHOST  # so that nothing here is looked up in the network
    expected = outcome(lambda: socket.getaddrinfo(host, port, family, kind, proto, numeric))
    got = outcome(
        lambda: shared_loop.run_until_complete(
            shared_loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=numeric)
        )
    )
    assert got == expected
    assert repr(got) == repr(expected)  # of the same types too: True is no port


@pytest.fixture
def no_threads(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("an executor was asked")

    monkeypatch.setattr(loop, "run_in_executor", refuse)


@only_pinloop  # asyncio takes a thread for each lookup
@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:10.0.0.1", b"127.0.0.1", "2001:DB8::1"])
@pytest.mark.parametrize("port", [0, 80, "80", b"80", None])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])
def test_a_literal_address_needs_no_thread(loop: Loop, host: Any, port: Any, kind: int) -> None:
    before = threading.active_count()
    got = loop.run_until_complete(loop.getaddrinfo(host, port, type=kind))
    assert got == socket.getaddrinfo(host, port, type=kind)
    assert threading.active_count() == before


@only_pinloop  # asyncio takes a thread for each lookup
@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_literal_address_needs_no_thread_whatever_the_socket_type(loop: Loop, host: str) -> None:
    got = loop.run_until_complete(loop.getaddrinfo(host, 80))
    assert got == socket.getaddrinfo(host, 80)


@only_pinloop  # asyncio's getaddrinfo takes a thread
@pytest.mark.usefixtures("no_threads")
def test_connecting_and_listening_by_literal_addresses_needs_no_thread(loop: Loop) -> None:
    async def main() -> None:
        async with await loop.create_server(asyncio.Protocol, ["127.0.0.1", "::1"], 0) as server:
            for sock in server.sockets:
                transport, _ = await loop.create_connection(asyncio.Protocol, *sock.getsockname()[:2])
                transport.close()

    loop.run_until_complete(main())


def test_a_name_gives_what_the_socket_module_gives(loop: Loop) -> None:
    async def main() -> Any:
        return await loop.getaddrinfo("localhost", "http", type=socket.SOCK_STREAM)

    assert loop.run_until_complete(main()) == socket.getaddrinfo("localhost", "http", type=socket.SOCK_STREAM)


def test_no_host_gives_what_the_socket_module_gives(loop: Loop) -> None:
    async def main() -> Any:
        return await loop.getaddrinfo(None, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)

    expected = socket.getaddrinfo(None, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    assert loop.run_until_complete(main()) == expected


def test_a_name_that_is_no_address_is_an_error_when_it_must_be_one(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        loop.run_until_complete(loop.getaddrinfo("localhost", 80, flags=socket.AI_NUMERICHOST))


def test_an_error_of_the_lookup_comes_out_of_create_connection(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, "localhost", 80, flags=socket.AI_NUMERICHOST)
        )


def test_a_host_of_the_wrong_type_is_a_type_error(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(loop.getaddrinfo(42, 80))  # type: ignore[arg-type]


# ------------------------------------------------------------------------- getnameinfo --

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


@pytest.mark.parametrize("address", [("127.0.0.1", 80), ("::1", 80, 0, 0)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("flags", [0, socket.NI_NUMERICHOST, NUMERIC, NUMERIC | socket.NI_DGRAM])
def test_getnameinfo_gives_what_the_socket_module_gives(loop: Loop, address: Any, flags: int) -> None:
    assert loop.run_until_complete(loop.getnameinfo(address, flags)) == socket.getnameinfo(address, flags)


@only_pinloop  # asyncio takes a thread for each
@pytest.mark.usefixtures("no_threads")
def test_numeric_getnameinfo_needs_no_thread(loop: Loop) -> None:
    assert loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), NUMERIC)) == ("127.0.0.1", "80")


@pytest.mark.parametrize(
    "address",
    [("not an address", 80), ("127.0.0.1", -1), ("127.0.0.1", 65536), "127.0.0.1", None, ()],
)
@pytest.mark.parametrize("flags", [0, NUMERIC])
def test_getnameinfo_refuses_what_the_socket_module_refuses(loop: Loop, address: Any, flags: int) -> None:
    expected = outcome(lambda: socket.getnameinfo(address, flags))
    got = outcome(lambda: loop.run_until_complete(loop.getnameinfo(address, flags)))
    assert got == expected
    assert expected != ("127.0.0.1", "80")
