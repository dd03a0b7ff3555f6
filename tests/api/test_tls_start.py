"""start_tls: TLS on a connection that began without, from either end, whatever is under way by then."""

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Echo, Made, Recorder, tcp_pair, unlike_asyncio
from tests.conftest import Run
from tests.tls import (
    PATIENCE,
    BlockingPeer,
    both_versions,
    client_context,
    pattern,
    reset,
    server_context,
)

MIB = 1 << 20


async def plain_pair(near: Any, far: Any) -> tuple[asyncio.Transport, asyncio.Transport]:
    """Two transports of the running loop, connected by TCP without TLS."""
    loop = asyncio.get_running_loop()
    first, second = tcp_pair()
    one, _ = await loop.connect_accepted_socket(lambda: near, first)
    other, _ = await loop.connect_accepted_socket(lambda: far, second)
    return one, other


async def plain_and_peer(protocol: Any) -> tuple[asyncio.Transport, socket.socket]:
    """A transport without TLS, and the blocking socket at the other end."""
    near, far = tcp_pair()
    far.settimeout(PATIENCE)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, near)
    return transport, far


async def upgrade(
    client: tuple[asyncio.Transport, Any], server: tuple[asyncio.Transport, Any], **of_client: Any
) -> tuple[asyncio.Transport, asyncio.Transport]:
    """start_tls on both ends, each a transport and its protocol."""
    loop = asyncio.get_running_loop()
    first, second = await asyncio.gather(
        loop.start_tls(*client, client_context(**of_client), server_hostname="localhost"),
        loop.start_tls(*server, server_context(), server_side=True),
    )
    assert first is not None and second is not None
    return first, second


# ------------------------------------------------------------------ it goes well --


@both_versions
def test_both_ends(run: Run, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        near, far = await plain_pair(client, server)
        near.write(b"plain")
        assert await server.receive(5) == b"plain"
        first, second = await upgrade((near, client), (far, server), version=version)
        for transport, protocol, below in ((first, client, near), (second, server, far)):
            assert transport is not below
            assert transport.get_protocol() is protocol
            assert transport.get_extra_info("peername") == below.get_extra_info("peername")
            assert transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        first.write(b"secret")
        second.write(b"answer")
        assert await server.receive(11) == b"plainsecret"
        assert await client.receive(6) == b"answer"
        second.close()
        assert await client.lost is None
        assert await server.lost is None
        assert client.eof.done()
        assert near.is_closing() and far.is_closing()

    run(main())


@pytest.mark.parametrize("server_side", [False, True])
def test_with_the_ssl_module_at_the_other_end(run: Run, server_side: bool) -> None:
    def answer(sock: socket.socket) -> bytes:
        context = client_context() if server_side else server_context()
        with BlockingPeer(sock, context, server_side=not server_side) as peer:
            peer.handshake()
            got = peer.read_exactly(4)
            peer.write(b"pong")
            peer.close_notify()
            peer.at_end()
            return got

    async def main() -> None:
        protocol = Recorder()
        transport, sock = await plain_and_peer(protocol)
        other = asyncio.create_task(asyncio.to_thread(answer, sock))
        context = server_context() if server_side else client_context()
        secure = await asyncio.get_running_loop().start_tls(
            transport,
            protocol,
            context,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )
        assert secure is not None
        secure.write(b"ping")
        assert await protocol.receive(4) == b"pong"
        assert await other == b"ping"
        assert await protocol.lost is None

    run(main())


def test_another_protocol_may_take_over(run: Run) -> None:
    """connection_made is not called: it is connected already."""

    async def main() -> None:
        client, server, following = Recorder(), Echo(), Recorder()
        near, far = await plain_pair(client, server)
        first, second = await upgrade((near, following), (far, server))
        server.made = asyncio.get_running_loop().create_future()
        server.made.set_result(second)
        first.write(b"to whom?")
        assert await following.receive(8) == b"to whom?"
        assert not following.made.done()
        first.close()
        assert await following.lost is None
        assert await server.lost is None
        assert not client.lost.done()

    run(main())


def read_plain(sock: socket.socket, size: int) -> bytes:
    """So many bytes, and not one of what follows."""
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 16))
        assert part
        data += part
    return bytes(data)


class Pressed(Recorder):
    """Notes what it is told of its buffer."""

    told = ""

    def pause_writing(self) -> None:
        self.told += "pause "

    def resume_writing(self) -> None:
        self.told += "resume "


@unlike_asyncio("loses the resume_writing that the transport below owes")
@pytest.mark.parametrize("limits", [(None, None), (20 * MIB, 1), (0, 0)])
def test_bytes_written_before_leave_before(run: Run, limits: tuple[Any, Any]) -> None:
    """The handshake waits until the kernel has taken them, and a writer that was paused goes on after it."""
    plain = pattern(10 * MIB)

    def answer(sock: socket.socket) -> tuple[bytes, bytes]:
        got = read_plain(sock, len(plain))
        with BlockingPeer(sock, server_context(), server_side=True) as peer:
            peer.handshake()
            secret = peer.read_exactly(6)
            peer.write(b"so long")
            peer.read_exactly(3 * MIB)
            peer.close_notify()
            peer.at_end()
            return got, secret

    async def main() -> None:
        protocol = Pressed()
        transport, sock = await plain_and_peer(protocol)
        transport.set_write_buffer_limits(*limits)
        transport.write(plain)
        told = protocol.told
        starting = asyncio.create_task(
            asyncio.get_running_loop().start_tls(
                transport, protocol, client_context(), server_hostname="localhost"
            )
        )
        await asyncio.sleep(0)
        other = asyncio.create_task(asyncio.to_thread(answer, sock))
        secure = await starting
        assert secure is not None
        assert protocol.told == (told + "resume " if told else "")
        secure.write(b"secret")
        assert await protocol.receive(7) == b"so long"
        secure.write(bytes(3 * MIB))
        assert await other == (plain, b"secret")
        assert await protocol.lost is None
        assert protocol.told.split() == ["pause", "resume"] * (len(protocol.told.split()) // 2)

    run(main())


def test_plain_bytes_each_way_and_then_tls_at_once(run: Run) -> None:
    """What the peer wrote before it began is in the socket with the plain bytes, and is not lost."""

    async def main() -> None:
        client, server = Recorder(), Recorder()
        near, far = await plain_pair(client, server)
        for i in range(20):
            near.write(b"%2d" % i)
            far.write(b"%2d" % i)
        await client.receive(40)
        await server.receive(40)
        first, second = await upgrade((near, client), (far, server))
        data = pattern(MIB)
        first.write(data)
        second.write(data)
        assert (await server.receive(MIB + 40))[40:] == data
        assert (await client.receive(MIB + 40))[40:] == data
        first.close()
        await client.lost
        await server.lost

    run(main())


def test_tls_within_tls(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Echo()
        near, far = await plain_pair(client, server)
        transports = [(near, far)]
        for _ in range(3):
            transports.append(await upgrade((transports[-1][0], client), (transports[-1][1], server)))
        first, second = transports[-1]
        server.made = asyncio.get_running_loop().create_future()
        server.made.set_result(second)
        data = pattern(3 * MIB)
        first.write(data)
        assert await client.receive(len(data)) == data
        assert first.get_extra_info("peername") == near.get_extra_info("peername")
        first.close()
        assert await client.lost is None
        assert await server.lost is None
        for each in transports:
            assert each[0].is_closing() and each[1].is_closing()

    run(main())


def test_tls_through_a_proxys_tls(run: Run) -> None:
    """As a client does with an HTTPS proxy: CONNECT within TLS, then TLS within it."""

    async def main() -> None:
        made = Made(Recorder)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(made, "127.0.0.1", 0, ssl=server_context())
        outer, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        accepted = await made.next()
        outer.write(b"CONNECT")
        assert await accepted.receive(7) == b"CONNECT"
        inner, far = await upgrade((outer, protocol), (accepted.made.result(), accepted))
        inner.write(b"GET /")
        assert await accepted.receive(12) == b"CONNECTGET /"
        far.close()
        assert await accepted.lost is None
        assert await protocol.lost is None
        server.close()
        await server.wait_closed()

    run(main())


# --------------------------------------------------------------- it does not go well --


def test_what_cannot_be_upgraded(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        client, server = Recorder(), Recorder()
        near, far = await plain_pair(client, server)
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.start_tls(near, client, None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.start_tls(near, client, True)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is not supported by start_tls"):
            await loop.start_tls(asyncio.Transport(), client, client_context())
        with pytest.raises(TypeError, match="is not supported by start_tls"):
            await loop.start_tls(None, client, client_context())  # type: ignore[arg-type]
        near.write(b"unharmed")
        assert await server.receive(8) == b"unharmed"
        for transport, protocol in ((near, client), (far, server)):
            transport.close()
            await protocol.lost

    run(main())


@unlike_asyncio("finds out when it has changed the protocol already")
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_are_positive(run: Run, option: str) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        near, far = await plain_pair(client, server)
        options: dict[str, Any] = {option: 0}
        with pytest.raises(ValueError, match=f"{option} should be a positive number"):
            await asyncio.get_running_loop().start_tls(near, client, client_context(), **options)
        assert near.get_protocol() is client
        near.close()
        await client.lost
        await server.lost
        assert far.is_closing()

    run(main())


@pytest.mark.parametrize("fault", ["nonsense", "end", "reset", "silence", "authority"])
def test_a_failure_closes_the_connection(run: Run, fault: str) -> None:
    def answer(sock: socket.socket) -> None:
        with sock:
            if fault == "authority":
                with pytest.raises((ssl.SSLError, OSError)):
                    peer = BlockingPeer(sock, server_context(), server_side=True)
                    peer.handshake()
                    peer.read()
                return
            assert sock.recv(1 << 16)
            if fault == "reset":
                reset(sock)
            elif fault == "end":
                sock.shutdown(socket.SHUT_WR)
            elif fault == "nonsense":
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            if fault != "reset":
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(1 << 16):
                        pass

    async def main() -> None:
        protocol = Recorder()
        transport, sock = await plain_and_peer(protocol)
        other = asyncio.create_task(asyncio.to_thread(answer, sock))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.get_running_loop().start_tls(
                transport,
                protocol,
                client_context(trust="another" if fault == "authority" else "the"),
                server_hostname="localhost",
                ssl_handshake_timeout=0.1 if fault == "silence" else None,
            )
        assert transport.is_closing()
        await other
        if ON_PINLOOP:  # asyncio does not always tell
            assert isinstance(await protocol.lost, (ssl.SSLError, ConnectionError))

    run(main())


@pytest.mark.parametrize("turns", range(4))
def test_a_cancelled_one_closes_the_connection(run: Run, turns: int) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, sock = await plain_and_peer(protocol)
        starting = asyncio.create_task(
            asyncio.get_running_loop().start_tls(
                transport, protocol, client_context(), server_hostname="localhost"
            )
        )
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert transport.is_closing()
        with sock:
            await asyncio.to_thread(lambda: [None for _ in iter(lambda: sock.recv(1000), b"")])
        if ON_PINLOOP:  # asyncio does not tell
            assert await protocol.lost is None

    run(main())


def test_a_context_that_raises_leaves_the_connection_as_it_was(run: Run) -> None:
    class Unwilling(ssl.SSLContext):
        def wrap_bio(self, *_: Any, **__: Any) -> ssl.SSLObject:
            raise LookupError("no connection")

    async def main() -> None:
        client, server = Recorder(), Recorder()
        near, far = await plain_pair(client, server)
        with pytest.raises(LookupError):
            await asyncio.get_running_loop().start_tls(
                near, client, Unwilling(ssl.PROTOCOL_TLS_CLIENT), server_hostname="localhost"
            )
        near.write(b"unharmed")
        assert await server.receive(8) == b"unharmed"
        near.close()
        await client.lost
        await server.lost
        assert far.is_closing()

    run(main())


# ------------------------------------------------------------------------ streams --


@unlike_asyncio("loses these bytes in all but its latest versions")
@pytest.mark.parametrize("limit", [64, 1 << 16])
def test_hello_in_one_segment_with_the_line_before_it(run: Run, limit: int) -> None:
    """A client that does not wait for the answer: its ClientHello is in the StreamReader by then."""

    def ask(address: Any) -> tuple[bytes, bytes]:
        with socket.create_connection(address, timeout=PATIENCE) as sock:
            peer = BlockingPeer(sock, client_context())
            with pytest.raises(ssl.SSLWantReadError):
                peer.tls.do_handshake()
            sock.sendall(b"STARTTLS\r\n" + peer.outgoing.read())
            answer = read_plain(sock, 4)
            peer.handshake()
            peer.write(b"secret\r\n")
            echo = peer.read_exactly(8)
            peer.close_notify()
            return answer, echo

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\r\n"
        await asyncio.sleep(0.01)  # the hello is in the reader's buffer by now
        writer.write(b"OK\r\n")
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=limit)
        assert await asyncio.to_thread(ask, server.sockets[0].getsockname()) == (b"OK\r\n", b"secret\r\n")
        server.close()
        await server.wait_closed()

    run(main())


def test_streams_of_both_ends(run: Run) -> None:
    handled = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.start_tls(server_context())
        while data := await reader.read(10_000):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        handled.append(True)

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"STARTTLS\n"
        await writer.start_tls(client_context(), server_hostname="localhost")
        assert writer.get_extra_info("ssl_object") is not None
        data = pattern(MIB)
        writer.write(data)
        assert await reader.readexactly(MIB) == data
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        while not handled:
            await asyncio.sleep(0)

    run(main())
