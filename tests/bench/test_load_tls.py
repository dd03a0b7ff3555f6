"""The TLS client: it counts exactly, and says what a server does wrong."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from pinloop.bench import measure
from pinloop.bench.process import Child
from pinloop.bench.servers import tls
from tests.bench.support import run_load, serving

SIZE = 64


@contextlib.contextmanager
def loop_server(name: str) -> Iterator[int]:
    """The benchmark's own server on asyncio's loop; yields its port."""
    with Child(measure.server_command("asyncio", name), None, 15) as server:
        yield server.answer()["port"]


@contextlib.contextmanager
def tls_server(answer: Callable[[ssl.SSLSocket], None]) -> Iterator[int]:
    """A blocking server of one connection."""

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), tls.context().wrap_socket(connection, server_side=True) as secure:
            answer(secure)

    with serving(serve) as port:
        yield port


@pytest.mark.parametrize("size", [16, 1024, 100_000])
def test_echoes_are_counted_exactly(size: int) -> None:
    with loop_server("tls-echo") as port:
        report = run_load("tls-echo", port, "count 50", connections=7, size=size)
    assert (report["requests"], report["errors"], report["first_error"]) == (50, 0, "")
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"]


def test_handshakes_are_counted_exactly() -> None:
    with loop_server("tls-handshake") as port:
        report = run_load("tls-handshake", port, "count 12", connections=5)
    assert (report["requests"], report["errors"], report["first_error"]) == (12, 0, "")
    assert 0 < report["p50_us"] <= report["max_us"]


@pytest.mark.parametrize("mode", ["tls-echo", "tls-handshake"])
def test_it_runs_for_a_time_and_again(mode: str) -> None:
    with loop_server(mode) as port, Child(measure.load_command(mode, port, 3), None, 15) as load:
        load.answer()
        for _ in range(2):
            report = load.ask("seconds 0.05")
            assert report["requests"] >= 3
            assert report["errors"] == 0
            assert 0.05 <= report["seconds"] < 5


@pytest.mark.parametrize("which", [0, 7, 56, 63])
def test_wrong_bytes_at_either_end_are_an_error(which: int) -> None:
    def change(secure: ssl.SSLSocket) -> None:
        data = bytearray(secure.recv(SIZE))
        data[which] ^= 1
        secure.sendall(data)
        secure.recv(1)

    with tls_server(change) as port:
        report = run_load("tls-echo", port, "count 1", size=SIZE)
    assert (report["requests"], report["errors"]) == (0, 1)
    assert "wrong bytes" in report["first_error"]


def test_a_short_echo_is_an_error() -> None:
    with tls_server(lambda secure: secure.sendall(secure.recv(SIZE)[:8])) as port:
        report = run_load("tls-echo", port, "count 1", size=SIZE)
    assert (report["requests"], report["errors"]) == (0, 1)
    assert "closed by the server" in report["first_error"]


def test_a_server_without_tls_is_an_error() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"220 hello, this is no TLS\r\n")
        connection.recv(1000)

    with serving(serve) as port:
        report = run_load("tls-handshake", port, "count 1")
    assert (report["requests"], report["errors"]) == (0, 1)
    assert "SSLError" in report["first_error"]


def test_the_handshake_is_a_whole_one_each_time() -> None:
    reused, versions = [], []

    def serve(listener: socket.socket) -> None:
        context = tls.context()
        for _ in range(3):
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(listener.accept()[0], server_side=True) as secure,
            ):
                reused.append(secure.session_reused)
                versions.append(secure.version())
                secure.sendall(tls.GREETING)
                assert secure.recv(1) == b""
                secure.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = measure.load_command("tls-handshake", listener.getsockname()[1], 1)
        with Child(command, None, 15) as load:
            load.answer()
            load.tell("count 3")
            serve(listener)
            report = load.answer()
    assert (report["requests"], report["errors"]) == (3, 0)
    assert reused == [False] * 3
    assert versions == ["TLSv1.3"] * 3


def test_the_shipped_key_says_that_it_is_public_and_has_not_run_out() -> None:
    text = tls.TEST_CERTIFICATE.read_text()
    assert "Never trust this certificate, never serve with it." in text
    assert "PRIVATE KEY" in text
    context = ssl.create_default_context(cafile=str(tls.TEST_CERTIFICATE))
    with (
        loop_server("tls-handshake") as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as secure,
    ):
        assert secure.recv(5) == tls.GREETING
