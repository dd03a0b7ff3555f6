"""create_connection that fails or is cancelled: what it says, and that nothing stays open."""

import asyncio
import contextlib
import errno
import gc
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.connects import echo_server, hang_up
from tests.api.support import (
    ON_PINLOOP,
    Recorder,
    answer_lookups_with,
    info,
    only_pinloop,
    refusing_address,
    silent_address,
)

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]

takes_all_errors = pytest.mark.skipif(
    sys.version_info < (3, 12) and not ON_PINLOOP, reason="asyncio: all_errors= is new in 3.12"
)


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
