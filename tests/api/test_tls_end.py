"""How a TLS connection ends: close, abort, close_notify, FIN, reset, silence, the end of the loop."""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Recorder, only_pinloop, turns, unlike_asyncio
from tests.conftest import Run
from tests.tls import (
    PATIENCE,
    TLS_1_2,
    BlockingPeer,
    both_versions,
    client_context,
    connect_peer,
    pattern,
    reset,
    serving,
    tls_pair,
)

MIB = 1 << 20
Act = Callable[[BlockingPeer], object]


@contextlib.asynccontextmanager
async def peer_does(
    act: Act, protocol: Recorder, version: ssl.TLSVersion | None = None, **options: Any
) -> AsyncIterator[tuple[asyncio.Transport, "asyncio.Task[Any]"]]:
    """A server's transport, whose client does as `act` says in a thread; a task that awaits that."""

    def run_peer(address: Any) -> Any:
        with connect_peer(address, client_context(version=version)) as peer:
            return act(peer)

    async with serving(lambda: protocol, **options) as address:
        peer = asyncio.create_task(asyncio.to_thread(run_peer, address))
        transport = await protocol.made
        try:
            yield transport, peer
            await peer
        finally:
            transport.abort()


def read_and_answer(peer: BlockingPeer) -> bytes:
    """Read up to close_notify, and answer it."""
    data = peer.read_all()
    peer.close_notify()
    return data


def raw_end(peer: BlockingPeer) -> bytes:
    """What comes until the connection ends, encrypted."""
    begun = len(peer.ciphertext)
    peer.at_end()
    return bytes(peer.ciphertext[begun:])


# ------------------------------------------------------------------------- close --


@both_versions
@pytest.mark.parametrize("size", [0, 10, 100_000, 5 * MIB])
def test_close_sends_what_was_written_and_then_says_so(run: Run, version: ssl.TLSVersion, size: int) -> None:
    async def main() -> None:
        data = pattern(size)
        async with peer_does(read_and_answer, protocol := Recorder(), version) as (transport, peer):
            transport.write(data)
            transport.close()
            assert transport.is_closing()
            assert await peer == data
            assert await protocol.lost is None
            assert not (ON_PINLOOP and protocol.eof.done())  # asyncio tells of it after close()

    run(main())


def test_closing_again_changes_nothing(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(client, server)
        for _ in range(3):
            transport.close()
        assert await client.lost is None
        assert await server.lost is None
        transport.close()
        transport.abort()
        await turns(3)

    run(main())


def test_both_ends_close_at_once(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        for transport in await tls_pair(client, server):
            transport.close()
        assert await client.lost is None
        assert await server.lost is None

    run(main())


@pytest.mark.parametrize("where", ["made", "data", "eof", "lost"])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing_from_within_a_callback(run: Run, where: str, how: str) -> None:
    class Closing(Recorder):
        def end(self, at: str) -> None:
            if at == where:
                getattr(self.made.result(), how)()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.end("made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.end("data")

        def eof_received(self) -> bool | None:
            super().eof_received()
            self.end("eof")
            return None

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.end("lost")

    def ask(peer: BlockingPeer) -> None:
        with contextlib.suppress(OSError):
            peer.write(b"hello")
            peer.close_notify()
            peer.read_all()

    async def main() -> None:
        async with peer_does(ask, protocol := Closing()):
            lost = await protocol.lost
            # A peer that writes to what is closed already resets it.
            assert lost is None or isinstance(lost, ConnectionError if ON_PINLOOP else OSError)

    run(main())


@unlike_asyncio("takes data that comes after its close_notify for a fault")
def test_nothing_is_delivered_after_close(run: Run) -> None:
    def talk(peer: BlockingPeer) -> None:
        peer.write(b"wanted")
        peer.read_exactly(7)
        for _ in range(10):
            peer.write(b"not wanted any more")
        read_and_answer(peer)

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder()) as (transport, _):
            assert await protocol.receive(6) == b"wanted"
            transport.write(b"goodbye")
            transport.close()
            assert await protocol.lost is None
            assert protocol.data == b"wanted"
            assert not protocol.eof.done()

    run(main())


@unlike_asyncio("takes data that comes after its close_notify for a fault")
def test_closing_while_reading_is_paused(run: Run) -> None:
    def talk(peer: BlockingPeer) -> None:
        peer.read_exactly(2)
        peer.write(bytes(500_000))
        read_and_answer(peer)

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder()) as (transport, _):
            transport.pause_reading()
            transport.write(b"go")
            await asyncio.sleep(0.01)
            transport.close()
            assert await protocol.lost is None
            assert not protocol.data

    run(main())


@unlike_asyncio("reads on until the peer stops or the shutdown times out")
@pytest.mark.parametrize("paused", [False, True])
def test_closing_in_the_middle_of_an_endless_download(run: Run, paused: bool) -> None:
    def talk(peer: BlockingPeer) -> None:
        block = bytes(1 << 16)
        with contextlib.suppress(OSError):
            while True:
                peer.write(block)

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder()) as (transport, _):
            await protocol.receive(MIB)
            if paused:
                transport.pause_reading()
                await turns(10)
            begun = time.monotonic()
            transport.close()
            assert await protocol.lost is None
            assert time.monotonic() - begun < 5  # the shutdown timeout is 30

    run(main())


def test_a_peer_that_never_answers_close_notify(run: Run) -> None:
    over = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        acted = peer_does(lambda _: over.wait(PATIENCE), protocol := Recorder(), ssl_shutdown_timeout=0.05)
        async with acted as (transport, _):
            begun = loop.time()
            transport.write(b"goodbye")
            transport.close()
            with pytest.raises(TimeoutError, match="SSL shutdown timed out"):
                raise await protocol.lost or AssertionError("it did not time out")
            assert 0.05 <= loop.time() - begun < 5
            over.set()

    run(main())


@unlike_asyncio("begins to count when all is sent")
def test_a_peer_that_never_reads(run: Run) -> None:
    over = threading.Event()

    async def main() -> None:
        acted = peer_does(lambda _: over.wait(PATIENCE), protocol := Recorder(), ssl_shutdown_timeout=0.05)
        async with acted as (transport, _):
            transport.write(bytes(20 * MIB))
            transport.close()
            assert isinstance(await protocol.lost, TimeoutError)
            assert transport.get_write_buffer_size() == 0
            over.set()

    run(main())


# ------------------------------------------------------------------------- abort --


def test_abort_drops_all_and_says_nothing(run: Run) -> None:
    async def main() -> None:
        # With TLS 1.2: no tickets after the handshake.
        async with peer_does(raw_end, protocol := Recorder(), TLS_1_2) as (transport, peer):
            transport.write(b"dropped")
            transport.abort()
            assert transport.is_closing()
            assert await protocol.lost is None
            heard = await peer
            if ON_PINLOOP:  # with asyncio it left in write()
                assert heard == b""

    run(main())


def test_abort_ends_a_close_that_waits(run: Run) -> None:
    over = threading.Event()

    async def main() -> None:
        async with peer_does(lambda _: over.wait(PATIENCE), protocol := Recorder()) as (transport, _):
            transport.write(bytes(20 * MIB))
            transport.close()
            await turns(3)
            transport.abort()
            assert await protocol.lost is None
            over.set()

    run(main())


# ------------------------------------------------------------------------ the peer --


@both_versions
def test_the_peers_close_notify(run: Run, version: ssl.TLSVersion) -> None:
    def talk(peer: BlockingPeer) -> bytes:
        peer.write(b"goodbye")
        peer.close_notify()
        return peer.read_all()

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder(), version) as (transport, peer):
            assert await protocol.lost is None
            assert protocol.eof.done()
            assert protocol.data == b"goodbye"
            assert await peer == b""  # answered in kind
            assert transport.is_closing()

    run(main())


def test_what_is_queued_when_the_peers_close_notify_comes_is_sent(run: Run) -> None:
    written = threading.Event()

    def talk(peer: BlockingPeer) -> bytes:
        assert written.wait(10)
        peer.close_notify()
        return peer.read_all()

    async def main() -> None:
        data = pattern(5 * MIB)
        async with peer_does(talk, protocol := Recorder()) as (transport, peer):
            transport.write(data)
            written.set()
            assert await peer == data
            assert await protocol.lost is None

    run(main())


def test_eof_cannot_keep_it_open(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Keeping(Recorder):
        def eof_received(self) -> bool | None:
            super().eof_received()
            return True

    def talk(peer: BlockingPeer) -> None:
        peer.close_notify()
        peer.read_all()

    async def main() -> None:
        async with peer_does(talk, protocol := Keeping()):
            assert await protocol.lost is None

    run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "returning true from eof_received() has no effect when using ssl"
    ]


@pytest.mark.parametrize("said", [b"", b"goodbye"])
def test_an_end_without_close_notify(run: Run, said: bytes) -> None:
    """Common among peers, and told as an end like any other, as asyncio does."""

    def talk(peer: BlockingPeer) -> None:
        peer.write(said)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.at_end()

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder()):
            assert await protocol.lost is None
            assert protocol.eof.done()
            assert protocol.data == said

    run(main())


def test_a_record_cut_off_by_the_end(run: Run) -> None:
    def talk(peer: BlockingPeer) -> None:
        peer.write(b"whole")
        peer.tls.write(bytes(10_000))
        peer.sock.sendall(peer.outgoing.read()[:5000])
        peer.sock.shutdown(socket.SHUT_WR)
        peer.at_end()

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder()):
            lost = await protocol.lost
            assert lost is None or isinstance(lost, (ssl.SSLError, ConnectionError))
            assert protocol.data == b"whole"

    run(main())


def test_a_reset(run: Run) -> None:
    def talk(peer: BlockingPeer) -> None:
        peer.write(b"then")
        peer.read_exactly(4)
        reset(peer.sock)

    async def main() -> None:
        async with peer_does(talk, protocol := Recorder()) as (transport, _):
            await protocol.receive(4)
            transport.write(b"seen")
            assert isinstance(await protocol.lost, ConnectionResetError)
            assert not protocol.eof.done()

    run(main())


# ------------------------------------------------------------------ after the end --


@only_pinloop  # asyncio logs each write from the sixth on
def test_writing_after_the_end_is_logged_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(client, server)
        transport.close()
        for write in (transport.write, lambda data: transport.writelines([data])):
            for _ in range(5):
                write(b"too late")
        assert transport.get_write_buffer_size() == 0
        await client.lost
        await server.lost
        transport.write(b"too late")
        assert not server.data

    run(main())
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "write() on a connection that is closed or lost" in told[0]


@unlike_asyncio("raises AttributeError for some of this")
def test_what_a_closed_transport_still_answers(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, _ = await tls_pair(client, server)
        transport.close()
        await client.lost
        await server.lost
        assert transport.is_closing()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        transport.set_write_buffer_limits(10)
        assert transport.get_write_buffer_size() == 0
        assert transport.get_protocol() is None
        assert "closed" in repr(transport)
        await turns(3)

    run(main())
