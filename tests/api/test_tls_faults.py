"""TLS that goes wrong: peers that say nothing, or nonsense, or go away; protocols and contexts that raise."""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Made, Recorder, python, unlike_asyncio
from tests.conftest import Context, Run
from tests.tls import (
    PATIENCE,
    TLS_1_2,
    BlockingPeer,
    accept_peer,
    client_context,
    connect_peer,
    listening,
    no_alerts,
    reset,
    serving,
)

Script = Callable[[socket.socket], object]

HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP_ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


async def connect(address: Any, context: ssl.SSLContext | None = None, **options: Any) -> Any:
    """A TLS connection to `address`."""
    return await asyncio.get_running_loop().create_connection(
        options.pop("factory", Recorder),
        *address[:2],
        ssl=context or client_context(),
        server_hostname="localhost",
        **options,
    )


def to_the_end(sock: socket.socket) -> bytes:
    """All that comes before the connection ends, however it does."""
    data = b""
    try:
        while part := sock.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    return data


async def client_of(script: Script, **options: Any) -> Any:
    """Connect with TLS to a plain server that does as `script` says with its connection."""

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(PATIENCE)
            script(sock)

    with listening() as listener:
        peer = asyncio.create_task(asyncio.to_thread(serve, listener))
        try:
            return await connect(listener.getsockname(), **options)
        finally:
            await peer


async def server_of(script: Script, **options: Any) -> tuple[Any, Made]:
    """What `script` brings of a plain connection to a TLS server, and the server's protocols."""

    def ask(address: Any) -> Any:
        with socket.create_connection(address, timeout=PATIENCE) as sock:
            return script(sock)

    made = Made()
    async with serving(made, **options) as address:
        return await asyncio.to_thread(ask, address), made


# -------------------------------------------------------- peers that shake no hands --


def say(data: bytes) -> Script:
    """Say it and read to the end."""

    def script(sock: socket.socket) -> bytes:
        sock.sendall(data)
        return to_the_end(sock)

    return script


def hear_and_say(data: bytes) -> Script:
    """Wait for the first words, then answer."""

    def script(sock: socket.socket) -> None:
        assert sock.recv(1 << 16)
        sock.sendall(data)
        to_the_end(sock)

    return script


def test_a_server_that_says_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(ConnectionAbortedError, match=r"handshake is taking longer than 0\.05 seconds"):
            await client_of(to_the_end, ssl_handshake_timeout=0.05)
        assert 0.05 <= loop.time() - begun < 5

    run(main())


def test_a_client_that_says_nothing(run: Run) -> None:
    async def main() -> None:
        answer, made = await server_of(to_the_end, ssl_handshake_timeout=0.05)
        assert answer == b""
        assert not made[0].made.done()
        assert not made[0].lost.done()  # it was never told of the connection

    run(main())


@pytest.mark.parametrize("nonsense", [HTTP_ANSWER, b"\x17\x03\x03\x00\x05hello", b"\x80" * 100])
def test_a_server_that_talks_nonsense(run: Run, nonsense: bytes) -> None:
    async def main() -> None:
        with pytest.raises(ssl.SSLError):
            await client_of(hear_and_say(nonsense))

    run(main())


@pytest.mark.parametrize("nonsense", [HTTP_REQUEST, b"\x17\x03\x03\x00\x05hello", bytes(300)])
@pytest.mark.parametrize(
    "debug", [False, pytest.param(True, marks=unlike_asyncio("keeps the socket in what it logs"))]
)
def test_a_client_that_talks_nonsense(
    run: Run, nonsense: bytes, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not worth more than a line at debug level, in debug mode."""

    async def main() -> None:
        asyncio.get_running_loop().set_debug(debug)
        _, made = await server_of(say(nonsense))
        assert not made[0].made.done()

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        run(main())
    told = [record for record in caplog.records if "handshake failed" in record.getMessage()]
    assert bool(told) is debug
    assert all(record.levelno == logging.DEBUG for record in told)


def hello() -> bytes:
    """A ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("share", [0, 1, 3, 100], ids=lambda n: f"{n} bytes")
@pytest.mark.parametrize(
    "ending", ["fin", pytest.param("reset", marks=unlike_asyncio("leaves the socket open"))]
)
def test_a_client_that_leaves_in_its_first_words(run: Run, share: int, ending: str) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(hello()[:share])
        if ending == "reset":
            reset(sock)
            return
        sock.shutdown(socket.SHUT_WR)
        to_the_end(sock)

    async def main() -> None:
        _, made = await server_of(script)
        assert all(not each.made.done() and not each.lost.done() for each in made)

    run(main())


@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("heard", [False, True])
def test_a_server_that_leaves(run: Run, ending: str, heard: bool) -> None:
    def script(sock: socket.socket) -> None:
        if heard:
            assert sock.recv(1 << 16)
        if ending == "reset":
            reset(sock)
        else:
            sock.shutdown(socket.SHUT_WR)
            to_the_end(sock)

    async def main() -> None:
        with pytest.raises(ConnectionResetError):
            await client_of(script)

    run(main())


def test_hands_shaken_a_byte_at_a_time(run: Run) -> None:
    def ask(address: Any) -> bytes:
        with socket.create_connection(address, timeout=PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = BlockingPeer(Slowly(sock), client_context())  # type: ignore[arg-type]
            peer.handshake()
            peer.write(b"slowly")
            answer = peer.read_exactly(6)
            peer.close_notify()
            return answer

    class Slowly:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.settimeout, self.recv = sock.settimeout, sock.recv

        def sendall(self, data: bytes) -> None:
            for i in range(len(data)):
                self.sock.send(data[i : i + 1])

    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            self.made.result().write(data)

    async def main() -> None:
        async with serving(Answering) as address:
            assert await asyncio.to_thread(ask, address) == b"slowly"

    run(main())


@no_alerts
def test_the_peer_is_told_why(run: Run) -> None:
    """The client does not trust the server, and says so before it closes."""
    heard: list[str] = []

    def serve(listener: socket.socket) -> None:
        try:
            accept_peer(listener)
        except ssl.SSLError as exc:
            heard.append(str(exc.reason))

    async def main() -> None:
        with listening() as listener:
            peer = asyncio.create_task(asyncio.to_thread(serve, listener))
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(listener.getsockname(), client_context(trust="another", version=TLS_1_2))
            await peer

    run(main())
    assert heard == ["TLSV1_ALERT_UNKNOWN_CA"]


# -------------------------------------------------------------------- cancelling --


@pytest.mark.parametrize("turns", range(4))
def test_a_connect_that_is_cancelled(run: Run, turns: int) -> None:
    """Wherever it is at that time, the peer sees the connection end."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(PATIENCE)
            to_the_end(sock)
            ended.set()

    async def main() -> None:
        with listening() as listener:
            peer = asyncio.create_task(asyncio.to_thread(serve, listener))
            connecting = asyncio.create_task(connect(listener.getsockname()))
            await asyncio.sleep(0.02)  # connected by now; what follows are turns of the handshake
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await peer

    run(main())
    assert ended.is_set()


def test_a_connect_cancelled_as_the_handshake_ends(run: Run) -> None:
    class Cancelling(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connecting.cancel()

    connecting: asyncio.Task[Any]
    kept: list[Any] = []

    async def main() -> None:
        nonlocal connecting
        made = Made()

        def factory() -> Recorder:
            kept.append(Cancelling())
            return kept[0]

        async with serving(made) as address:
            connecting = asyncio.create_task(connect(address, factory=factory))
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert await kept[0].lost is None
            assert await made[0].lost is None

    run(main())


# ---------------------------------------------------- protocols and contexts that raise --


class Oops(Exception):
    """Raised by what is to fail."""


class Raising(Recorder):
    """Raises in one of its methods, which the subclasses name."""

    method = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.check("connection_made")

    def data_received(self, data: bytes) -> None:
        self.check("data_received")

    def eof_received(self) -> bool | None:
        self.check("eof_received")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.check("connection_lost")

    def check(self, method: str) -> None:
        if method == self.method:
            raise Oops(method)


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_a_protocol_that_raises(run: Run, loop_errors: list[Context], method: str) -> None:
    """It is reported once, and costs that connection only."""

    class Failing(Raising):
        pass

    Failing.method = method

    def ask(address: Any) -> bytes:
        with connect_peer(address) as peer:
            try:
                peer.write(b"hello")
                peer.close_notify()
                return peer.read_all()
            except OSError:
                return b""

    async def main() -> None:
        made = Made(Failing)
        async with serving(made) as address:
            assert await asyncio.to_thread(ask, address) == b""
            lost = await (await made.next()).lost
            if ON_PINLOOP and method != "connection_lost":
                assert isinstance(lost, Oops)

    run(main())
    assert [type(context["exception"]) for context in loop_errors] == [Oops]
    loop_errors.clear()


def test_a_clients_protocol_that_raises_when_connected(run: Run, loop_errors: list[Context]) -> None:
    class Failing(Raising):
        method = "connection_made"

    kept: list[Failing] = []

    def factory() -> Failing:
        kept.append(Failing())
        return kept[0]

    async def main() -> None:
        async with serving(Recorder) as address:
            with pytest.raises(Oops):
                await connect(address, factory=factory)
            assert isinstance(await kept[0].lost, Oops)

    run(main())
    assert [type(context["exception"]) for context in loop_errors] == [Oops]
    loop_errors.clear()


@unlike_asyncio("leaves the socket open")
@pytest.mark.parametrize("ends", ["client", "server"])
def test_a_factory_that_raises(run: Run, loop_errors: list[Context], ends: str) -> None:
    def factory() -> Recorder:
        raise Oops("no protocol")

    async def main() -> None:
        if ends == "client":
            with pytest.raises(Oops):
                await client_of(to_the_end, factory=factory)
            return
        async with serving(factory) as address:
            with pytest.raises(OSError):
                await asyncio.to_thread(connect_peer, address)

    run(main())
    assert len(loop_errors) == (ends == "server")
    loop_errors.clear()


class Unwilling(ssl.SSLContext):
    """A context that makes no connections."""

    def wrap_bio(self, *_: Any, **__: Any) -> ssl.SSLObject:
        raise Oops("no connection")


@unlike_asyncio("leaves the socket open")
def test_a_clients_context_that_raises(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Oops):
            await client_of(to_the_end, context=Unwilling(ssl.PROTOCOL_TLS_CLIENT))

    run(main())


@unlike_asyncio("leaves the socket open")
def test_a_servers_context_that_raises(run: Run, loop_errors: list[Context]) -> None:
    async def main() -> None:
        async with serving(Recorder, Unwilling(ssl.PROTOCOL_TLS_SERVER)) as address:
            with pytest.raises(OSError):
                await asyncio.to_thread(connect_peer, address)

    run(main())
    assert [type(context["exception"]) for context in loop_errors] == [Oops]
    loop_errors.clear()


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received"])
def test_a_protocol_that_ends_the_program(kind: str, method: str) -> None:
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(__file__.rsplit("tests", 1)[0])!r})
from tests.tls import tls_pair
from tests.api.support import Recorder, ON_PINLOOP

class Ending(Recorder):
    def connection_made(self, transport): super().connection_made(transport); self.check("connection_made")
    def data_received(self, data): self.check("data_received")
    def eof_received(self): self.check("eof_received")
    def check(self, method):
        if method == {method!r}: raise {kind}(3)

async def main():
    first, second = await tls_pair(Recorder(), Ending())
    first.write(b"x")
    first.close()
    await asyncio.sleep(60)

if ON_PINLOOP:
    import pinloop
    loop = pinloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
except {kind} as end:
    print("ended", end)
import gc, warnings
warnings.simplefilter("ignore")
"""
    done = python("-c", code)
    assert done.stdout == "ended 3\n", done.stderr
