"""create_server: what it listens on, how it begins to serve, what it refuses."""

import asyncio
import contextlib
import errno
import logging
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Echo, Made, Recorder, address_of, info, only_pinloop

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


async def talk(address: tuple[Any, ...]) -> bytes:
    """What a client gets back for what it sends."""
    transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, *address[:2])
    transport.write(b"hello")
    echoed: bytes = await protocol.receive(5)
    transport.close()
    await protocol.lost
    return echoed


async def serve(*args: Any, **options: Any) -> asyncio.Server:
    """A server that echoes."""
    return await asyncio.get_running_loop().create_server(Echo, *args, **options)


def names(server: asyncio.Server) -> list[Any]:
    return [sock.getsockname() for sock in server.sockets]


# --------------------------------------------------------------------- where it listens --


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_it_serves_on_a_host(run: Run, host: str) -> None:
    async def main() -> bytes:
        async with await serve(host, 0) as server:
            return await talk(address_of(server))

    assert run(main()) == b"hello"


def test_it_serves_on_each_of_several_hosts(run: Run) -> None:
    async def main() -> list[bytes]:
        async with await serve(["127.0.0.1", "127.0.0.2", "::1"], 0) as server:
            assert {name[0] for name in names(server)} == {"127.0.0.1", "127.0.0.2", "::1"}
            return [await talk(name) for name in names(server)]

    assert run(main()) == [b"hello"] * 3


def test_a_host_given_twice_is_one_socket(run: Run) -> None:
    async def main() -> int:
        async with await serve(["127.0.0.1", "127.0.0.1"], 0) as server:
            return len(server.sockets)

    assert run(main()) == 1


@pytest.mark.parametrize("host", [None, ""])
def test_no_host_is_every_interface_of_both_families(run: Run, host: str | None) -> None:
    async def main() -> list[bytes]:
        # A port that is free in both families: the kernel finds one for the first.
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
            port = probe.getsockname()[1]
        async with await serve(host, port) as server:
            assert {sock.family for sock in server.sockets} == {socket.AF_INET, socket.AF_INET6}
            return [await talk(("127.0.0.1", port)), await talk(("::1", port))]

    assert run(main()) == [b"hello"] * 2


def test_the_family_can_be_chosen(run: Run) -> None:
    async def main() -> set[int]:
        async with await serve(None, 0, family=socket.AF_INET6) as server:
            return {sock.family for sock in server.sockets}

    assert run(main()) == {socket.AF_INET6}


def test_port_zero_is_a_free_port(run: Run) -> None:
    async def main() -> list[int]:
        async with await serve("127.0.0.1", 0) as one, await serve("127.0.0.1", 0) as other:
            return [address_of(one)[1], address_of(other)[1]]

    one, other = run(main())
    assert one > 0
    assert other > 0
    assert one != other


def test_a_socket_may_be_given(run: Run) -> None:
    async def main() -> bytes:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with await serve(sock=sock) as server:
            return await talk(address_of(server))

    assert run(main()) == b"hello"


def test_a_socket_that_listens_already_may_be_given(run: Run) -> None:
    async def main() -> bytes:
        async with await serve(sock=socket.create_server(("127.0.0.1", 0))) as server:
            return await talk(address_of(server))

    assert run(main()) == b"hello"


def test_a_connection_that_waited_before_it_served_is_accepted(run: Run) -> None:
    async def main() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        early = socket.create_connection(listener.getsockname())
        early.sendall(b"early")
        async with await serve(sock=listener):
            early.setblocking(False)
            echoed = await asyncio.to_thread(early_answer, early)
        early.close()
        return echoed

    def early_answer(sock: socket.socket) -> bytes:
        sock.settimeout(10)
        answer = sock.recv(5)
        sock.close()
        return answer

    assert run(main()) == b"early"


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
def test_two_servers_share_a_port_with_reuse_port(run: Run) -> None:
    async def main() -> list[bytes]:
        async with await serve("127.0.0.1", 0, reuse_port=True) as one:
            address = address_of(one)
            async with await serve(*address, reuse_port=True) as other:
                assert address_of(other) == address
                return [await talk(address) for _ in range(20)]

    assert run(main()) == [b"hello"] * 20


@pytest.mark.parametrize(
    ("options", "option", "expected"),
    [
        ({}, socket.SO_REUSEADDR, True),
        ({"reuse_address": False}, socket.SO_REUSEADDR, False),
        ({"reuse_port": True}, socket.SO_REUSEPORT, True),
        ({}, socket.SO_REUSEPORT, False),
        ({"keep_alive": True}, socket.SO_KEEPALIVE, True),
        ({}, socket.SO_KEEPALIVE, False),
    ],
)
def test_options_reach_the_socket(run: Run, options: dict[str, Any], option: int, expected: bool) -> None:
    if "keep_alive" in options and sys.version_info < (3, 13) and not ON_PINLOOP:
        pytest.skip("asyncio: keep_alive= is new in 3.13")

    async def main() -> bool:
        async with await serve("127.0.0.1", 0, **options) as server:
            return bool(server.sockets[0].getsockopt(socket.SOL_SOCKET, option))

    assert run(main()) is expected


def test_backlog_reaches_the_socket(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Socket(socket.socket):
        def listen(self, backlog: int = 0) -> None:
            seen.append(backlog)
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Socket)

    async def main() -> None:
        async with await serve("127.0.0.1", 0), await serve("127.0.0.1", 0, backlog=7):
            pass

    run(main())
    assert 100 in seen
    assert 7 in seen


# ---------------------------------------------------------------------- when it serves --


def test_start_serving_false_waits_for_start_serving(run: Run) -> None:
    async def main() -> bytes:
        async with await serve("127.0.0.1", 0, start_serving=False) as server:
            address = address_of(server)
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await talk(address)
            await server.start_serving()
            assert server.is_serving()
            return await talk(address)

    assert run(main()) == b"hello"


def test_start_serving_twice_is_once(run: Run) -> None:
    async def main() -> bytes:
        async with await serve("127.0.0.1", 0) as server:
            await server.start_serving()
            await server.start_serving()
            return await talk(address_of(server))

    assert run(main()) == b"hello"


def test_serve_forever_starts_to_serve(run: Run) -> None:
    async def main() -> bytes:
        server = await serve("127.0.0.1", 0, start_serving=False)
        address = address_of(server)
        task = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        echoed = await talk(address)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()
        return echoed

    assert run(main()) == b"hello"


def test_closing_ends_serve_forever(run: Run) -> None:
    async def main() -> None:
        server = await serve("127.0.0.1", 0)
        task = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_serve_forever_once_at_a_time(run: Run) -> None:
    async def main() -> None:
        async with await serve("127.0.0.1", 0) as server:
            task = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
                await server.serve_forever()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_serve_forever_on_a_closed_server_is_an_error(run: Run) -> None:
    async def main() -> None:
        server = await serve("127.0.0.1", 0)
        server.close()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    run(main())


# -------------------------------------------------------------------- what it tells of itself --


def test_it_knows_its_loop_and_is_an_abstract_server(run: Run) -> None:
    async def main() -> None:
        async with await serve("127.0.0.1", 0) as server:
            assert server.get_loop() is asyncio.get_running_loop()
            assert isinstance(server, asyncio.AbstractServer)

    run(main())


def test_its_repr_shows_the_sockets_until_it_is_closed(run: Run) -> None:
    async def main() -> None:
        async with await serve("127.0.0.1", 0) as server:
            assert re.match(r"<Server sockets=\(<asyncio\.TransportSocket fd=\d+", repr(server))
            assert str(address_of(server)) in repr(server)
        assert repr(server) == "<Server sockets=()>"

    run(main())


def test_its_sockets_cannot_be_used_behind_its_back(run: Run) -> None:
    async def main() -> None:
        async with await serve("127.0.0.1", 0) as server:
            assert isinstance(server.sockets, tuple)
            assert not hasattr(server.sockets[0], "accept")
        assert server.sockets == ()

    run(main())


# ---------------------------------------------------------------------------- what fails --


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_an_error_that_names_host_and_port(run: Run, host: str) -> None:
    async def main() -> None:
        async with await serve(host, 0) as server:
            address = server.sockets[0].getsockname()
            with pytest.raises(OSError, match=re.escape(f"bind on address {address!r}: ")) as caught:
                await serve(*address[:2])
            assert caught.value.errno == errno.EADDRINUSE
            assert "address already in use" in str(caught.value)

    run(main())


def test_a_port_in_use_on_one_host_leaves_no_other_open(run: Run) -> None:
    async def main() -> None:
        async with await serve("127.0.0.2", 0) as server:
            port = address_of(server)[1]
            with pytest.raises(OSError, match="address already in use"):
                await serve(["127.0.0.1", "127.0.0.2"], port)
            async with await serve("127.0.0.1", port):
                pass

    run(main())


@only_pinloop  # asyncio's error does not say which port
def test_a_port_taken_after_the_bind_is_an_error_that_names_it_too(run: Run) -> None:
    async def main() -> None:
        # Two may bind with SO_REUSEADDR; the second to listen fails.
        async with await serve("127.0.0.1", 0, start_serving=False) as late:
            address = address_of(late)
            async with await serve(*address):
                with pytest.raises(OSError, match=re.escape(str(address))) as caught:
                    await late.start_serving()
                assert caught.value.errno == errno.EADDRINUSE
                assert not late.is_serving()

    run(main())


@only_pinloop  # asyncio says that it serves, and takes what comes to the first
def test_a_start_that_fails_half_way_is_undone(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.2", 0)) as probe:
            port = probe.getsockname()[1]
        async with await serve(["127.0.0.1", "127.0.0.2"], port, start_serving=False) as late:
            async with await serve("127.0.0.2", port):
                with pytest.raises(OSError, match=r"(?i)address already in use"):
                    await late.start_serving()
            assert not late.is_serving()
            await late.start_serving()
            assert [await talk(name) for name in names(late)] == [b"hello"] * 2

    run(main())


def test_an_address_that_is_not_here_is_an_error_that_names_it(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"203\.0\.113\.7"):
            await serve("203.0.113.7", 0)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13) and not ON_PINLOOP, reason="asyncio: an error before 3.13")
def test_an_address_that_is_not_here_is_passed_over_if_another_is(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[Any]:
        async with await serve(["203.0.113.7", "127.0.0.1"], 0) as server:
            return [name[0] for name in names(server)]

    assert run(main()) == ["127.0.0.1"]
    if ON_PINLOOP:  # asyncio says it in debug mode only
        assert [r.levelno for r in caplog.records if "203.0.113.7" in r.getMessage()] == [logging.WARNING]


def test_a_name_that_does_not_resolve_is_an_error(loop: Loop) -> None:
    async def main() -> None:
        await serve("localhost", 0, flags=socket.AI_NUMERICHOST)

    with pytest.raises(socket.gaierror):
        loop.run_until_complete(main())


@pytest.mark.parametrize("where", [("localhost", None), (None, 0), ("localhost", 0)])
def test_a_socket_and_an_address_are_refused(loop: Loop, where: tuple[Any, Any]) -> None:
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
            loop.run_until_complete(loop.create_server(Echo, *where, sock=sock))
        assert sock.fileno() != -1


def test_neither_a_socket_nor_an_address_is_refused(loop: Loop) -> None:
    with pytest.raises(ValueError, match="Neither host/port nor sock were specified"):
        loop.run_until_complete(loop.create_server(Echo))


def test_a_datagram_socket_is_refused(loop: Loop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            loop.run_until_complete(loop.create_server(Echo, sock=sock))
        assert sock.fileno() != -1


def test_tls_given_as_a_bool_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
        loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0, ssl=True))


@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_options_of_tls_without_tls_are_refused(loop: Loop, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} is only meaningful with ssl"):
        loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0, **{option: 1.0}))


def test_cancelled_while_it_looks_up_it_leaves_nothing_open(loop: Loop) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        return [info(("127.0.0.1", 0))]

    async def main(turns: int) -> None:
        task = asyncio.create_task(serve("a.name", 0))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).close()

    if not ON_PINLOOP:
        pytest.skip("asyncio leaves a bound socket to the collector")
    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    for turns in range(8):
        loop.run_until_complete(main(turns))


@pytest.mark.parametrize("kind", [ZeroDivisionError, asyncio.CancelledError])
def test_a_protocol_factory_that_raises_costs_that_connection_only(
    run: Run, loop_errors: list[Any], kind: type[BaseException]
) -> None:
    async def main() -> bytes:
        made = Made(Echo)
        fails = [kind("mine")]

        def factory() -> Any:
            if fails:
                raise fails.pop()
            return made()

        async with await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*address_of(server))
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return await talk(address_of(server))

    if not ON_PINLOOP:
        pytest.skip("asyncio leaves the socket to the collector, which warns of it")
    assert run(main()) == b"hello"
    [context] = loop_errors
    assert context["message"] == "Error on transport creation for incoming connection"
    assert type(context["exception"]) is kind
    loop_errors.clear()
