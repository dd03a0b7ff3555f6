"""Happy eyeballs (RFC 8305): attempts that overlap, the order of the addresses, the end of the losers."""

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

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

LONG = 3600.0


@pytest.fixture
def silent() -> Iterator[tuple[Any, ...]]:
    with silent_address() as address:
        yield address


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield listener


async def connect(*addresses: tuple[Any, ...], **options: Any) -> Any:
    """Connect to a name with these addresses; the address that was taken."""
    loop = asyncio.get_running_loop()
    answer_lookups_with(loop, *addresses)
    transport, protocol = await loop.create_connection(Recorder, "a.name", 80, **options)
    peer = transport.get_extra_info("peername")
    transport.close()
    await protocol.lost
    return peer


def test_an_address_that_is_silent_does_not_hold_up_the_next(
    run: Run, silent: tuple[Any, ...], listener: socket.socket
) -> None:
    address = listener.getsockname()
    assert run(connect(silent, address, happy_eyeballs_delay=0.005)) == address


def test_without_a_delay_a_silent_address_is_waited_for(
    run: Run, silent: tuple[Any, ...], listener: socket.socket
) -> None:
    with pytest.raises(TimeoutError):
        run(asyncio.wait_for(connect(silent, listener.getsockname()), 0.05))


def test_a_refusal_starts_the_next_attempt_at_once(run: Run, listener: socket.socket) -> None:
    address = listener.getsockname()
    attempt = connect(refusing_address(), refusing_address(), address, happy_eyeballs_delay=LONG)
    assert run(asyncio.wait_for(attempt, 10)) == address


def test_the_first_address_has_the_delay_for_itself(run: Run, listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as second:
        attempt = connect(listener.getsockname(), second.getsockname(), happy_eyeballs_delay=LONG)
        assert run(asyncio.wait_for(attempt, 10)) == listener.getsockname()
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.accept()


def test_several_silent_addresses_are_closed_when_one_wins(
    run: Run, silent: tuple[Any, ...], listener: socket.socket
) -> None:
    # The fixture of `run` looks for descriptors left open.
    address = listener.getsockname()
    assert run(connect(silent, silent, silent, address, silent, happy_eyeballs_delay=0.002)) == address


def test_losers_that_connected_too_are_closed(run: Run, listener: socket.socket) -> None:
    address = listener.getsockname()
    assert run(connect(*[address] * 8, happy_eyeballs_delay=0)) == address
    listener.setblocking(False)
    accepted = []
    try:
        while True:
            accepted.append(listener.accept()[0])
    except BlockingIOError:
        pass
    for sock in accepted:
        sock.settimeout(10)
        assert sock.recv(1) == b""
        sock.close()
    assert accepted


def test_no_task_is_left_behind(run: Run, silent: tuple[Any, ...], listener: socket.socket) -> None:
    async def main() -> set[Any]:
        await connect(silent, silent, listener.getsockname(), happy_eyeballs_delay=0.002)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert run(main()) == set()


def test_when_all_refuse_each_refusal_is_named(run: Run) -> None:
    addresses = [refusing_address() for _ in range(3)]
    with pytest.raises(OSError, match="Multiple exceptions: ") as caught:
        run(connect(*addresses, happy_eyeballs_delay=LONG))
    assert all(str(address) in str(caught.value) for address in addresses)


def test_a_single_address_needs_no_race(run: Run) -> None:
    address = refusing_address()
    with pytest.raises(ConnectionRefusedError):
        run(connect(address, happy_eyeballs_delay=0.1))


@pytest.mark.skipif(sys.version_info < (3, 14) and not ON_PINLOOP, reason="asyncio: a turn later before 3.14")
def test_cancelled_it_ends_every_attempt_before_it_ends_itself(run: Run, silent: tuple[Any, ...]) -> None:
    async def main() -> set[Any]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await connect(silent, silent, silent, happy_eyeballs_delay=0.001)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert run(main()) == set()


@only_pinloop  # asyncio swallows what is no OSError, and goes on
def test_an_error_that_is_no_oserror_ends_it(run: Run, silent: tuple[Any, ...]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
            return [info(silent), info(("127.0.0.1", 70_000))]

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
        await loop.create_connection(Recorder, "a.name", 80, happy_eyeballs_delay=0.001)

    with pytest.raises(OverflowError):
        run(main())


# ---------------------------------------------------------------------- order of attempts --


def attempts(loop: Loop, addresses: list[tuple[Any, ...]], **options: Any) -> list[tuple[Any, ...]]:
    """The addresses in the order in which they are tried; all refuse."""
    tried: list[tuple[Any, ...]] = []

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            tried.append(address[:2])
            raise ConnectionRefusedError(f"refused by the test: {address}")

    answer_lookups_with(loop, *addresses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Socket)
        with pytest.raises(OSError, match="refused by the test"):
            loop.run_until_complete(loop.create_connection(Recorder, "a.name", 80, **options))
    return tried


A, B, C, D = (("::1", n) for n in (1, 2, 3, 4))
W, X, Y, Z = (("127.0.0.1", n) for n in (1, 2, 3, 4))


def test_without_happy_eyeballs_the_order_is_the_lookups(loop: Loop) -> None:
    assert attempts(loop, [A, B, C, W, X]) == [A, B, C, W, X]


def test_with_happy_eyeballs_the_families_alternate(loop: Loop) -> None:
    assert attempts(loop, [A, B, C, W, X], happy_eyeballs_delay=LONG) == [A, W, B, X, C]


def test_the_family_that_came_first_leads(loop: Loop) -> None:
    assert attempts(loop, [W, A, X, B], happy_eyeballs_delay=LONG) == [W, A, X, B]
    assert attempts(loop, [W, X, Y, Z, A], happy_eyeballs_delay=LONG) == [W, A, X, Y, Z]


@pytest.mark.parametrize(
    ("first", "expected"),
    [(1, [A, W, B, X, C, D]), (2, [A, B, W, C, X, D]), (3, [A, B, C, W, D, X]), (9, [A, B, C, D, W, X])],
)
def test_interleave_says_how_many_of_the_first_family_lead(
    loop: Loop, first: int, expected: list[tuple[Any, ...]]
) -> None:
    assert attempts(loop, [A, B, C, D, W, X], interleave=first) == expected
    assert attempts(loop, [A, B, C, D, W, X], interleave=first, happy_eyeballs_delay=LONG) == expected


def test_interleave_zero_keeps_the_order(loop: Loop) -> None:
    assert attempts(loop, [A, B, W], interleave=0, happy_eyeballs_delay=LONG) == [A, B, W]
