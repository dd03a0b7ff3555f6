"""Datagrams to and fro, as a user of asyncio sees them."""

import asyncio
import contextvars
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.datagrams import FAMILIES, Datagrams, Echo, address_of, end, endpoint, name_of
from tests.api.support import ON_PINLOOP, only_pinloop
from tests.conftest import Context, Run

# -------------------- to and fro --


@pytest.mark.parametrize("host", FAMILIES)
def test_an_echo_to_an_unconnected_endpoint(run: Run, host: str) -> None:
    async def main() -> None:
        server, _ = await endpoint(Echo, (host, 0))
        client, protocol = await endpoint(local=(host, 0))
        assert protocol.told == ["made"]
        assert protocol.transport is client
        for data in (b"one", b"two", b"x" * 1472, b"y" * 9000):
            client.sendto(data, name_of(server))
            assert await protocol.next() == (data, name_of(server))
        await end(server, client)

    run(main())


@pytest.mark.parametrize("host", FAMILIES)
def test_an_echo_to_a_connected_endpoint(run: Run, host: str) -> None:
    async def main() -> None:
        server, _ = await endpoint(Echo, (host, 0))
        client, protocol = await endpoint(remote=address_of(server))
        assert client.get_extra_info("peername") == name_of(server)
        client.sendto(b"without")
        assert await protocol.next() == (b"without", name_of(server))
        client.sendto(b"with", name_of(server) if ":" not in host else None)
        assert await protocol.next() == (b"with", name_of(server))
        await end(server, client)

    run(main())


@pytest.mark.parametrize("host", FAMILIES)
@pytest.mark.parametrize("size", [1, 1000, 9000, 40_000, 65_000])
def test_a_datagram_arrives_whole(run: Run, host: str, size: int) -> None:
    async def main() -> None:
        server, _ = await endpoint(Echo, (host, 0))
        client, protocol = await endpoint(remote=address_of(server))
        data = os.urandom(size)
        for _ in range(3):
            client.sendto(data)
        for _ in range(3):
            assert await protocol.next_data() == data
        await end(server, client)

    run(main())


@pytest.mark.parametrize("connected", [False, True])
def test_a_thousand_at_once_arrive_in_order(run: Run, connected: bool) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        # The room that the kernel gives: each of these takes 768 bytes of it.
        receiver.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        count = 250
        sender, _ = await endpoint(local=("127.0.0.1", 0), remote=address_of(receiver) if connected else None)
        target = None if connected else name_of(receiver)
        for start in range(0, 4 * count, count):
            for number in range(start, start + count):
                sender.sendto(b"%d" % number, target)
            for number in range(start, start + count):
                assert await protocol.next() == (b"%d" % number, name_of(sender))
        await end(receiver, sender)

    run(main())


def test_answers_go_to_who_asked(run: Run) -> None:
    async def main() -> None:
        server, _ = await endpoint(Echo, ("127.0.0.1", 0))
        clients = [await endpoint(remote=address_of(server)) for _ in range(40)]
        for round_ in range(5):
            for number, (transport, _) in enumerate(clients):
                for part in range(3):
                    transport.sendto(b"%d %d %d" % (round_, number, part))
            for number, (_, protocol) in enumerate(clients):
                for part in range(3):
                    assert await protocol.next_data() == b"%d %d %d" % (round_, number, part)
        await end(server, *(transport for transport, _ in clients))

    run(main())


@pytest.mark.parametrize(
    "make", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))], ids=repr
)
def test_what_can_be_sent(run: Run, make: Callable[[bytes], Any]) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(remote=address_of(receiver))
        sender.sendto(make(b"data"))
        assert await protocol.next_data() == b"data"
        await end(receiver, sender)

    run(main())


def test_a_buffer_may_change_after_it_was_sent(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(remote=address_of(receiver))
        data = bytearray(b"before")
        sender.sendto(data)
        data[:] = b"after!"
        assert await protocol.next_data() == b"before"
        await end(receiver, sender)

    run(main())


@pytest.mark.parametrize("data", ["text", 5, None, ["list"]])
def test_what_cannot_be_sent(run: Run, data: Any) -> None:
    async def main() -> None:
        transport, _ = await endpoint(remote=("127.0.0.1", 9))
        with pytest.raises(TypeError):
            transport.sendto(data)
        await end(transport)

    run(main())


def test_an_empty_datagram_since_3_13(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(remote=address_of(receiver))
        sender.sendto(b"")
        sender.sendto(bytearray())
        sender.sendto(b"end")
        if sys.version_info >= (3, 13):
            assert await protocol.next_data() == b""
            assert await protocol.next_data() == b""
        assert await protocol.next_data() == b"end"
        await end(receiver, sender)

    run(main())


def test_an_empty_datagram_from_elsewhere_is_delivered(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", name_of(receiver))
            sock.sendto(b"more", name_of(receiver))
        assert await protocol.next_data() == b""
        assert await protocol.next_data() == b"more"
        await end(receiver)

    run(main())


def test_another_protocol_takes_over(run: Run) -> None:
    async def main() -> None:
        receiver, first = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(remote=address_of(receiver))
        sender.sendto(b"1")
        assert await first.next_data() == b"1"
        second = Datagrams()
        receiver.set_protocol(second)
        assert receiver.get_protocol() is second
        sender.sendto(b"2")
        assert await second.next_data() == b"2"
        assert first.got.empty()
        await end(receiver, sender)
        assert second.told == ["lost"]

    run(main())


def test_host_names_are_looked_up(run: Run) -> None:
    async def main() -> None:
        receiver, protocol = await endpoint(local=("127.0.0.1", 0))
        sender, _ = await endpoint(local=("127.0.0.1", 0))
        sender.sendto(b"1", ("127.0.0.1", name_of(receiver)[1]))
        sender.sendto(b"2", ("localhost", name_of(receiver)[1]))
        sender.sendto(b"3", ("127.0.0.1", name_of(receiver)[1]))
        assert [await protocol.next_data() for _ in range(3)] == [b"1", b"2", b"3"]
        await end(receiver, sender)

    run(main())


def test_callbacks_run_in_the_context_of_the_maker(run: Run) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody's")
    seen = []

    class Noting(Datagrams):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            seen.append(("made", name.get()))

        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(("received", name.get()))
            super().datagram_received(data, addr)

        def error_received(self, exc: Exception) -> None:
            seen.append(("error", name.get()))
            super().error_received(exc)

        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(("lost", name.get()))
            super().connection_lost(exc)

    async def main() -> None:
        name.set("maker's")
        transport, protocol = await endpoint(Noting, ("127.0.0.1", 0))
        name.set("other's")
        transport.sendto(b"data", name_of(transport))
        await protocol.next()
        transport.sendto(bytes(100_000), name_of(transport))
        await protocol.error()
        transport.close()
        await protocol.lost

    run(main())
    assert [what for what, _ in seen] == ["made", "received", "error", "lost"]
    # asyncio calls these two in the context of who sends or closes.
    unsure = () if ON_PINLOOP else ("error", "lost")
    assert {value for what, value in seen if what not in unsure} == {"maker's"}


# -------------------- errors --


@pytest.mark.parametrize("host", FAMILIES)
def test_a_refusal_is_told_to_a_connected_endpoint_which_goes_on(run: Run, host: str) -> None:
    async def main() -> None:
        receiver, _ = await endpoint(local=(host, 0))
        address = address_of(receiver)
        sender, protocol = await endpoint(remote=address)
        await end(receiver)
        sender.sendto(b"to nobody")
        assert isinstance(await protocol.error(), ConnectionRefusedError)
        assert not sender.is_closing()
        again, heard = await endpoint(local=address)
        sender.sendto(b"to somebody")
        assert await heard.next_data() == b"to somebody"
        await end(sender, again)

    run(main())


def test_one_too_large_costs_only_itself(run: Run) -> None:
    async def main() -> None:
        receiver, got = await endpoint(local=("127.0.0.1", 0))
        sender, protocol = await endpoint(local=("127.0.0.1", 0))
        sender.sendto(b"before", name_of(receiver))
        sender.sendto(bytes(70_000), name_of(receiver))
        sender.sendto(b"after", name_of(receiver))
        assert await got.next_data() == b"before"
        assert await got.next_data() == b"after"
        error = await protocol.error()
        assert isinstance(error, OSError)
        assert error.errno == errno.EMSGSIZE
        await end(receiver, sender)

    run(main())


def test_an_address_of_another_family_is_an_error_of_that_datagram(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(local=("127.0.0.1", 0))
        transport.sendto(b"data", ("::1", 9))
        assert isinstance(await protocol.error(), socket.gaierror)
        assert not transport.is_closing()
        await end(transport)

    run(main())


@only_pinloop
@pytest.mark.parametrize(
    "address", [None, 5, "127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "9"), (1, 2)], ids=repr
)
def test_what_is_no_address_is_told_to_the_caller(run: Run, address: Any) -> None:
    """asyncio reports it and closes the endpoint."""

    async def main() -> None:
        transport, _ = await endpoint(local=("127.0.0.1", 0))
        with pytest.raises(TypeError):
            transport.sendto(b"data", address)
        with pytest.raises(OverflowError):
            transport.sendto(b"data", ("127.0.0.1", 70_000))
        assert not transport.is_closing()
        await end(transport)

    run(main())


@pytest.mark.parametrize("method", ["datagram_received", "error_received", "connection_made"])
def test_a_callback_that_raises_is_reported_and_the_endpoint_goes_on(
    run: Run, loop_errors: list[Context], method: str
) -> None:
    class Failing(Datagrams):
        failed = False

        def fail(self, name: str) -> None:
            if name == method and not self.failed:
                self.failed = True
                raise ZeroDivisionError(name)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.fail("connection_made")

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.fail("datagram_received")
            super().datagram_received(data, addr)

        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.fail("error_received")

    async def main() -> None:
        transport, protocol = await endpoint(Failing, ("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"1", name_of(transport))
            sock.sendto(b"2", name_of(transport))
            if method == "datagram_received":
                assert await protocol.next_data() == b"2"
            else:
                assert await protocol.next_data() == b"1"
            try:
                transport.sendto(bytes(70_000), sock.getsockname())
                await protocol.error()
            except ZeroDivisionError:
                pass  # asyncio calls error_received from sendto
            sock.sendto(b"3", name_of(transport))
            while await protocol.next_data() != b"3":
                pass
        assert not transport.is_closing()
        await end(transport)

    run(main())
    if loop_errors or method != "error_received":
        assert [type(each["exception"]) for each in loop_errors] == [ZeroDivisionError]
    loop_errors.clear()


def test_isinstance_says_what_it_says_of_asyncios(run: Run) -> None:
    async def main() -> None:
        transport, _ = await endpoint(local=("127.0.0.1", 0))
        assert isinstance(transport, asyncio.DatagramTransport)
        assert isinstance(transport, asyncio.Transport)
        with open(__file__, "rb") as file, pytest.raises(RuntimeError, match="not supported"):
            await asyncio.get_running_loop().sendfile(transport, file)  # type: ignore[arg-type]
        await end(transport)

    run(main())
