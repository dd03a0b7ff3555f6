"""The end of a server: close, wait_closed, its clients, connections that nobody has accepted yet."""

import asyncio
import gc
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Echo, Made, Recorder, address_of, turns

Run = Callable[..., Any]

waits_for_clients = pytest.mark.skipif(
    sys.version_info < (3, 12, 1), reason="wait_closed() waits for the clients from 3.12.1 on"
)
has_close_clients = pytest.mark.skipif(
    sys.version_info < (3, 13) and not ON_PINLOOP, reason="asyncio: close_clients() is new in 3.13"
)


async def serve(made: Made) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)


async def connect(server: asyncio.Server, made: Made) -> tuple[asyncio.Transport, Any, Any]:
    """A client's transport and protocol, and the protocol on the server's side."""
    transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, *address_of(server))
    accepted = await made.next()
    await accepted.made
    return transport, protocol, accepted


def test_closing_refuses_new_connections(run: Run) -> None:
    async def main() -> None:
        server = await serve(Made())
        address = address_of(server)
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()
        await turns(2)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    run(main())


def test_closing_twice_is_once(run: Run) -> None:
    async def main() -> None:
        server = await serve(Made())
        server.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_closing_leaves_open_connections_alone(run: Run) -> None:
    async def main() -> bytes:
        made = Made(Echo)
        server = await serve(made)
        transport, protocol, _ = await connect(server, made)
        server.close()
        transport.write(b"still here")
        echoed: bytes = await protocol.receive(10)
        transport.close()
        await protocol.lost
        await server.wait_closed()
        return echoed

    assert run(main()) == b"still here"


def test_async_with_closes(run: Run) -> None:
    async def main() -> None:
        async with await serve(Made()) as server:
            assert server.is_serving()
        assert not server.is_serving()

    run(main())


def test_async_with_closes_after_an_exception(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with await serve(Made()) as server:
                raise ZeroDivisionError
        assert not server.is_serving()

    run(main())


def test_wait_closed_without_clients_returns_after_close(run: Run) -> None:
    async def main() -> None:
        server = await serve(Made())
        server.close()
        await asyncio.wait_for(server.wait_closed(), 10)
        await asyncio.wait_for(server.wait_closed(), 10)

    run(main())


@waits_for_clients
def test_wait_closed_waits_for_the_close(run: Run) -> None:
    async def main() -> None:
        server = await serve(Made())
        waiting = asyncio.create_task(server.wait_closed())
        await turns(5)
        assert not waiting.done()
        server.close()
        await asyncio.wait_for(waiting, 10)

    run(main())


@waits_for_clients
def test_wait_closed_waits_for_the_last_client(run: Run) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made)
        first, *_ = await connect(server, made)
        second, *_ = await connect(server, made)
        waiting = [asyncio.create_task(server.wait_closed()) for _ in range(2)]
        server.close()
        first.close()
        await made[0].lost
        await turns(5)
        assert not any(task.done() for task in waiting)
        second.close()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        await server.wait_closed()

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="as 3.11 did it")
def test_wait_closed_after_close_returns_at_once_though_clients_remain(run: Run) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made)
        transport, *_ = await connect(server, made)
        server.close()
        await asyncio.wait_for(server.wait_closed(), 10)
        assert not made[0].lost.done()
        transport.close()
        await made[0].lost

    run(main())


@waits_for_clients
def test_a_cancelled_wait_closed_does_not_disturb_the_others(run: Run) -> None:
    async def main() -> None:
        server = await serve(Made())
        one, other = (asyncio.create_task(server.wait_closed()) for _ in range(2))
        await turns(3)
        one.cancel()
        await turns(3)
        server.close()
        await asyncio.wait_for(other, 10)
        assert one.cancelled()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="serve_forever() closes the clients from 3.14 on")
def test_cancelling_serve_forever_closes_the_clients(run: Run) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made)
        transport, protocol, accepted = await connect(server, made)
        task = asyncio.create_task(server.serve_forever())
        await turns(3)
        task.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 2)
            assert await accepted.lost is None
            await protocol.lost
        finally:
            transport.abort()

    run(main())


@has_close_clients
def test_close_clients_sends_what_was_written(run: Run) -> None:
    async def main() -> int:
        made = Made()
        server = await serve(made)
        transport, protocol, accepted = await connect(server, made)
        transport.pause_reading()
        accepted.made.result().write(bytes(8_000_000))
        server.close()
        server.close_clients()
        assert accepted.made.result().is_closing()
        transport.resume_reading()
        await protocol.lost
        assert await accepted.lost is None
        await server.wait_closed()
        return len(protocol.data)

    assert run(main()) == 8_000_000


@has_close_clients
def test_abort_clients_drops_what_was_written(run: Run) -> None:
    async def main() -> int:
        made = Made()
        server = await serve(made)
        transport, protocol, accepted = await connect(server, made)
        transport.pause_reading()
        accepted.made.result().write(bytes(8_000_000))
        server.close()
        server.abort_clients()
        assert await accepted.lost is None
        await server.wait_closed()
        transport.resume_reading()
        await protocol.lost
        return len(protocol.data)

    assert run(main()) < 8_000_000


@has_close_clients
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_closing_many_clients_closes_each(run: Run, method: str) -> None:
    async def main() -> None:
        made = Made()
        async with await serve(made) as server:
            clients = [await connect(server, made) for _ in range(20)]
            getattr(server, method)()
            await asyncio.gather(*(protocol.lost for _, protocol, _ in clients))
            await asyncio.gather(*(accepted.lost for _, _, accepted in clients))
            # It goes on serving.
            transport, protocol, _ = await connect(server, made)
            transport.close()
            await protocol.lost

    run(main())


@has_close_clients
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_closing_the_clients_of_a_server_without_any_does_nothing(run: Run, method: str) -> None:
    async def main() -> None:
        async with await serve(Made()) as server:
            getattr(server, method)()

    run(main())


def test_connections_nobody_accepted_are_hung_up(run: Run) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made)
        pending = [socket.create_connection(address_of(server)) for _ in range(5)]
        server.close()
        await turns(3)
        for sock in pending:
            sock.settimeout(10)
            with sock, pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert made == []

    run(main())


def test_a_protocol_that_closes_its_server_is_the_last_to_be_made(run: Run) -> None:
    async def main() -> int:
        class Last(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                server.close()
                transport.close()

        made = Made(Last)
        server = await serve(made)
        pending = [socket.create_connection(address_of(server)) for _ in range(5)]
        await (await made.next()).lost
        await turns(3)
        for sock in pending:
            sock.close()
        return len(made)

    count = run(main())
    # asyncio has taken the whole batch off the queue by then.
    assert count == 1 or not ON_PINLOOP


def test_a_closed_server_is_not_kept_alive(run: Run) -> None:
    async def main() -> weakref.ref[Any]:
        made = Made()
        server = await serve(made)
        transport, _, accepted = await connect(server, made)
        transport.close()
        await accepted.lost
        server.close()
        await server.wait_closed()
        await turns(3)
        return weakref.ref(server)

    reference = run(main())
    gc.collect()
    assert reference() is None
