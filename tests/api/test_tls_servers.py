"""Servers and loops that end with TLS connections."""

import asyncio
import contextlib
import gc
import socket
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import Made, Recorder, turns, unlike_asyncio
from tests.api.test_server_closing import has_close_clients
from tests.conftest import Run
from tests.tls import (
    PATIENCE,
    client_context,
    server_context,
    tls_pair,
)

MIB = 1 << 20


@has_close_clients
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_ends_its_connections(run: Run, how: str) -> None:
    async def main() -> None:
        made = Made()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(made, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        clients = []
        for _ in range(3):
            _, protocol = await loop.create_connection(
                Recorder, *address, ssl=client_context(), server_hostname="localhost"
            )
            clients.append(protocol)
            accepted = await made.next()
            (await accepted.made).write(b"written first")
            await protocol.receive(13)
        server.close()
        getattr(server, how)()
        await server.wait_closed()
        for protocol in clients:
            assert await protocol.lost is None
            assert protocol.data == b"written first"
        assert [await protocol.lost for protocol in made] == [None] * 3

    run(main())


@has_close_clients
def test_a_server_ends_handshakes_too(run: Run) -> None:
    async def main() -> None:
        made = Made()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(made, "127.0.0.1", 0, ssl=server_context())
        with socket.create_connection(server.sockets[0].getsockname(), timeout=PATIENCE) as sock:
            await made.next()
            await turns(3)
            server.close()
            server.close_clients()
            await server.wait_closed()
            assert await asyncio.to_thread(sock.recv, 100) == b""
        assert not made[0].made.done()

    run(main())


# ---------------------------------------------------------------- the end of the loop --


@unlike_asyncio("leaves its tasks to be reported")
@pytest.mark.parametrize("when", ["open", "handshaking", "closing"])
@pytest.mark.parametrize("call", ["nothing", "write", "close", "abort"])
def test_a_loop_closed_under_its_connections(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], no_fd_leak: None, when: str, call: str
) -> None:
    """They warn, the sockets are closed, and nothing crashes."""

    async def connect() -> Any:
        client, server = Recorder(), Recorder()
        if when == "handshaking":
            loop = asyncio.get_running_loop()
            await loop.create_server(
                Recorder, sock=(listener := socket.create_server(("127.0.0.1", 0))), ssl=server_context()
            )
            sock = socket.create_connection(listener.getsockname())
            await turns(5)
            return sock
        transports = await tls_pair(client, server)
        if when == "closing":
            transports[0].write(bytes(20 * MIB))
            transports[0].close()
        return transports

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = loop_factory()
        kept = loop.run_until_complete(connect())
        loop.close()
        if isinstance(kept, socket.socket):
            kept.close()
        else:
            for transport in kept:
                with contextlib.suppress(RuntimeError):
                    {"nothing": repr, "write": lambda each: each.write(b"x" * 100_000)}.get(
                        call, lambda each: getattr(each, call)()
                    )(transport)
        transport = kept = None
        gc.collect()
