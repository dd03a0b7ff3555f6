"""A datagram transport: reading in batches, and its lifetime."""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
import warnings
import weakref
from typing import Any

import pytest

import pinloop
from pinloop import _core
from tests.conftest import Context
from tests.core.datagrams import LOCAL, Datagrams, Maker, name_of, numbered
from tests.core.support import run_until, turn

# -------------------- reading --


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31, 32, 33, 64, 65, 200])
def test_what_waits_is_delivered_in_order(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket, count: int
) -> None:
    transport, protocol = make(LOCAL)
    for round_ in range(4):
        data = [b"%d %d" % (round_, i) for i in range(count)]
        for each in data:
            plain.sendto(each, name_of(transport))
        run_until(loop, lambda: len(protocol.got) >= count)
        assert protocol.got == [(each, plain.getsockname()) for each in data]
        protocol.got.clear()


def test_a_backlog_takes_few_turns(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    transport, protocol = make(LOCAL)
    for _ in range(2):
        for each in numbered(160):
            plain.sendto(each, name_of(transport))
        needed = 0
        while len(protocol.got) < 160:
            turn(loop)
            needed += 1
            assert needed < 30  # at most nine until it looks for more than one, then batches of 32
        protocol.got.clear()
    assert needed <= 6


def test_a_batch_of_many_senders_and_sizes(loop: asyncio.AbstractEventLoop, make: Maker) -> None:
    transport, protocol = make(LOCAL)
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(40)]
    try:
        for sock in senders:
            sock.bind(LOCAL)
        expected = []
        for i, size in enumerate([0, 1, 100, 1472, 3000, 9000, 65_507] * 6):
            data = bytes([i]) * size
            senders[i % 40].sendto(data, name_of(transport))
            expected.append((data, senders[i % 40].getsockname()))
            if i % 7 == 6:
                run_until(loop, lambda: len(protocol.got) >= len(expected))
        assert protocol.got == expected
    finally:
        for sock in senders:
            sock.close()


def test_the_tuple_of_a_sender_is_made_once(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    transport, protocol = make(LOCAL)
    for each in numbered(100):
        plain.sendto(each, name_of(transport))
    run_until(loop, lambda: len(protocol.got) == 100)
    assert len({id(address) for _, address in protocol.got}) == 1


def test_more_senders_than_the_cache_holds(loop: asyncio.AbstractEventLoop, make: Maker) -> None:
    transport, protocol = make(LOCAL)

    class Echo(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)

    transport.set_protocol(echo := Echo())
    echo.transport = transport
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(150)]
    try:
        for _ in range(2):
            for at in range(0, 900, 150):
                for i in range(150):
                    if at:
                        senders[i].close()
                        senders[i] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    senders[i].sendto(b"%d" % (at + i), name_of(transport))
                run_until(loop, lambda: len(echo.got) == 150)
                turn(loop)
                for i, sock in enumerate(senders):
                    sock.settimeout(10)
                    assert sock.recv(100) == b"%d" % (at + i)
                    assert echo.got[i] == (b"%d" % (at + i), ("127.0.0.1", sock.getsockname()[1]))
                echo.got.clear()
    finally:
        for sock in senders:
            sock.close()
    assert protocol.got == []


def test_one_that_closes_in_a_batch_hears_no_more(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    class Closing(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) == 25:
                self.transport.close()

    transport, protocol = make(LOCAL, Closing())
    for each in numbered(60):
        plain.sendto(each, name_of(transport))
    run_until(loop, lambda: "lost" in protocol.told)
    assert protocol.data == numbered(60)[:25]


def test_a_protocol_set_in_a_batch_hears_the_rest(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    second = Datagrams()

    class First(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) == 25:
                self.transport.set_protocol(second)

    transport, first = make(LOCAL, First())
    for each in numbered(60):
        plain.sendto(each, name_of(transport))
    run_until(loop, lambda: len(second.got) == 35)
    assert first.data + second.data == numbered(60)


@pytest.mark.parametrize("at", [1, 15, 16, 40, 41, 59])
def test_what_leaves_the_loop_in_a_batch_loses_nothing(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket, at: int
) -> None:
    class Leaving(Datagrams):
        left = 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) in (at, at + 3):
                self.left += 1
                raise KeyboardInterrupt

    transport, protocol = make(LOCAL, Leaving())
    for each in numbered(60):
        plain.sendto(each, name_of(transport))
    for _ in range(2 if at + 3 <= 60 else 1):
        with pytest.raises(KeyboardInterrupt):
            run_until(loop, lambda: len(protocol.got) == 60)
    run_until(loop, lambda: len(protocol.got) == 60)
    assert protocol.data == numbered(60)


def test_one_that_raises_in_a_batch_is_reported_each_time(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], make: Maker, plain: socket.socket
) -> None:
    class Failing(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise ZeroDivisionError

    transport, protocol = make(LOCAL, Failing())
    for each in numbered(50):
        plain.sendto(each, name_of(transport))
    run_until(loop, lambda: len(protocol.got) == 50)
    assert len(loop_errors) == 50
    assert loop_errors[0]["message"] == "Exception in protocol.datagram_received()"
    assert loop_errors[0]["protocol"] is protocol
    assert loop_errors[0]["transport"] is transport
    loop_errors.clear()


def test_a_protocol_without_datagram_received(
    loop: asyncio.AbstractEventLoop, loop_errors: list[Context], make: Maker, plain: socket.socket
) -> None:
    transport, _ = make(LOCAL, asyncio.Protocol())
    plain.sendto(b"data", name_of(transport))
    run_until(loop, lambda: loop_errors)
    assert isinstance(loop_errors.pop()["exception"], TypeError)


def test_another_loop_running_in_a_callback(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    """The buffers are one loop's own, and what was received is out of them when it is delivered."""
    inner = pinloop.new_event_loop()

    class Nesting(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) == 20:
                asyncio._set_running_loop(None)
                inner.run_until_complete(asyncio.sleep(0))
                asyncio._set_running_loop(loop)

    transport, protocol = make(LOCAL, Nesting())
    for each in numbered(60):
        plain.sendto(each, name_of(transport))
    run_until(loop, lambda: len(protocol.got) == 60)
    assert protocol.data == numbered(60)
    inner.close()


# -------------------- lifetime, loops and forks --


def test_one_that_is_dropped_is_warned_of_and_closed(loop: asyncio.AbstractEventLoop) -> None:
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, LOCAL))
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fd = transport.get_extra_info("socket").fileno()
        del transport, _
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)
    assert {each.category for each in caught} == {ResourceWarning}  # its socket may warn too
    assert any("unclosed transport <pinloop.DatagramTransport" in str(each.message) for each in caught)


def test_closing_after_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, LOCAL))
    loop.close()
    transport.close()
    assert transport.is_closing()
    assert protocol.told == ["made"]


def test_sending_after_the_loop(loop: asyncio.AbstractEventLoop, plain: socket.socket) -> None:
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, LOCAL))
    loop.close()
    transport.sendto(b"data", plain.getsockname())
    assert plain.recv(100) == b"data"
    transport.abort()


def test_a_file_descriptor_in_use_is_refused(loop: asyncio.AbstractEventLoop, make: Maker) -> None:
    transport, _ = make(LOCAL)
    with socket.socket(fileno=transport.get_extra_info("socket").fileno()) as sock:
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, sock=sock))
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock, print)
        sock.detach()


def test_nothing_is_kept_of_what_came_and_went(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)

    transport, _ = make(LOCAL, Echo())
    plain.setblocking(False)

    def echo(count: int) -> None:
        for size in range(count):
            plain.sendto(bytes(300 + size), name_of(transport))
        turn(loop)
        for _ in range(count):
            while True:
                try:
                    plain.recv(1000)
                    break
                except BlockingIOError:
                    turn(loop)

    echo(100)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(50):
        echo(100)
    gc.collect()
    assert sys.getallocatedblocks() - before < 200


def test_a_loop_dropped_with_an_endpoint_is_collected(loop_errors: list[Context]) -> None:
    loop = pinloop.new_event_loop()
    transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, LOCAL))
    gone = [weakref.ref(loop), weakref.ref(transport), weakref.ref(protocol)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, transport, protocol
        gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def use_once(loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket, message: bytes) -> int:
    """Make an endpoint, have it receive one of two datagrams, and abort it; its descriptor."""
    transport, protocol = make(LOCAL)
    number: int = transport.get_extra_info("socket").fileno()
    plain.sendto(message, name_of(transport))
    plain.sendto(b"left behind", name_of(transport))
    run_until(loop, lambda: protocol.got)
    assert protocol.data[0] == message
    transport.abort()
    run_until(loop, lambda: "lost" in protocol.told)
    return number


def test_its_number_may_be_used_again(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket
) -> None:
    assert len({use_once(loop, make, plain, b"%d" % i) for i in range(20)}) == 1


def test_debug_mode_tells_of_slow_callbacks(
    loop: asyncio.AbstractEventLoop, make: Maker, plain: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            time.sleep(0.02)
            super().datagram_received(data, addr)

    transport, protocol = make(LOCAL, Slow())
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    plain.sendto(b"data", name_of(transport))
    with caplog.at_level(logging.WARNING):
        run_until(loop, lambda: protocol.got)
    assert any("Executing <pinloop.DatagramTransport" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    "kind", [_core.DatagramTransport, _core.Peer, _core.AddressCache, _core.ReceiveBuffers]
)
def test_only_the_loop_makes_them(kind: Any) -> None:
    with pytest.raises(TypeError):
        kind()
    with pytest.raises((TypeError, AttributeError)):
        kind.__new__(kind)


def test_repr(loop: asyncio.AbstractEventLoop, make: Maker) -> None:
    transport, protocol = make(LOCAL)
    assert repr(transport).startswith("<pinloop.DatagramTransport open fd=")
    assert repr(transport).endswith("read=polling write=<idle, bufsize=0>>")
    transport.abort()
    assert "lost" in repr(transport)
    run_until(loop, lambda: "lost" in protocol.told)
    assert repr(transport) == "<pinloop.DatagramTransport closed>"


def test_other_families_go_through_the_socket(loop: asyncio.AbstractEventLoop, make: Maker) -> None:
    """Netlink, where there is no need of rights: the kernel answers a question for the interfaces."""
    if not hasattr(socket, "AF_NETLINK"):
        pytest.skip("this platform has no AF_NETLINK")
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    sock.bind((0, 0))
    transport, protocol = make(sock=sock)
    get_link, request_dump = 18, 0x301
    question = b"".join(
        number.to_bytes(size, sys.byteorder)
        for number, size in ((32, 4), (get_link, 2), (request_dump, 2), (1, 4), (0, 4), (0, 16))
    )
    transport.sendto(question, (0, 0))
    run_until(loop, lambda: protocol.got)
    data, address = protocol.got[0]
    assert address == (0, 0)
    assert len(data) > 32
