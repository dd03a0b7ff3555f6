"""The addresses, sockets and options of datagram endpoints, as a user of asyncio sees them."""

import asyncio
import errno
import socket
import sys
import tempfile
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.datagrams import FAMILIES, Datagrams, Echo, address_of, end, endpoint, name_of
from tests.api.support import turns
from tests.conftest import Run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for the address of a Unix socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# -------------------- addresses --


@pytest.mark.parametrize("host", FAMILIES)
def test_only_the_remote_address_may_be_named(run: Run, host: str) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=(host, 0))
        sender, _ = await endpoint(remote=address_of(receiver))
        sender.sendto(b"same", tuple(name_of(receiver)))
        assert await protocol.next_data() == b"same"
        with pytest.raises(ValueError, match="Invalid address"):
            sender.sendto(b"other", (host, 1))
        await end(receiver, sender)

    run(main())


def test_addresses_of_ipv6_have_four_parts(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("::1", 0))
        assert len(name_of(receiver)) == 4
        sender, _ = await endpoint(local=("::1", 0))
        port = name_of(receiver)[1]
        for address in (("::1", port), ("::1", port, 0), ("::1", port, 0, 0), ("::1", port, 0x12345, 0)):
            sender.sendto(repr(address).encode(), address)
            assert await protocol.next() == (repr(address).encode(), name_of(sender))
        await end(receiver, sender)

    run(main())


def outcome(sock: socket.socket, address: Any) -> int:
    """What the kernel says of a datagram to this address: 0 or an errno."""
    try:
        sock.sendto(b"data", address)
    except OSError as exc:
        return exc.errno or -1
    return 0


def test_the_scope_of_an_address_reaches_the_kernel(run: Run) -> None:
    """Which interfaces have link-local addresses differs: a plain socket tells what to expect."""

    async def main() -> None:
        transport, protocol = await endpoint(family=socket.AF_INET6)
        for interface in (0, 123_456, *(number for number, _ in socket.if_nameindex())):
            for host in ("ff02::1234", "fe80::1234"):
                address = (host, 9, 0, interface)
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain:
                    expected = outcome(plain, address)
                transport.sendto(b"data", address)
                await turns(2)
                told = 0 if protocol.errors.empty() else protocol.errors.get_nowait()
                assert (told.errno if isinstance(told, OSError) else 0) == expected
        await end(transport)

    run(main())


def test_an_endpoint_with_a_family_and_no_address(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(family=socket.AF_INET)
        assert sender.get_extra_info("peername") is None
        sender.sendto(b"data", name_of(receiver))
        data, address = await protocol.next()
        assert data == b"data"
        assert address[0] == "127.0.0.1"
        await end(receiver, sender)

    run(main())


def test_the_local_address_is_used(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(local=("127.0.0.1", 0), remote=address_of(receiver))
        sender.sendto(b"data")
        assert await protocol.next() == (b"data", name_of(sender))
        await end(receiver, sender)

    run(main())


def test_both_addresses_must_be_of_one_family(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="can not get address information"):
            await endpoint(local=("127.0.0.1", 0), remote=("::1", 9))

    run(main())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"local": "127.0.0.1"}, TypeError),
        ({"local": ("127.0.0.1",)}, TypeError),
        ({"local": ["127.0.0.1", 0]}, TypeError),
        ({"remote": ("127.0.0.1", 9, 0)}, TypeError),
        ({"remote": b"path", "family": socket.AF_UNIX}, TypeError),
        ({"local": ("127.0.0.1", 0), "family": socket.AF_UNIX}, TypeError),
        ({"local": ("127.0.0.1", 0), "family": socket.AF_INET6}, OSError),
    ],
    ids=repr,
)
def test_addresses_that_are_none(run: Run, arguments: dict[str, Any], error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error):
            await endpoint(**arguments)

    run(main())


@pytest.mark.parametrize(
    "modifier",
    [
        {"local": ("127.0.0.1", 0)},
        {"remote": ("127.0.0.1", 9)},
        {"family": socket.AF_INET},
        {"proto": 17},
        {"flags": 1},
        {"reuse_port": True},
        {"allow_broadcast": True},
    ],
    ids=repr,
)
def test_a_socket_and_what_would_make_one(run: Run, modifier: dict[str, Any]) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError, match="socket modifier keyword arguments can not be used"):
                await endpoint(sock=sock, **modifier)
            assert sock.fileno() >= 0

    run(main())


def test_a_stream_socket_is_refused(run: Run) -> None:
    async def main() -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock,
            pytest.raises(ValueError, match="ocket was expected"),
        ):
            await endpoint(sock=sock)

    run(main())


def test_an_address_in_use(run: Run) -> None:
    async def main() -> None:
        first, _ = await endpoint(local=("127.0.0.1", 0))
        with pytest.raises(OSError) as caught:
            await endpoint(local=address_of(first))
        assert caught.value.errno == errno.EADDRINUSE
        await end(first)

    run(main())


def test_a_factory_that_fails_leaves_nothing_open(run: Run) -> None:
    def factory() -> Datagrams:
        raise ZeroDivisionError

    async def main() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with pytest.raises(ZeroDivisionError):
            await endpoint(factory, sock=sock)
        sock.close()

    run(main())


# -------------------- sockets and options --


def test_a_socket_of_ones_own(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        transport, _ = await endpoint(Echo, sock=sock)
        assert sock.gettimeout() == 0
        assert name_of(transport) == sock.getsockname()
        client, protocol = await endpoint(remote=address_of(transport))
        client.sendto(b"data")
        assert await protocol.next_data() == b"data"
        await end(transport, client)
        assert sock.fileno() == -1

    run(main())


def test_a_connected_socket_of_ones_own(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(name_of(receiver))
        sender, _ = await endpoint(sock=sock)
        assert sender.get_extra_info("peername") == name_of(receiver)
        sender.sendto(b"without")
        sender.sendto(b"with", name_of(receiver))
        assert await protocol.next_data() == b"without"
        assert await protocol.next_data() == b"with"
        await end(receiver, sender)

    run(main())


def test_extra_info(run: Run) -> None:
    async def main() -> None:
        transport, _ = await endpoint(local=("127.0.0.1", 0))
        sock = transport.get_extra_info("socket")
        assert type(sock) is TransportSocket
        assert sock.getsockname() == name_of(transport)
        assert transport.get_extra_info("peername", "nobody") is None
        assert transport.get_extra_info("color") is None
        assert transport.get_extra_info("color", "red") == "red"
        name = name_of(transport)
        await end(transport)
        assert name_of(transport) == name

    run(main())


def test_what_kind_of_thing_it_is(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(local=("127.0.0.1", 0))
        if sys.version_info >= (3, 12):  # before, asyncio's own were of no such class
            assert isinstance(transport, asyncio.DatagramTransport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert transport.get_protocol() is protocol
        assert not transport.is_closing()
        assert "fd=" in repr(transport)
        await end(transport)
        assert transport.is_closing()

    run(main())


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this platform has no SO_REUSEPORT")
def test_reuse_port(run: Run) -> None:
    async def main() -> None:
        first, _ = await endpoint(local=("127.0.0.1", 0), reuse_port=True)
        second, _ = await endpoint(local=address_of(first), reuse_port=True)
        for transport in (first, second):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert name_of(first) == name_of(second)
        await end(first, second)

    run(main())


def test_reuse_port_where_there_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)

    async def main() -> None:
        with pytest.raises(ValueError, match="reuse_port not supported by socket module"):
            await endpoint(local=("127.0.0.1", 0), reuse_port=True)

    run(main())


def test_without_leave_there_is_no_broadcast(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(family=socket.AF_INET)
        transport.sendto(b"data", ("255.255.255.255", 9))
        assert isinstance(await protocol.error(), PermissionError)
        await end(transport)

    run(main())


def test_with_leave_the_socket_may_broadcast(run: Run) -> None:
    async def main() -> None:
        receiver, got = await endpoint(local=("127.0.0.1", 0))
        transport, answered = await endpoint(remote=address_of(receiver), allow_broadcast=True)
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        # Not connected: a broadcast is answered from other addresses.
        assert transport.get_extra_info("peername") is None
        transport.sendto(b"without")
        data, address = await got.next()
        assert data == b"without"
        transport.sendto(b"with", name_of(receiver))
        assert await got.next_data() == b"with"
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"elsewhere", ("127.0.0.1", 9))
        stranger, _ = await endpoint(local=("127.0.0.1", 0))
        stranger.sendto(b"answer", address)
        assert await answered.next() == (b"answer", name_of(stranger))
        await end(receiver, transport, stranger)

    run(main())


# -------------------- Unix sockets --


def test_datagrams_over_unix_sockets(run: Run, folder: Path) -> None:
    async def main() -> None:
        path, other = str(folder / "one"), str(folder / "two")
        first, got = await endpoint(local=path, family=socket.AF_UNIX)
        second, answered = await endpoint(local=other, remote=path, family=socket.AF_UNIX)
        third, _ = await endpoint(family=socket.AF_UNIX)
        assert name_of(first) == path
        assert second.get_extra_info("peername") == path
        second.sendto(b"named")
        assert await got.next() == (b"named", other)
        third.sendto(b"nameless", path)
        assert await got.next() == (b"nameless", None)
        first.sendto(b"answer", other)
        assert await answered.next() == (b"answer", path)
        for size in (65_536, 100_000, 150_000):
            second.sendto(bytes(size))
            assert await got.next() == (bytes(size), other)
        await end(first, second, third)

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_abstract_names_of_unix_sockets(run: Run, folder: Path) -> None:
    async def main() -> None:
        name = f"\0{folder}"
        receiver, got = await endpoint(local=name, family=socket.AF_UNIX)
        assert name_of(receiver) == name.encode()
        sender, answered = await endpoint(local=name + "2", remote=name, family=socket.AF_UNIX)
        sender.sendto(b"data")
        data, address = await got.next()
        assert (data, address) == (b"data", name.encode() + b"2")
        receiver.sendto(b"answer", address)
        assert await answered.next() == (b"answer", name.encode())
        await end(receiver, sender)

    run(main())


def test_a_stale_socket_file_is_replaced(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = str(folder / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(path)
        transport, _ = await endpoint(local=path, family=socket.AF_UNIX)
        await end(transport)
        (folder / "file").write_text("precious")
        with pytest.raises(OSError):
            await endpoint(local=str(folder / "file"), family=socket.AF_UNIX)
        assert (folder / "file").read_text() == "precious"

    run(main())


def test_nobody_at_a_unix_address(run: Run, folder: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await endpoint(remote=str(folder / "nobody"), family=socket.AF_UNIX)
        transport, protocol = await endpoint(family=socket.AF_UNIX)
        transport.sendto(b"data", str(folder / "nobody"))
        assert isinstance(await protocol.error(), FileNotFoundError)
        transport.sendto(b"data", "x" * 200)
        assert isinstance(await protocol.error(), OSError)
        await end(transport)

    run(main())
