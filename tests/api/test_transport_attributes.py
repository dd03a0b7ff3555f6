"""Attributes that a program sets on a transport, whatever it carries."""

import asyncio
import gc
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.api.pipes import connect_reader, connect_writer, pipe_files
from tests.api.support import Made, Recorder, address_of, only_pinloop, tcp_pair, turns
from tests.conftest import Run
from tests.tls import client_context, server_context

Opened = tuple[Any, Callable[[], object]]
"""A transport, and what closes the other end."""


async def stream() -> Opened:
    near, far = tcp_pair()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Recorder, near)
    return transport, far.close


async def datagram() -> Opened:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), family=socket.AF_INET
    )
    return transport, lambda: None


async def tls() -> Opened:
    loop = asyncio.get_running_loop()
    made = Made()
    server = await loop.create_server(made, "127.0.0.1", 0, ssl=server_context())
    transport, _ = await loop.create_connection(
        Recorder, *address_of(server), ssl=client_context(), server_hostname="localhost"
    )
    server.close()
    peer = await made.next()
    return transport, (await peer.made).abort


async def reading_pipe() -> Opened:
    reading, writing = pipe_files()
    transport, _ = await connect_reader(reading)
    return transport, writing.close


async def writing_pipe() -> Opened:
    reading, writing = pipe_files()
    transport, _ = await connect_writer(writing)
    return transport, reading.close


kinds = pytest.mark.parametrize("kind", [stream, datagram, tls, reading_pipe, writing_pipe])

Kind = Callable[[], Awaitable[Opened]]


async def gone(transport: Any, close_other_end: Callable[[], object]) -> None:
    """Close both ends, and let the loop forget them."""
    transport.abort() if hasattr(transport, "abort") else transport.close()
    close_other_end()
    await turns(5)


@kinds
def test_they_are_set_and_deleted(run: Run, kind: Kind) -> None:
    async def main() -> None:
        transport, close_other_end = await kind()
        with pytest.raises(AttributeError, match="colour"):
            _ = transport.colour
        transport.colour = "red"
        assert transport.colour == "red"
        assert vars(transport)["colour"] == "red"
        vars(transport)["weight"] = 3
        assert transport.weight == 3
        del transport.colour
        assert not hasattr(transport, "colour")
        with pytest.raises(AttributeError, match="colour"):
            del transport.colour
        await gone(transport, close_other_end)
        assert transport.weight == 3

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 calls methods sooner of what has its dict")
@only_pinloop  # every object of a Python class has its dict
@kinds
def test_who_sets_none_pays_for_none(run: Run, kind: Kind) -> None:
    def dicts(transport: Any) -> int:
        return sum(type(each) is dict for each in gc.get_referents(transport))

    async def main() -> None:
        transport, close_other_end = await kind()
        before = dicts(transport)
        transport.colour = "red"
        assert dicts(transport) == before + 1
        await gone(transport, close_other_end)

    run(main())


@kinds
def test_a_transport_that_is_its_own_attribute_is_collected(run: Run, kind: Kind) -> None:
    async def main() -> weakref.ref[Any]:
        transport, close_other_end = await kind()
        transport.me = transport
        await gone(transport, close_other_end)
        return weakref.ref(transport)

    reference = run(main())
    gc.collect()
    assert reference() is None
