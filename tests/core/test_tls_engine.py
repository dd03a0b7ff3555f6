"""The two TLS engines through connections: buffers lent and kept, objects that outlive them, nothing left."""

import asyncio
import gc
import os
import socket
import ssl
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pinloop import _core
from tests.core.support import BufferedRecorder, Recorder, run_python, run_until, turn
from tests.tls import client_context, pattern, server_context

Loop = asyncio.AbstractEventLoop
Pair = Callable[..., tuple[Any, Any]]

MIB = 1 << 20


@pytest.fixture(params=["openssl", "memory"])
def engine(request: pytest.FixtureRequest, loop: Any) -> str:
    """Has the loop use this engine."""
    name: str = request.param
    if name == "openssl" and _core.tls_engine_name() != "openssl":
        pytest.skip("this Python's OpenSSL cannot be called directly")
    loop._set_portable_tls(name == "memory")
    return name


@pytest.fixture
def pair(loop: Loop, engine: str) -> Pair:
    """Makes two protocols' transports, connected by TLS, the first one the client."""

    def pair(client: Any, server: Any, **options: Any) -> tuple[Any, Any]:
        near, far = socket.socketpair()

        async def connect() -> list[Any]:
            return await asyncio.gather(
                loop.create_connection(
                    lambda: client,
                    sock=near,
                    ssl=options.get("of_client") or client_context(),
                    server_hostname="localhost",
                ),
                loop.connect_accepted_socket(
                    lambda: server, far, ssl=options.get("of_server") or server_context()
                ),
            )

        (first, _), (second, _) = loop.run_until_complete(connect())
        return first, second

    return pair


def end(loop: Loop, *protocols: Recorder) -> None:
    """Close, and wait for both ends to be gone."""
    protocols[0].transport.close()
    run_until(loop, lambda: all(protocol.lost for protocol in protocols))


# ------------------------------------------------------------------------ which one --


def test_the_engine_that_is_used() -> None:
    """On the platforms we build for, OpenSSL can be called directly."""
    assert _core.tls_engine_name() == "openssl"


def test_an_interpreter_without_ssl() -> None:
    code = """
import sys
sys.modules["ssl"] = None
sys.modules["_ssl"] = None
import asyncio, pinloop
from pinloop import _core
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.close()
    server.close()
    for ask in (_core.tls_engine_name, ):
        try:
            ask()
        except RuntimeError as exc:
            print(exc)
    try:
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, ssl=True)
    except (ImportError, RuntimeError) as exc:
        print("refused")
pinloop.run(main())
"""
    assert run_python(code) == "this Python has no ssl module\nrefused\n"


# -------------------------------------------------------------------------- buffers --


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("piece", [1, 100, 16_384, 16_385, 70_000, 131_072, 131_073, MIB])
def test_all_that_is_written_arrives(loop: Loop, pair: Pair, kind: type[Recorder], piece: int) -> None:
    client, server = kind(), kind()
    first, second = pair(client, server)
    data = pattern(min(piece * 300, 3 * MIB))
    for i in range(0, len(data), piece):
        first.write(data[i : i + piece])
        second.write(data[i : i + piece])
        if piece > 50_000 and i % 3 == 0:
            turn(loop)
    run_until(loop, lambda: len(server.got) >= len(data) and len(client.got) >= len(data), 30)
    assert server.got == data
    assert client.got == data
    end(loop, client, server)


def test_records_in_pieces(loop: Loop, engine: str) -> None:
    """However the ciphertext is cut, the plaintext is the same: a proxy cuts it at odd places."""
    sizes = [1, 2, 3, 5, 4, 1000, 7, 16_000, 20_000, 1, 40_000, 13]
    client, server = Recorder(), Recorder()
    near, proxy_near = socket.socketpair()
    far, proxy_far = socket.socketpair()
    with proxy_near, proxy_far:
        for sock in (proxy_near, proxy_far):
            sock.setblocking(False)
        connecting = loop.create_task(
            loop.create_connection(
                lambda: client, sock=near, ssl=client_context(), server_hostname="localhost"
            )
        )
        accepting = loop.create_task(loop.connect_accepted_socket(lambda: server, far, ssl=server_context()))
        held: dict[int, bytearray] = {0: bytearray(), 1: bytearray()}
        turns = 0

        def carry(done: Callable[[], bool]) -> bool:
            nonlocal turns
            turns += 1
            for i, (source, sink) in enumerate(((proxy_near, proxy_far), (proxy_far, proxy_near))):
                try:
                    held[i] += source.recv(1 << 20)
                except BlockingIOError:
                    pass
                try:
                    del held[i][: sink.send(held[i][: sizes[turns % len(sizes)]])]
                except BlockingIOError:
                    pass
            return done()

        run_until(loop, lambda: carry(lambda: connecting.done() and accepting.done()), 30)
        first, second = connecting.result()[0], accepting.result()[0]
        data = pattern(500_000)
        first.write(data)
        second.write(data[:50_000])
        run_until(loop, lambda: carry(lambda: len(server.got) == len(data) and len(client.got) == 50_000), 30)
        assert server.got == data
        assert client.got == data[:50_000]
        first.abort()
        second.abort()
        run_until(loop, lambda: client.lost and server.lost)


def test_written_bytes_are_not_copied_but_let_go(loop: Loop, pair: Pair) -> None:
    """`bytes` are kept by reference until they are encrypted, and not after."""

    client, server = Recorder(), Recorder()
    first, _ = pair(client, server)
    data = pattern(3 * MIB)
    references = sys.getrefcount(data)
    for _ in range(3):
        first.write(data)
    assert sys.getrefcount(data) > references
    run_until(loop, lambda: len(server.got) == 9 * MIB)
    assert first.get_write_buffer_size() == 0
    assert sys.getrefcount(data) == references
    end(loop, client, server)


def test_many_connections_share_the_scratch_buffer(loop: Loop, pair: Pair) -> None:
    """One that writes from within another's callback does not disturb what that one sends or reads."""

    class Relaying(Recorder):
        others: list[Any]

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            for other in self.others:
                other.write(data)

    relays = [(Relaying(), Recorder()) for _ in range(3)]
    transports = [pair(*each) for each in relays]
    for i, (relay, _) in enumerate(relays):
        relay.others = [near for j, (near, _) in enumerate(transports) if i != j]
    data = [pattern(700_000, i) for i in range(3)]
    for (_, far), text in zip(transports, data, strict=True):
        far.write(text)
    run_until(loop, lambda: all(len(sink.got) == 1_400_000 for _, sink in relays), 30)
    for i, (relay, sink) in enumerate(relays):
        assert relay.got == data[i]
        assert sum(sink.got) == sum(sum(text) for j, text in enumerate(data) if j != i)
    for protocols in relays:
        end(loop, *protocols)


# ----------------------------------------------------- objects that outlive their connection --


def calls_of(ssl_object: ssl.SSLObject) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: ssl_object.read(100),
        "read into": lambda: ssl_object.read(100, bytearray(100)),
        "write": lambda: ssl_object.write(b"x" * 50_000),
        "pending": ssl_object.pending,
        "unwrap": ssl_object.unwrap,
        "do_handshake": ssl_object.do_handshake,
        "cipher": ssl_object.cipher,
        "getpeercert": ssl_object.getpeercert,
        "verify_client_post_handshake": ssl_object.verify_client_post_handshake,
        "session": lambda: ssl_object.session,
    }


@pytest.mark.parametrize("when", ["open", "closed", "collected"])
@pytest.mark.parametrize("side", [0, 1])
def test_an_ssl_object_kept_by_the_program(loop: Loop, pair: Pair, when: str, side: int) -> None:
    """Whatever is called on it, at whatever time, is an answer or an ssl.SSLError."""
    client, server = Recorder(), Recorder()
    transports: Any = pair(client, server)
    transports[1 - side].write(b"unread")
    ssl_object = transports[side].get_extra_info("ssl_object")
    assert isinstance(ssl_object, ssl.SSLObject)
    if when != "open":
        end(loop, client, server)
    if when == "collected":
        alive = [weakref.ref(each) for each in (*transports, client, server)]
        del transports, client, server
        assert [each() for each in alive] == [None] * 4  # without the collector
    for _ in range(2):
        for call in calls_of(ssl_object).values():
            try:
                call()
            except (ssl.SSLError, OSError, ValueError):
                pass
    if when == "open":
        for transport in transports:
            transport.abort()
        run_until(loop, lambda: client.lost and server.lost)


def test_what_the_program_reads_and_writes_itself(loop: Loop, pair: Pair) -> None:
    """Odd, but OpenSSL's own buffers are behind both: nothing is lost."""
    client, server = Recorder(), Recorder()
    first, second = pair(client, server)
    second.pause_reading()
    first.get_extra_info("ssl_object").write(b"directly, ")
    first.write(b"and not")
    second.resume_reading()
    run_until(loop, lambda: len(server.got) == 17)
    assert server.got == b"directly, and not"
    end(loop, client, server)


def test_callbacks_of_openssl_may_use_the_loop(loop: Loop, pair: Pair) -> None:
    """A message callback runs within OpenSSL's functions; it may write to another connection."""
    others = (Recorder(), Recorder())
    near, _ = pair(*others)
    said: list[int] = []

    def told(*_: Any) -> None:
        said.append(1)
        near.write(bytes(40_000))

    of_client = client_context()
    of_client._msg_callback = told  # type: ignore[attr-defined]
    client, server = Recorder(), Recorder()
    first, second = pair(client, server, of_client=of_client)
    first.write(b"x" * 100_000)
    second.write(b"y" * 100_000)
    run_until(loop, lambda: len(server.got) == 100_000 and len(client.got) == 100_000)
    of_client._msg_callback = None  # type: ignore[attr-defined]
    assert said
    assert server.got == b"x" * 100_000
    assert client.got == b"y" * 100_000
    run_until(loop, lambda: len(others[1].got) == 40_000 * len(said), 30)
    assert not any(others[1].got)
    end(loop, client, server)
    end(loop, *others)


@pytest.mark.parametrize("after", [1, 2, 5, 20])
def test_a_callback_of_openssl_that_aborts(loop: Loop, pair: Pair, after: int) -> None:
    """What is being encrypted or decrypted at that time stays until OpenSSL is done with it."""
    left = 1 << 30

    def told(*_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            first.abort()

    of_client = client_context()
    of_client._msg_callback = told  # type: ignore[attr-defined]
    client, server = Recorder(), Recorder()
    first, second = pair(client, server, of_client=of_client)
    left = after
    for _ in range(30):
        first.write(pattern(20_000))
        second.write(pattern(20_000))
    run_until(loop, lambda: client.lost and server.lost)
    of_client._msg_callback = None  # type: ignore[attr-defined]
    assert client.lost == [None]
    assert first.get_write_buffer_size() == 0


def test_keys_are_logged(loop: Loop, pair: Pair, tmp_path: Any) -> None:
    of_client = client_context()
    of_client.keylog_filename = str(tmp_path / "keys")
    client, server = Recorder(), Recorder()
    pair(client, server, of_client=of_client)
    end(loop, client, server)
    assert b"CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_bytes()


# ----------------------------------------------------------------------- left behind --


@pytest.mark.parametrize("how", ["close", "abort", "peer", "fault"])
def test_all_of_a_connection_goes_without_the_collector(
    loop: Loop, pair: Pair, how: str, no_collections: None
) -> None:
    alive = connection_that_ended(loop, pair, how)
    turn(loop)
    assert [each() for each in alive] == [None] * 6


def connection_that_ended(loop: Loop, pair: Pair, how: str) -> list[weakref.ref[Any]]:
    """Weak references to all that made up a connection."""
    of_client, of_server = client_context(), server_context()
    client, server = Recorder(), Recorder()
    transports = pair(client, server, of_client=of_client, of_server=of_server)
    transports[0].get_extra_info("peercert")
    sock = transports[0].get_extra_info("socket")
    transports[0].write(b"something")
    run_until(loop, lambda: server.got)
    if how == "fault":
        os.write(sock.fileno(), b"\x17\x03\x03\x00\x10" + bytes(16))
        run_until(loop, lambda: server.lost)
        transports[0].abort()
    elif how == "peer":
        transports[1].close()
    else:
        getattr(transports[0], how)()
    run_until(loop, lambda: client.lost and server.lost)
    client.lost.clear()  # the traceback of an exception keeps this frame
    server.lost.clear()
    return [weakref.ref(each) for each in (*transports, client, server, of_client, of_server)]


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("ending", ["close", "abort", "handshake"])
def test_many_connections_leave_no_objects(loop: Loop, pair: Pair, ending: str) -> None:
    contexts = {"of_client": client_context(), "of_server": server_context()}
    untrusting = client_context(trust="another")

    def one() -> None:
        client, server = Recorder(), Recorder()
        if ending == "handshake":
            with pytest.raises(ssl.SSLError):
                pair(client, server, of_client=untrusting, of_server=contexts["of_server"])
            turn(loop)
            turn(loop)
            return
        first, _ = pair(client, server, **contexts)
        first.write(b"hello")
        run_until(loop, lambda: server.got)
        getattr(first, ending)()
        run_until(loop, lambda: client.lost and server.lost)

    count = 200
    for _ in range(20):
        one()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(count):
        one()
    gc.collect()
    assert len(gc.get_objects()) - before < 50
