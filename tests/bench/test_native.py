"""The C programs: they compile once, say what is missing, and count what a server does wrong."""

import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pinloop.bench import measure, native
from pinloop.bench.errors import BenchError
from pinloop.bench.process import Child
from tests.bench.support import Serve, floor, run_load, serving


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


# ---- compiling


def test_a_program_is_compiled_once(cache: Path) -> None:
    first = native.program("floor")
    made = first.stat().st_mtime_ns
    assert native.program("floor") == first
    assert first.stat().st_mtime_ns == made
    assert cache in first.parents


def test_another_compiler_has_programs_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.program("floor")
    monkeypatch.setenv("CC", "cc -g")
    assert native.program("floor") != first


def test_a_missing_compiler_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match="'no-such-compiler' named by CC is not on PATH"):
        native.program("load")


def test_a_failing_compiler_is_quoted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc --no-such-option")
    with pytest.raises(BenchError, match=r"cannot compile load.*no-such-option"):
        native.program("load")
    assert not list(cache.rglob("load"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BenchError, match="XDG_CACHE_HOME"):
        native.program("load")


# ---- echo


@pytest.mark.parametrize("size", [16, 1024, 100 * 1024, 3 * 1024 * 1024])
def test_echo_counts_exactly(size: int) -> None:
    with floor() as (_, port):
        report = run_load("echo", port, "count 50", connections=7, size=size)
    assert (report["requests"], report["errors"], report["first_error"]) == (50, 0, "")
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"]


def test_echo_runs_for_a_time_and_again() -> None:
    with floor() as (server, port), Child(measure.load_command("echo", port, 3), None, 15) as load:
        assert load.answer() == {"connected": 3}
        before = server.ask("cpu")
        for _ in range(2):
            report = load.ask("seconds 0.05")
            assert report["requests"] > 0
            assert report["errors"] == 0
            assert 0.05 <= report["seconds"] < 5
        after = server.ask("cpu")
    assert after["cpu_ns"] > before["cpu_ns"]


def change(serve_byte: int) -> Serve:
    """A server that echoes 64 bytes with one of them changed."""

    def serve(connection: socket.socket) -> None:
        data = bytearray(connection.recv(64, socket.MSG_WAITALL))
        data[serve_byte] ^= 1
        connection.sendall(data)
        connection.recv(1)

    return serve


@pytest.mark.parametrize("which", [0, 7, 56, 63])
def test_wrong_bytes_at_either_end_are_an_error(which: int) -> None:
    with serving(change(which)) as port:
        report = run_load("echo", port, "count 1", size=64)
    assert report["requests"] == 0
    assert "wrong bytes" in report["first_error"]


def test_the_echo_of_an_earlier_request_is_an_error() -> None:
    def serve(connection: socket.socket) -> None:
        data = connection.recv(64, socket.MSG_WAITALL)
        for _ in range(2):
            connection.sendall(data)
            connection.recv(64, socket.MSG_WAITALL)

    with serving(serve) as port:
        report = run_load("echo", port, "count 2", size=64)
    assert (report["requests"], report["errors"]) == (1, 2)
    assert "wrong bytes" in report["first_error"]


def test_a_short_echo_is_an_error() -> None:
    with serving(lambda connection: connection.sendall(connection.recv(64, socket.MSG_WAITALL)[:8])) as port:
        report = run_load("echo", port, "count 1", size=64)
    assert report["requests"] == 0
    assert "closed by the server" in report["first_error"]


# ---- an open loop


def test_an_open_loop_keeps_its_rate() -> None:
    with floor() as (_, port), Child(measure.load_command("echo", port, 20), None, 15) as load:
        load.answer()
        first, second = (load.ask("rate 2000 seconds 0.25") for _ in range(2))
    assert first["errors"] == second["errors"] == 0
    # The gaps are drawn, but the same in each run: around 500 requests, within four deviations.
    assert first["requests"] == second["requests"]
    assert 410 < first["requests"] < 590
    assert 0 < first["p50_us"] <= first["p99_us"] <= first["p999_us"] <= first["max_us"]
    assert first["lag_us"] >= 0


def test_a_stall_counts_for_every_request_that_was_due() -> None:
    stall = threading.Event()

    def serve(connection: socket.socket) -> None:
        for number in range(1000):
            data = connection.recv(64, socket.MSG_WAITALL)
            if number == 10:
                stall.wait(0.3)
            if not data:
                return
            connection.sendall(data)

    with serving(serve) as port:
        report = run_load("echo", port, "rate 1000 seconds 0.3", size=64)
    assert report["errors"] == 0
    assert report["requests"] > 200
    # A client that waits for its answer would have met the stall once: its median would be that of an echo.
    assert report["p50_us"] > 50_000
    assert report["p99_us"] > 200_000
    # And it was the server's.
    assert report["lag_us"] < 50_000


def test_an_open_loop_meets_a_server_that_leaves() -> None:
    with serving(lambda connection: connection.close()) as port:
        report = run_load("echo", port, "rate 1000 seconds 0.05", size=64)
    assert report["requests"] == 0
    assert report["errors"] >= 1


# ---- http


def answer(text: str, *, pieces: int = 1) -> Serve:
    """A server that answers one request with *text*, in pieces."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        data = text.replace("\n", "\r\n").encode()
        for i in range(pieces):
            connection.sendall(data[len(data) * i // pieces : len(data) * (i + 1) // pieces])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4096)

    return serve


@pytest.mark.parametrize("pieces", [1, 2, 50])
def test_a_right_answer(pieces: int) -> None:
    text = "HTTP/1.1 200 OK\nServer: x\ncontent-LENGTH: 5\n\nhello"
    with serving(answer(text, pieces=pieces)) as port:
        report = run_load("http", port, "count 1")
    assert (report["requests"], report["errors"]) == (1, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("HTTP/1.1 503 Busy\nContent-Length: 0\n\n", "status is not 200"),
        ("HTTP/1.1 200 OK\nX-Content-Length: 5\n\nhello", "no Content-Length"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello, world", "more bytes than announced"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhell", "closed by the server"),
        ("SSH-2.0-x\n\nContent-Length: 5\n\n", "not an HTTP/1 answer"),
        ("HTTP/1.1 200 OK\nX: " + "x" * 9000, "too long"),
    ],
)
def test_a_wrong_answer_is_an_error(text: str, reason: str) -> None:
    with serving(answer(text)) as port:
        report = run_load("http", port, "count 1")
    assert report["requests"] == 0
    assert reason in report["first_error"]


# ---- connections that are held, or opened and closed


def test_idle_connections_are_counted() -> None:
    with floor() as (_, port), Child(measure.load_command("idle", port, 30, sources=3), None, 15) as load:
        assert load.answer() == {"connected": 30}
        assert load.ask("alive") == {"alive": 30}


def test_a_lost_idle_connection_is_noticed() -> None:
    with (
        serving(lambda connection: None) as port,
        Child(measure.load_command("idle", port, 1), None, 15) as load,
    ):
        load.answer()
        patience = time.monotonic() + 20
        while load.ask("alive") != {"alive": 0}:
            assert time.monotonic() < patience, "still alive"


def test_connections_are_opened_and_closed() -> None:
    with floor() as (_, port):
        report = run_load("connect", port, "count 120", connections=25, size=100)
    assert (report["requests"], report["errors"]) == (120, 0)


# ---- bad use


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "which mode"),
        (["flood"], "unknown mode flood"),
        (["echo"], "--port is needed"),
        (["echo", "--port"], "--port needs a value"),
        (["echo", "--port", "x"], "--port: not a number"),
        (["echo", "--port", "80", "--speed", "9"], "unknown option --speed"),
        (["echo", "--port", "80", "--host", "localhost"], "not an IPv4 address: localhost"),
        (["udp", "--port", "80", "--window", "65"], "--window: 64 at most"),
        (["udp", "--port", "80", "--window", "0"], "--window: not a number of at least 1"),
        (["udp", "--port", "80", "--size", "65508"], "--size: a datagram holds 65507 bytes at most"),
        (["udp", "--port", "80", "--connections", "65536"], "--connections: 65535 at most"),
        (["fetch", "--port", "80", "--size", "15"], "--size: a file has 16 bytes at least"),
        (["fetch", "--port", "80", "--connections", "2"], "fetch has one connection"),
    ],
)
def test_wrong_words_are_refused(words: list[str], reason: str) -> None:
    done = subprocess.run(
        [str(native.program("load")), *words], check=False, capture_output=True, text=True, timeout=10
    )
    assert done.returncode == 1
    assert reason in done.stderr


def test_a_refused_connection_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        command = measure.load_command("echo", unused.getsockname()[1], 1)
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert "connect 1 of 1: Connection refused" in done.stderr


@pytest.mark.parametrize("command", ["dance", "rate 0 seconds 1", "rate 10 seconds 0", "rate x seconds 1"])
def test_an_unknown_command_ends_the_program(command: str) -> None:
    with floor() as (_, port):
        done = subprocess.run(
            measure.load_command("echo", port, 1),
            check=False,
            input=f"{command}\n",
            capture_output=True,
            text=True,
            timeout=10,
        )
    assert json.loads(done.stdout) == {"connected": 1}
    assert f"not a command here: {command}" in done.stderr
