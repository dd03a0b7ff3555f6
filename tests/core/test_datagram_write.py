"""A datagram transport: sending in batches and runs, and what the kernel refuses."""

import asyncio
import errno
import socket
import sys
import time
from typing import Any

import pytest

from tests.core.datagrams import HEADER, LOCAL, Datagrams, Maker, numbered
from tests.core.support import run_until, turn

# -------------------- sending --


def received(sock: socket.socket, count: int) -> list[bytes]:
    return [sock.recv(70_000) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 130])
@pytest.mark.parametrize("connected", [True, False])
def test_what_a_turn_sends_leaves_in_order(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket, count: int, connected: bool
) -> None:
    transport, _ = make(LOCAL, remote_addr=plain.getsockname() if connected else None)
    address = None if connected else plain.getsockname()
    for each in numbered(count):
        transport.sendto(each, address)
    assert transport.get_write_buffer_size() == (count % 64) * (6 + HEADER)
    turn(loop)
    assert transport.get_write_buffer_size() == 0
    assert received(plain, count) == numbered(count)


SIZES = [
    [10, 10, 10],
    [10, 10, 5],
    [10, 5, 10],
    [5, 10, 10],
    [1] * 64,
    [1400] * 60,
    [20_000] * 4,  # more than one run may hold
    [60_000, 60_000],
    [100, 100, 1, 100, 100, 99, 99],
    [65_507, 1, 1],
]
if sys.version_info >= (3, 13):
    SIZES += [[0, 0, 0], [10, 10, 0, 10], [0, 10, 10, 0]]


@pytest.mark.parametrize("sizes", SIZES, ids=repr)
@pytest.mark.parametrize("connected", [True, False])
def test_each_datagram_keeps_its_bounds(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket, sizes: list[int], connected: bool
) -> None:
    transport, protocol = make(LOCAL, remote_addr=plain.getsockname() if connected else None)
    sent = [bytes([i % 256]) * size for i, size in enumerate(sizes)]
    for each in sent:
        transport.sendto(each, None if connected else plain.getsockname())
    turn(loop)
    assert received(plain, len(sent)) == sent
    assert protocol.errors == []


def test_runs_to_several_receivers(loop: asyncio.AbstractEventLoop, make: Maker) -> None:
    transport, _ = make(LOCAL)
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for sock in socks:
        sock.bind(LOCAL)
        sock.settimeout(10)
    expected: list[list[bytes]] = [[], [], []]
    for i, to in enumerate([0, 0, 0, 1, 0, 1, 1, 2, 2, 2, 2, 0, 0] * 4):
        expected[to].append(b"%d" % i)
        transport.sendto(expected[to][-1], socks[to].getsockname())
    turn(loop)
    for sock, data in zip(socks, expected, strict=True):
        assert received(sock, len(data)) == data
        sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set with an option of Linux")
def test_where_a_run_does_not_fit_the_path_each_leaves_alone(
    loop: asyncio.AbstractEventLoop, make: Maker
) -> None:
    ipv6_mtu = 24
    transport, protocol = make(("::1", 0))
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IPV6, ipv6_mtu, 1280)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        sock.settimeout(10)
        for sizes in ([1500] * 5, [1000] * 5, [2000, 2000, 1400, 1400, 1000, 1000]):
            for i, size in enumerate(sizes):
                transport.sendto(bytes([i]) * size, sock.getsockname())
            turn(loop)
            assert received(sock, len(sizes)) == [bytes([i]) * size for i, size in enumerate(sizes)]
        for size in range(1300, 1320):  # a new size each time: in the end it no longer tries
            for _ in range(2):
                transport.sendto(bytes(size), sock.getsockname())
            turn(loop)
            assert received(sock, 2) == [bytes(size)] * 2
    assert protocol.errors == []


def test_errors_in_the_middle_cost_only_their_datagrams(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    transport, protocol = make(LOCAL)
    for i in range(30):
        transport.sendto(b"%d" % i, plain.getsockname())
        if i % 3 == 0:
            transport.sendto(bytes(66_000), plain.getsockname())
        if i % 5 == 0:
            transport.sendto(b"%d" % i, ("255.255.255.255", 9))
    turn(loop)
    assert received(plain, 30) == [b"%d" % i for i in range(30)]
    assert sorted(error.errno or 0 for error in protocol.errors) == sorted(
        [errno.EMSGSIZE] * 10 + [errno.EACCES] * 6
    )


def test_a_refused_connected_endpoint_is_told_and_goes_on(
    loop: asyncio.AbstractEventLoop, make: Maker
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOCAL)
        address = sock.getsockname()
    transport, protocol = make(LOCAL, remote_addr=address)
    for _ in range(3):
        for size in (1, 1, 1, 5, 3):
            transport.sendto(bytes(size))
        run_until(loop, lambda: protocol.errors)
        assert all(isinstance(error, ConnectionRefusedError) for error in protocol.errors)
        protocol.errors.clear()
    assert not transport.is_closing()


def test_sending_again_in_error_received_does_not_hold_up_the_loop(
    loop: asyncio.AbstractEventLoop, make: Maker
) -> None:
    class Stubborn(Datagrams):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(bytes(66_000), ("127.0.0.1", 9))

    transport, protocol = make(LOCAL, Stubborn())
    transport.sendto(bytes(66_000), ("127.0.0.1", 9))
    for _ in range(5):
        turn(loop)
    assert 3 <= len(protocol.errors) <= 20


@pytest.mark.parametrize("method", ["close", "abort"])
def test_closing_in_error_received(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: Any, method: str
) -> None:
    class Closing(Datagrams):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            getattr(self.transport, method)()

    transport, protocol = make(LOCAL, Closing())
    transport.set_write_buffer_limits(1 << 20)  # all wait for the flush
    transport.sendto(b"before", plain.getsockname())
    transport.sendto(bytes(66_000), plain.getsockname())
    transport.sendto(b"after", plain.getsockname())
    run_until(loop, lambda: "lost" in protocol.told)
    assert plain.recv(100) == b"before"
    if method == "close":
        assert plain.recv(100) == b"after"
    plain.setblocking(False)
    with pytest.raises(BlockingIOError):
        plain.recv(100)


def test_what_only_the_socket_can_parse_keeps_its_place(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    class Port(int):
        pass

    port = plain.getsockname()[1]
    transport, _ = make(LOCAL)
    for address in (("127.0.0.1", port), ("localhost", port), ("127.0.0.1", Port(port)), ("127.0.0.1", port)):
        transport.sendto(repr(address).encode(), address)
    turn(loop)
    assert [data.split(b"'")[1] for data in received(plain, 4)] == [
        b"127.0.0.1", b"localhost", b"127.0.0.1", b"127.0.0.1",
    ]  # fmt: skip


def test_sending_late_is_logged_once(
    loop: asyncio.AbstractEventLoop, make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    transport, protocol = make(LOCAL)
    transport.close()
    for _ in range(20):
        transport.sendto(b"late", ("127.0.0.1", 9))
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "sendto() on an endpoint that is closed"
    ]
    run_until(loop, lambda: "lost" in protocol.told)


# -------------------- flow control --


def drain(sock: socket.socket) -> list[bytes]:
    got = []
    try:
        while True:
            got.append(sock.recv(1 << 20))
    except BlockingIOError:
        return got


@pytest.mark.parametrize("connected", [True, False])
def test_a_queue_that_the_kernel_refuses_empties_in_order(
    loop: asyncio.AbstractEventLoop, make: Maker, full: socket.socket, connected: bool
) -> None:
    path = full.getsockname()
    transport, protocol = make(family=socket.AF_UNIX, remote_addr=path if connected else None)
    for each in numbered(5000):
        transport.sendto(each, None if connected else path)
    turn(loop)
    assert transport.get_write_buffer_size() > 0
    got: list[bytes] = []

    def complete() -> bool:
        got.extend(drain(full))
        return len(got) >= 5000

    run_until(loop, complete)
    assert got == numbered(5000)
    run_until(loop, lambda: transport.get_write_buffer_size() == 0)
    assert protocol.told in (["made"], ["made", "pause", "resume"])


def test_waiting_for_a_full_receiver_does_not_spin(
    loop: asyncio.AbstractEventLoop, make: Maker, full: socket.socket
) -> None:
    """Without a connection the poller says that there is room: it does not look at the receiver's queue."""
    transport, _ = make(family=socket.AF_UNIX)
    for each in numbered(1000):
        transport.sendto(each, full.getsockname())
    turn(loop)
    begun = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.2))
    assert time.process_time() - begun < 0.04
    assert transport.get_write_buffer_size() > 0


@pytest.mark.parametrize("connected", [True, False])
def test_aborting_with_a_queue(
    loop: asyncio.AbstractEventLoop, make: Maker, full: socket.socket, connected: bool
) -> None:
    path = full.getsockname()
    transport, protocol = make(family=socket.AF_UNIX, remote_addr=path if connected else None)
    for each in numbered(1000):
        transport.sendto(each, None if connected else path)
    for _ in range(3):
        turn(loop)
    transport.abort()
    assert transport.get_write_buffer_size() == 0
    run_until(loop, lambda: "lost" in protocol.told)


def test_pressure_from_a_limit_of_nothing(
    loop: asyncio.AbstractEventLoop, make: Maker, full: socket.socket, plain: socket.socket
) -> None:
    transport, protocol = make(family=socket.AF_UNIX, remote_addr=full.getsockname())
    transport.set_write_buffer_limits(0)
    transport.sendto(b"taken at once")
    assert protocol.told == ["made"]
    sent = 1
    while "pause" not in protocol.told:
        transport.sendto(b"more")
        sent += 1
    got = 0

    def complete() -> bool:
        nonlocal got
        got += len(drain(full))
        return got == sent

    run_until(loop, complete)
    assert protocol.told == ["made", "pause", "resume"]
