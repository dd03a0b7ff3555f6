"""The sink of files: it orders, counts and looks at both ends."""

import socket
from collections.abc import Callable

import pytest

from pinloop.bench.servers.files import ASK, FIRST, LAST
from tests.bench.support import Serve, run_load, serving

MIB = 1 << 20


def sending(change: Callable[[bytes], bytes] = lambda data: data) -> Serve:
    """A server that sends each file that is ordered, changed."""

    def serve(connection: socket.socket) -> None:
        while order := connection.recv(ASK, socket.MSG_WAITALL):
            size = int.from_bytes(order, "big")
            connection.sendall(change(FIRST + bytes(size - len(FIRST + LAST)) + LAST))
            if change(b"?") != b"?":
                return

    return serve


@pytest.mark.parametrize("size", [16, 17, 1000, 3 * MIB + 5])
def test_files_are_counted_exactly(size: int) -> None:
    with serving(sending()) as port:
        report = run_load("fetch", port, "count 5", size=size)
    assert (report["requests"], report["errors"], report["first_error"]) == (5, 0, "")
    assert 0 < report["p50_us"] <= report["max_us"]
    assert report["seconds"] > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"x" + data[1:], "wrong bytes"),
        (lambda data: data[:-1] + b"x", "wrong bytes"),
        (lambda data: data[:1] + data, "wrong bytes"),
        (lambda data: data[:-1], "closed by the server"),
        (lambda data: b"", "closed by the server"),
    ],
)
def test_another_file_is_an_error(change: Callable[[bytes], bytes], reason: str) -> None:
    with serving(sending(change)) as port:
        report = run_load("fetch", port, "count 2", size=MIB)
    assert (report["requests"], report["errors"]) == (0, 1)
    assert report["first_error"] == f"file 1: {reason}"
