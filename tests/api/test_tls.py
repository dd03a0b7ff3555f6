"""TLS connections: the handshake, who is trusted, and what a transport tells of it."""

import asyncio
import contextvars
import socket
import ssl
import sys
from asyncio.trsock import TransportSocket
from typing import Any

import pytest

from tests.api.support import (
    ON_PINLOOP,
    Echo,
    Made,
    Recorder,
    only_pinloop,
    refusing_address,
    tcp_pair,
    unlike_asyncio,
)
from tests.conftest import Run
from tests.tls import (
    TLS_1_2,
    TLS_1_3,
    BlockingPeer,
    accept_peer,
    both_versions,
    certificate,
    client_context,
    connect_peer,
    listening,
    no_alerts,
    server_context,
    serving,
    tls_pair,
)


def told(protocol: Recorder) -> Any:
    """The transport that connection_made brought."""
    return protocol.made.result()


# ------------------------------------------------------------ shaking hands --


@both_versions
def test_a_client_of_the_ssl_modules_server(run: Run, version: ssl.TLSVersion) -> None:
    def serve(listener: socket.socket) -> tuple[bytes, str | None]:
        with accept_peer(listener) as peer:
            got = peer.read_exactly(5)
            peer.write(b"there")
            peer.close_notify()
            peer.at_end()
            return got, peer.tls.version()

    async def main() -> None:
        with listening() as listener:
            peer = asyncio.create_task(asyncio.to_thread(serve, listener))
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder,
                *listener.getsockname(),
                ssl=client_context(version=version),
                server_hostname="localhost",
            )
            assert told(protocol) is transport
            transport.write(b"hello")
            assert await protocol.lost is None
            assert protocol.data == b"there"
            assert await peer == (b"hello", version.name.replace("_", "."))

    run(main())


@both_versions
def test_a_server_of_the_ssl_modules_client(run: Run, version: ssl.TLSVersion) -> None:
    def ask(address: Any) -> tuple[bytes, bytes, str | None]:
        with connect_peer(address) as peer:
            peer.write(b"hello")
            first = peer.read_exactly(5)
            peer.close_notify()
            return first, peer.read_all(), peer.tls.version()

    async def main() -> None:
        made = Made(Echo)
        async with serving(made, server_context(version=version)) as address:
            answer = await asyncio.to_thread(ask, address)
            assert answer == (b"hello", b"", version.name.replace("_", "."))
            protocol = await made.next()
            assert await protocol.lost is None
            assert protocol.eof.done()

    run(main())


@both_versions
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_both_ends_on_the_loop(run: Run, version: ssl.TLSVersion, host: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = Made(Echo)
        server = await loop.create_server(made, host, 0, ssl=server_context())
        address = server.sockets[0].getsockname()[:2]
        context = client_context(version=version)
        transport, protocol = await loop.create_connection(Recorder, *address, ssl=context)
        transport.write(b"over and out")
        assert await protocol.receive(12) == b"over and out"
        transport.close()
        assert await protocol.lost is None
        accepted = await made.next()
        assert await accepted.lost is None
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize(("offered", "agreed"), [(["h2", "http/1.1"], "h2"), (["spdy"], None), ([], None)])
def test_alpn(run: Run, offered: list[str], agreed: str | None) -> None:
    async def main() -> None:
        of_client, of_server = client_context(), server_context()
        of_server.set_alpn_protocols(["h2", "http/1.1"])
        if offered:
            of_client.set_alpn_protocols(offered)
        client, server = Recorder(), Recorder()
        transports = await tls_pair(client, server, of_client=of_client, of_server=of_server)
        for transport in transports:
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
        transports[0].close()
        await client.lost
        await server.lost

    run(main())


@both_versions
def test_an_sni_callback_that_switches_the_context(run: Run, version: ssl.TLSVersion) -> None:
    names: list[str | None] = []
    of_server = server_context()
    other = server_context("other.example.org")

    def choose(ssl_object: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        names.append(name)
        assert context is of_server
        if name == "other.example.org":
            ssl_object.context = other

    async def main() -> None:
        of_server.sni_callback = choose  # type: ignore[assignment]
        for name in ("localhost", "other.example.org"):
            client, server = Recorder(), Echo()
            transport, _ = await tls_pair(
                client,
                server,
                of_client=client_context(version=version),
                of_server=of_server,
                server_hostname=name,
            )
            assert ("DNS", name) in transport.get_extra_info("peercert")["subjectAltName"]
            transport.write(b"x" * 100_000)
            assert len(await client.receive(100_000)) == 100_000
            transport.close()
            await client.lost
            await server.lost
        of_server.sni_callback = None  # type: ignore[assignment]

    run(main())
    assert names == ["localhost", "other.example.org"]


@no_alerts
@pytest.mark.parametrize("answer", ["alert", "raise"])
def test_an_sni_callback_that_refuses(run: Run, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_value))

    def refuse(*_: Any) -> int:
        if answer == "raise":
            raise LookupError("no such host")
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    async def main() -> None:
        of_server = server_context()
        of_server.sni_callback = refuse
        made = Made()
        async with serving(made, of_server) as address:
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name|handshake.failure|internal.error"):
                await asyncio.to_thread(connect_peer, address)
        assert not made[0].made.done()
        of_server.sni_callback = None  # type: ignore[assignment]

    run(main())
    assert [type(exc) for exc in unraisable] == ([LookupError] if answer == "raise" else [])


# ------------------------------------------------------------- what a call may ask --


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"server_hostname": "localhost"}, ValueError, "server_hostname is only meaningful with ssl"),
        ({"ssl_handshake_timeout": 1}, ValueError, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, ValueError, "ssl_shutdown_timeout is only meaningful with ssl"),
    ],
)
def test_options_of_a_client_that_make_no_sense(
    run: Run, options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Made(), "127.0.0.1", 0)
        async with server:
            with pytest.raises(error, match=reason):
                await asyncio.get_running_loop().create_connection(
                    Recorder, *server.sockets[0].getsockname(), **options
                )

    run(main())


@unlike_asyncio("finds out once it is connected, and leaves the socket open")
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("seconds", [0, -0.1, float("nan")])
def test_timeouts_are_positive(run: Run, option: str, seconds: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {option: seconds}
        with pytest.raises(ValueError, match=f"{option} should be a positive number"):
            await loop.create_connection(Recorder, *refusing_address(), ssl=True, **options)
        with pytest.raises(ValueError, match=f"{option} should be a positive number"):
            await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context(), **options)

    run(main())


@unlike_asyncio("finds out once it is connected, and leaves the socket open")
@pytest.mark.parametrize("option", ["please", 1])
def test_what_is_no_context(run: Run, option: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.create_connection(Recorder, *refusing_address(), ssl=option)
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.create_server(Recorder, "127.0.0.1", 0, ssl=option)

    run(main())


@pytest.mark.parametrize("ssl_option", [client_context, lambda: True], ids=["a context", "True"])
def test_a_socket_says_no_name(run: Run, ssl_option: Any) -> None:
    async def main() -> None:
        first, second = tcp_pair()
        with first, second, pytest.raises(ValueError, match="You must set server_hostname"):
            await asyncio.get_running_loop().create_connection(Recorder, sock=first, ssl=ssl_option())

    run(main())


def test_a_server_has_no_default_context(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="SSLContext"):
            await asyncio.get_running_loop().create_server(Made(), "127.0.0.1", 0, ssl=True)

    run(main())


def test_an_ssl_socket_is_refused(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        plain = socket.socket()
        with client_context().wrap_socket(plain, server_hostname="localhost") as wrapped:
            with pytest.raises(TypeError, match="SSLSocket"):
                await loop.create_connection(Recorder, sock=wrapped)
            with pytest.raises(TypeError, match="SSLSocket"):
                await loop.connect_accepted_socket(Recorder, wrapped)

    run(main())


# ----------------------------------------------------------------- what is told --


@both_versions
def test_extra_info(run: Run, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        of_client, of_server = client_context(version=version), server_context()
        transport, accepted = await tls_pair(client, server, of_client=of_client, of_server=of_server)
        for each, context in ((transport, of_client), (accepted, of_server)):
            info = each.get_extra_info
            assert info("sslcontext") is context
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert info("ssl_object").version() == version.name.replace("_", ".")
            assert info("cipher") == info("ssl_object").cipher()
            assert len(info("cipher")) == 3
            assert info("compression", "none") is None
            assert isinstance(info("socket"), TransportSocket)
            assert info("sockname") == info("socket").getsockname()
            assert info("peername") == info("socket").getpeername()
            assert info("nothing") is None
            assert info("nothing", 5) == 5
        assert transport.get_extra_info("peername") == accepted.get_extra_info("sockname")
        assert ("DNS", "localhost") in transport.get_extra_info("peercert")["subjectAltName"]
        assert not accepted.get_extra_info("peercert", "anything")
        transport.close()
        await client.lost
        await server.lost
        # What was known once is known still.
        assert transport.get_extra_info("peercert")["subject"]
        assert transport.get_extra_info("cipher")

    run(main())


def test_what_a_transport_is(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, accepted = await tls_pair(client, server)
        for each, protocol in ((transport, client), (accepted, server)):
            assert isinstance(each, asyncio.Transport)
            assert each.get_protocol() is protocol
            assert not each.is_closing()
            assert each.is_reading()
            assert each.can_write_eof() is False
            with pytest.raises(NotImplementedError):
                each.write_eof()
        transport.close()
        assert transport.is_closing()
        await client.lost
        await server.lost
        assert accepted.is_closing()

    run(main())


@unlike_asyncio("delivers what resume_reading lets go in its caller's context")
def test_every_callback_keeps_the_connections_context(run: Run) -> None:
    name = contextvars.ContextVar("name", default="nobody")
    seen: list[tuple[str, str]] = []

    class Watching(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(("made", name.get()))
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            seen.append(("data", name.get()))
            super().data_received(data)

        def eof_received(self) -> bool | None:
            seen.append(("eof", name.get()))
            return super().eof_received()

        def pause_writing(self) -> None:
            seen.append(("pause", name.get()))

        def resume_writing(self) -> None:
            seen.append(("resume", name.get()))

        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(("lost", name.get()))
            super().connection_lost(exc)

    async def main() -> None:
        name.set("the connection's")
        client, server = Watching(), Recorder()
        transport, accepted = await tls_pair(client, server)
        name.set("somebody else's")
        transport.write(bytes(20 << 20))
        transport.pause_reading()
        accepted.write(b"data")
        accepted.close()
        transport.resume_reading()
        await client.lost
        await server.lost

    async def apart() -> None:
        await asyncio.create_task(main())

    run(apart())
    assert {told for told, _ in seen} >= {"made", "data", "eof", "lost"}
    assert ("pause" in [told for told, _ in seen]) is ON_PINLOOP
    assert {who for _, who in seen} == {"the connection's"}


# ------------------------------------------------------------- after the handshake --


@only_pinloop  # asyncio has no way to say which
def test_the_engine_in_use() -> None:
    from pinloop import _core

    assert _core.tls_engine_name() in ("openssl", "memory")


def test_sessions_are_resumed(run: Run) -> None:
    """The tickets that TLS 1.3 sends after the handshake reach the client, and are worth something."""

    def ask(address: Any) -> tuple[bool | None, bool | None]:
        context = client_context(version=TLS_1_3)
        with connect_peer(address, context) as first:
            first.write(b"x")
            first.read_exactly(1)
            session = first.tls.session
            first.close_notify()
        plain = socket.create_connection(address)
        with BlockingPeer(plain, context) as second:
            second.tls.session = session
            second.handshake()
            second.write(b"y")
            second.read_exactly(1)
            second.close_notify()
            return first.tls.session_reused, second.tls.session_reused

    async def main() -> None:
        async with serving(Made(Echo)) as address:
            assert await asyncio.to_thread(ask, address) == (False, True)

    run(main())


@no_alerts
def test_versions_that_do_not_meet(run: Run) -> None:
    async def main() -> None:
        made = Made()
        async with serving(made, server_context(version=TLS_1_3)) as address:
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
                await asyncio.get_running_loop().create_connection(
                    Recorder, *address, ssl=client_context(version=TLS_1_2), server_hostname="localhost"
                )

    run(main())


def test_certificates_are_made_once() -> None:
    assert certificate("localhost") is certificate("localhost")
