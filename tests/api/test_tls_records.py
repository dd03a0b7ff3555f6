"""TLS records that a program never sees: tampered with, renegotiating, changing keys, bringing tickets."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Echo, Made, Recorder
from tests.conftest import Run
from tests.tls import (
    PATIENCE,
    TLS_1_2,
    TLS_1_3,
    both_versions,
    certificate,
    client_context,
    connect_peer,
    pattern,
    server_context,
    serving,
    tls_pair,
)

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(
    OPENSSL is None, reason="the ssl module cannot ask for this; the openssl program, which can, is not here"
)


class Program:
    """The openssl program. Lines of one letter are its commands; others it sends."""

    def __init__(self, *args: str) -> None:
        assert OPENSSL is not None
        self.process = subprocess.Popen(
            [OPENSSL, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self.said = b""
        self.heard = 0  # bytes of it that were waited for
        self.news = threading.Condition()
        self.over = False
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        while part := self.process.stdout.read(1 << 16):
            with self.news:
                self.said += part
                self.news.notify()
        with self.news:
            self.over = True
            self.news.notify()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")

    def says(self, *texts: bytes) -> bool:
        """Wait until it says one of these, after what was waited for before; false if it ends without."""

        def found() -> bool:
            return any(self.said.find(text, self.heard) >= 0 for text in texts)

        with self.news:
            assert self.news.wait_for(lambda: self.over or found(), PATIENCE), f"only {self.said[-500:]!r}"
            done = found()
            self.heard = len(self.said)
            return done

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def program(*args: str) -> Iterator[Program]:
    """A running openssl program, ended afterwards."""
    running = Program(*args)
    try:
        yield running
    finally:
        running.end()


# --------------------------------------------------------------------- new keys --


@needs_openssl
@pytest.mark.parametrize("command", ["k", "K"], ids=["its own", "both"])
def test_a_client_that_changes_its_keys(run: Run, command: str) -> None:
    """TLS 1.3's KeyUpdate: told of the peer's, or asked to change ours too."""

    def ask(address: Any) -> None:
        with program("s_client", "-connect", f"{address[0]}:{address[1]}", "-tls1_3") as client:
            for i in range(3):
                client.tell(f"before {i}")
                assert client.says(f"before {i}".encode())
                client.tell(command)
                assert client.says(b"KEYUPDATE")
                client.tell(f"after {i}")
                assert client.says(f"after {i}".encode())
            client.tell("Q")
            client.says(b"nothing more")

    async def main() -> None:
        made = Made(Echo)
        async with serving(made) as address:
            await asyncio.to_thread(ask, address)
            protocol = await made.next()
            assert await protocol.lost is None
            assert protocol.data == b"".join(b"before %d\nafter %d\n" % (i, i) for i in range(3))

    run(main())


# ---------------------------------------------------------------- renegotiation --


@needs_openssl
def test_a_client_that_asks_for_renegotiation_is_refused(run: Run) -> None:
    """OpenSSL refuses it with an alert from 3.0 on; whether the connection goes on is the client's choice."""

    def ask(address: Any) -> bool:
        with program("s_client", "-connect", f"{address[0]}:{address[1]}", "-tls1_2") as client:
            client.tell("before")
            assert client.says(b"\nbefore\n")
            client.tell("R")
            assert client.says(b"RENEGOTIATING")
            client.tell("after")
            goes_on = client.says(b"\nafter\n", b"no renegotiation")
            client.tell("Q")
            return goes_on

    async def main() -> None:
        made = Made(Echo)
        async with serving(made, server_context(version=TLS_1_2)) as address:
            await asyncio.to_thread(ask, address)
            protocol = await made.next()
            lost = await protocol.lost
            assert lost is None or isinstance(lost, (ssl.SSLError, ConnectionError))
            assert protocol.data in (b"before\n", b"before\nafter\n")

    run(main())


@needs_openssl
def test_a_server_that_renegotiates(run: Run, tmp_path: Any) -> None:
    """What is written meanwhile waits for the handshake, and nothing is lost."""
    key = tmp_path / "key.pem"
    certificate("localhost").private_key_and_cert_chain_pem.write_to_path(key)

    async def main() -> None:
        with program("s_server", "-accept", "127.0.0.1:0", "-cert", str(key), "-tls1_2") as server:
            await asyncio.to_thread(server.says, b"ACCEPT 127.0.0.1:")
            port = int(server.said.split(b"ACCEPT 127.0.0.1:")[1].split()[0])
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
            )
            for i in range(3):
                server.tell(f"before {i}")
                await protocol.receive(len(protocol.data) + 9)
                server.tell("r")
                for _ in range(200):
                    transport.write(b"written meanwhile\n" * 10)
                    await asyncio.sleep(0)
                transport.write(b"END %d\n" % i)
                assert await asyncio.to_thread(server.says, b"END %d\n" % i)
                server.tell(f"after {i}")
                await protocol.receive(len(protocol.data) + 8)
            assert server.said.count(b"written meanwhile\n") == 6000
            assert protocol.data == b"".join(b"before %d\nafter %d\n" % (i, i) for i in range(3))
            transport.abort()
            await protocol.lost

    run(main())


# ---------------------------------------------------------------------- tickets --


def test_tickets_that_come_while_data_flows(run: Run) -> None:
    """A TLS 1.3 server sends them after the handshake: they are not data, and not an end."""

    async def main() -> None:
        of_server = server_context(version=TLS_1_3)
        of_server.num_tickets = 20
        client, server = Recorder(), Recorder()
        first, second = await tls_pair(client, server, of_server=of_server)
        data = pattern(300_000)
        first.write(data)
        second.write(data)
        assert await server.receive(len(data)) == data
        assert await client.receive(len(data)) == data
        assert first.get_extra_info("ssl_object").session.has_ticket
        first.close()
        assert await client.lost is None
        assert await server.lost is None

    run(main())


# -------------------------------------------------------------------- broken records --


@both_versions
@pytest.mark.parametrize("fault", ["flipped", "repeated", "left out"])
def test_records_that_were_tampered_with(run: Run, version: ssl.TLSVersion, fault: str) -> None:
    """What came before is delivered; what comes after never is."""

    def ask(address: Any) -> None:
        with connect_peer(address, client_context(version=version)) as peer:
            sealed = []
            for text in (b"one", b"two", b"three"):
                peer.tls.write(text)
                sealed.append(peer.outgoing.read())
            if fault == "flipped":
                sealed[1] = sealed[1][:-1] + bytes([sealed[1][-1] ^ 1])
            elif fault == "repeated":
                sealed[1] = sealed[0]
            else:
                del sealed[1]
            peer.sock.sendall(b"".join(sealed))
            peer.at_end()
            if ON_PINLOOP:
                peer.incoming.write(bytes(peer.ciphertext[peer.seen :]))
                with pytest.raises(ssl.SSLError, match=r"(?i)alert.bad.record.mac"):
                    peer.tls.read(1)

    async def main() -> None:
        made = Made()
        async with serving(made, server_context(version=version)) as address:
            await asyncio.to_thread(ask, address)
            protocol = await made.next()
            assert isinstance(await protocol.lost, ssl.SSLError)
            assert protocol.data == (b"one" if ON_PINLOOP else b"")  # asyncio drops it
            assert not protocol.eof.done()

    run(main())
