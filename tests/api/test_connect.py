"""create_connection: addresses, options, errors, and that nothing stays open when it does not come about."""

import asyncio
import contextlib
import errno
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.api.support import (
    ON_PINLOOP,
    Echo,
    Made,
    Recorder,
    address_of,
    answer_lookups_with,
    info,
    only_pinloop,
    refusing_address,
    silent_address,
    tcp_pair,
)

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]

takes_all_errors = pytest.mark.skipif(
    sys.version_info < (3, 12) and not ON_PINLOOP, reason="asyncio: all_errors= is new in 3.12"
)


@contextlib.asynccontextmanager
async def echo_server(host: str = "127.0.0.1") -> AsyncIterator[tuple[tuple[Any, ...], Made]]:
    """The address of a server that echoes, and the protocols it makes."""
    made = Made(Echo)
    server = await asyncio.get_running_loop().create_server(made, host, 0)
    async with server:
        yield address_of(server), made
        for protocol in made:
            if protocol.made.done():
                protocol.made.result().abort()


async def hang_up(transport: asyncio.BaseTransport, protocol: Recorder) -> None:
    transport.close()
    assert await protocol.lost is None


# ---------------------------------------------------------------------------- connecting --


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


# -------------------------------------------------------------------------------- errors --


def test_a_refused_connection_is_an_error_that_names_the_address(run: Run) -> None:
    address = refusing_address()

    async def main() -> None:
        await asyncio.get_running_loop().create_connection(Recorder, *address)

    with pytest.raises(ConnectionRefusedError) as caught:
        run(main())
    assert caught.value.errno == errno.ECONNREFUSED
    assert str(address) in str(caught.value)


def test_several_refusals_are_all_named(run: Run) -> None:
    first, second = refusing_address(), refusing_address("::1")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer_lookups_with(loop, first, second[:2])
        await loop.create_connection(Recorder, "a.name", 80)

    with pytest.raises(OSError, match="Multiple exceptions: ") as caught:
        run(main())
    assert str(first) in str(caught.value)
    assert f"('::1', {second[1]}" in str(caught.value)


def test_equal_refusals_are_one_error(run: Run) -> None:
    address = refusing_address()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer_lookups_with(loop, address, address)
        await loop.create_connection(Recorder, "a.name", 80)

    with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
        run(main())


@takes_all_errors
@pytest.mark.parametrize("delay", [None, 0.25])
def test_all_errors_are_given_as_a_group_on_demand(run: Run, delay: float | None) -> None:
    addresses = [refusing_address(), refusing_address()]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer_lookups_with(loop, *addresses)
        await loop.create_connection(Recorder, "a.name", 80, all_errors=True, happy_eyeballs_delay=delay)

    with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:
        run(main())
    assert [type(each) for each in caught.value.exceptions] == [ConnectionRefusedError] * 2


def test_an_error_does_not_live_in_a_cycle(run: Run) -> None:
    address = refusing_address()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer_lookups_with(loop, address, address)
        with contextlib.suppress(OSError):
            await loop.create_connection(Recorder, "a.name", 80)

    gc.collect()
    gc.disable()
    try:
        run(main())
        before = len([each for each in gc.get_objects() if isinstance(each, ConnectionRefusedError)])
    finally:
        gc.enable()
    assert before == 0


def test_a_name_without_addresses_is_an_error(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer_lookups_with(loop)
        await loop.create_connection(Recorder, "a.name", 80)

    with pytest.raises(OSError, match="returned empty list"):
        run(main())


def test_a_local_address_of_another_family_is_an_error(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, _):
            await loop.create_connection(Recorder, *address, local_addr=("::1", 0))

    with pytest.raises(OSError, match="no matching local address with family="):
        run(main())


def test_a_local_address_that_is_not_here_is_an_error_that_names_it(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, _):
            await loop.create_connection(Recorder, *address, local_addr=("203.0.113.7", 0))

    with pytest.raises(OSError, match=r"attempting to bind on address \('203\.0\.113\.7', 0\)") as caught:
        run(main())
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_local_port_in_use_is_an_error_that_names_it(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with echo_server() as (address, _):
            await loop.create_connection(Recorder, *address, local_addr=address)

    with pytest.raises(OSError, match=r"bind on address \('127\.0\.0\.1', \d+\): .*address already in use"):
        run(main())


BAD_ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "nothing": ((), {}, "host and port was not specified and no sock specified"),
    "server_hostname without ssl": (
        ("localhost", 80),
        {"server_hostname": "x"},
        "server_hostname is only meaningful with ssl",
    ),
    "handshake timeout without ssl": (
        ("localhost", 80),
        {"ssl_handshake_timeout": 1},
        "ssl_handshake_timeout is only meaningful with ssl",
    ),
    "shutdown timeout without ssl": (
        ("localhost", 80),
        {"ssl_shutdown_timeout": 1},
        "ssl_shutdown_timeout is only meaningful with ssl",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_arguments_that_make_no_sense_are_refused(loop: Loop, case: str) -> None:
    args, keywords, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        loop.run_until_complete(loop.create_connection(Recorder, *args, **keywords))


@pytest.mark.parametrize("where", [("localhost", None), (None, 80), ("localhost", 80)])
def test_a_socket_and_an_address_are_refused(loop: Loop, where: tuple[Any, Any]) -> None:
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
            loop.run_until_complete(loop.create_connection(Recorder, *where, sock=sock))
        assert sock.fileno() != -1


def test_a_datagram_socket_is_refused_and_stays_open(loop: Loop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            loop.run_until_complete(loop.create_connection(Recorder, sock=sock))
        assert sock.fileno() != -1


def test_an_unknown_keyword_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError, match="colour"):
        loop.run_until_complete(loop.create_connection(Recorder, "localhost", 80, colour="red"))


def test_a_protocol_factory_that_raises_leaves_nothing_open(run: Run) -> None:
    def factory() -> asyncio.Protocol:
        raise ZeroDivisionError("mine")

    async def main() -> None:
        async with echo_server() as (address, made):
            with pytest.raises(ZeroDivisionError, match="mine"):
                await asyncio.get_running_loop().create_connection(factory, *address)
            gc.collect()
            assert await (await made.next()).lost is None

    if not ON_PINLOOP:
        pytest.skip("asyncio leaves the socket to the collector, which warns of it")
    run(main())


@only_pinloop  # asyncio reports it and keeps the connection
def test_a_connection_made_that_raises_ends_the_connection(run: Run, loop_errors: list[Any]) -> None:
    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise ZeroDivisionError("mine")

    async def main() -> None:
        async with echo_server() as (address, made):
            transport, protocol = await asyncio.get_running_loop().create_connection(Failing, *address)
            assert transport.is_closing()
            assert isinstance(await protocol.lost, ZeroDivisionError)
            assert await (await made.next()).lost is None

    run(main())
    [context] = loop_errors
    assert context["message"] == "Fatal error: protocol.connection_made() call failed."
    loop_errors.clear()


# -------------------------------------------------------------------------- cancellation --

WAYS: dict[str, dict[str, Any]] = {
    "one address": {},
    "happy eyeballs": {"happy_eyeballs_delay": 0.0},
    "local address": {"local_addr": ("127.0.0.1", 0)},
}


@only_pinloop  # asyncio loses a socket at some of these turns
@pytest.mark.parametrize("turns", range(14))
@pytest.mark.parametrize("way", WAYS)
def test_cancelled_after_any_turn_it_leaves_nothing_open(run: Run, way: str, turns: int) -> None:
    async def main(silent: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()

        async def slow_lookup(host: str, port: Any, **_: Any) -> list[tuple[Any, ...]]:
            await asyncio.sleep(0)
            return [info(silent), info(address), info(silent)] if way == "happy eyeballs" else [info(address)]

        async with echo_server() as (address, made):
            loop.getaddrinfo = slow_lookup  # type: ignore[method-assign]
            task = loop.create_task(loop.create_connection(Recorder, "a.name", 80, **WAYS[way]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                transport, protocol = await task
            except asyncio.CancelledError:
                pass
            else:  # it was done already
                await hang_up(transport, protocol)
            gc.collect()
            # What reached the server before has been hung up.
            for accepted in made:
                await accepted.lost

    with silent_address() as silent:
        run(main(silent))


@only_pinloop  # asyncio loses the winner
@pytest.mark.parametrize("turns", range(5))
def test_cancelled_while_the_losers_end_it_leaves_nothing_open(run: Run, turns: int) -> None:
    async def main(silent: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        attempts: list[asyncio.Task[Any]] = []

        def factory(loop: Loop, coro: Any, **keywords: Any) -> asyncio.Task[Any]:
            task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **keywords)
            attempts.append(task)
            if len(attempts) == 3:  # silent, silent, the one that connects
                task.add_done_callback(lambda _: cancel_after(turns))
            return task

        def cancel_after(left: int) -> None:
            if left:
                loop.call_soon(cancel_after, left - 1)
            else:
                connecting.cancel()

        async with echo_server() as (address, made):
            answer_lookups_with(loop, silent, silent, address)
            connecting = loop.create_task(
                loop.create_connection(Recorder, "a.name", 80, happy_eyeballs_delay=0.001)
            )
            loop.set_task_factory(factory)
            try:
                await hang_up(*await connecting)
            except asyncio.CancelledError:
                assert connecting.cancelled()
            loop.set_task_factory(None)
            gc.collect()
            await (await made.next()).lost
            assert all(task.done() for task in attempts)

    with silent_address() as silent:
        run(main(silent))


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
