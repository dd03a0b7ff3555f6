"""uvicorn with httptools on pinloop: a server in a process of its own, real requests, a clean end."""

import contextlib
import functools
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="uvicorn has no release for this Python")
pytest.importorskip("httptools", reason="httptools has no wheel for this Python")

pytestmark = pytest.mark.skipif(
    os.environ.get("PINLOOP_TEST_LOOP") == "asyncio", reason="tests that uvicorn finds and uses pinloop"
)

APP = """
import asyncio, sys

events = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print(message["type"], file=sys.stderr, flush=True)
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path, status, body = scope["path"], 200, b""
    request = b""
    while True:
        message = await receive()
        request += message.get("body", b"")
        if not message.get("more_body"):
            break
    if path == "/loop":
        loop = asyncio.get_running_loop()
        body = f"{type(loop).__module__}.{type(loop).__name__}".encode()
    elif path == "/echo":
        body = request
    elif path == "/fail":
        raise ZeroDivisionError("mine")
    elif path == "/slow":
        print("slow", file=sys.stderr, flush=True)
        await asyncio.sleep(0.2)
        body = b"at last"
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(100):
            await send({"type": "http.response.body", "body": bytes([n]) * 10_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    else:
        status, body = 404, b"not here"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class Server:
    """A running uvicorn and what it said so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self.listen)
        self.reader.start()

    @functools.cached_property
    def port(self) -> int:
        return int(self.wait_for(r"Uvicorn running on http://127\.0\.0\.1:(\d+)").group(1))

    def listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.news:
                self.said.append(line)
                self.news.notify_all()

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """The first match in what the server says; fails if it does not come."""

        def find() -> "re.Match[str] | None":
            return re.search(pattern, "".join(self.said))

        with self.news:
            assert self.news.wait_for(find, timeout=20), "".join(self.said)
        match = find()
        assert match is not None
        return match

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.reader.join(20)
        return status


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "0"]
    command += [
        "--loop",
        "pinloop:new_event_loop",
        "--http",
        "httptools",
        "--lifespan",
        "on",
        "--no-use-colors",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    server = Server(process)
    try:
        assert server.port
        yield server
    finally:
        process.kill()
        process.wait()
        server.reader.join(20)  # it ends with what it reads
        assert process.stderr is not None
        process.stderr.close()


def get(connection: http.client.HTTPConnection, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection.request("POST" if body is not None else "GET", path, body)
    response = connection.getresponse()
    return response.status, response.read()


def test_it_runs_on_pinloop(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        assert get(connection, "/loop") == (200, b"pinloop._loop.Loop")


def test_it_serves_many_requests_over_keep_alive_connections(server: Server) -> None:
    def client(n: int) -> int:
        good = 0
        with contextlib.closing(server.connect()) as connection:
            for turn in range(50):
                body = f"{n}:{turn}".encode() * (turn + 1)
                good += get(connection, "/echo", body) == (200, body)
        return good

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(client, range(10))) == [50] * 10


def test_it_takes_and_gives_large_bodies(server: Server) -> None:
    body = os.urandom(3_000_000)
    with contextlib.closing(server.connect()) as connection:
        assert get(connection, "/echo", body) == (200, body)
        assert get(connection, "/stream") == (200, b"".join(bytes([n]) * 10_000 for n in range(100)))
        assert get(connection, "/nonesuch") == (404, b"not here")


def test_an_application_that_fails_costs_its_request_only(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        assert get(connection, "/fail")[0] == 500
    with contextlib.closing(server.connect()) as connection:
        assert get(connection, "/echo", b"hello") == (200, b"hello")
    server.wait_for("ZeroDivisionError: mine")


def test_it_survives_clients_that_leave(server: Server) -> None:
    for request in (b"", b"GET /slow HT", b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", b"\0nonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(request)
    with contextlib.closing(server.connect()) as connection:
        assert get(connection, "/echo", b"hello") == (200, b"hello")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(server: Server, number: signal.Signals) -> None:
    with contextlib.closing(server.connect()) as connection:
        assert get(connection, "/echo", b"hello") == (200, b"hello")
        status = server.end(number)
    said = "".join(server.said)
    assert "Application shutdown complete." in said
    assert "Finished server process" in said
    assert "Traceback" not in said
    assert "Warning" not in said
    # uvicorn sends itself the signal again once it is done.
    assert status in (0, -number)


def test_a_request_under_way_is_answered_before_the_end(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool, contextlib.closing(server.connect()) as connection:
        answer = pool.submit(get, connection, "/slow")
        server.wait_for("slow")
        server.end(signal.SIGINT)
        assert answer.result(20) == (200, b"at last")
    assert "Traceback" not in "".join(server.said)
