"""The UDP load: it counts exactly, sends lost datagrams anew, and tells late echoes from wrong ones."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from pinloop.bench import measure
from pinloop.bench.errors import MeasurementError
from pinloop.bench.process import Child
from tests.bench.support import floor, run_load

Answer = Callable[[socket.socket, bytes, tuple[str, int]], None]


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """A UDP server in a thread; yields its port."""
    near, far = socket.socketpair()
    endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.bind(("127.0.0.1", 0))

    def serve() -> None:
        while far not in (ready := select.select([endpoint, far], [], [])[0]):
            assert ready
            answer(endpoint, *endpoint.recvfrom(65536))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield endpoint.getsockname()[1]
    finally:
        near.close()
        thread.join(10)
        far.close()
        endpoint.close()


@pytest.mark.parametrize("size", [1, 16, 17, 64, 1024, 65507])
@pytest.mark.parametrize("window", [1, 4])
def test_datagrams_are_counted_exactly(size: int, window: int) -> None:
    with floor("udp-echo") as (_, port):
        report = run_load("udp", port, "count 500", connections=3, size=size, window=window)
    assert (report["requests"], report["errors"], report["first_error"]) == (500, 0, "")
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"]


def test_it_runs_for_a_time_and_again() -> None:
    with (
        floor("udp-echo") as (server, port),
        Child(measure.load_command("udp", port, 5, window=8), None, 15) as load,
    ):
        assert load.answer() == {"connected": 5}
        before = server.ask("cpu")
        for _ in range(2):
            report = load.ask("seconds 0.05")
            assert report["requests"] > 0
            assert report["errors"] == 0
        after = server.ask("cpu")
    assert after["cpu_ns"] > before["cpu_ns"]


def test_a_lost_datagram_is_sent_anew() -> None:
    seen = []

    def drop_every_third(endpoint: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        seen.append(data)
        if len(seen) % 3:
            endpoint.sendto(data, sender)

    with answering(drop_every_third) as port:
        report = run_load("udp", port, "count 8", connections=2, size=64, window=2)
    assert (report["requests"], report["errors"]) == (8, 0)
    assert report["lost"] == len(seen) - 8 > 0
    assert len(set(seen)) == len(seen)
    with pytest.raises(MeasurementError, match=r"\d datagrams were lost, 8 came back"):
        measure.check_load(report)


def test_a_late_echo_is_neither_counted_nor_an_error() -> None:
    first: list[bytes] = []

    def keep_the_first_back(endpoint: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        if not first:
            first.append(data)
            return
        endpoint.sendto(first[0], sender)
        endpoint.sendto(data, sender)

    with answering(keep_the_first_back) as port:
        report = run_load("udp", port, "count 3", size=64)
    assert (report["requests"], report["errors"], report["lost"]) == (3, 0, 1)


def test_what_is_lost_after_the_end_is_let_be() -> None:
    with (
        answering(lambda endpoint, data, sender: None) as port,
        Child(measure.load_command("udp", port, 1), None, 15) as load,
    ):
        load.answer()
        report = load.ask("seconds 0.01")
    assert (report["requests"], report["errors"], report["lost"]) == (0, 0, 1)


@pytest.mark.parametrize("which", [0, 5, 7, 56, 63])
def test_wrong_bytes_at_either_end_are_an_error(which: int) -> None:
    def change(endpoint: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        changed = bytearray(data)
        changed[which] ^= 0x40
        endpoint.sendto(changed, sender)

    with answering(change) as port:
        report = run_load("udp", port, "count 1", size=64)
    assert report["requests"] == 0
    assert "wrong bytes" in report["first_error"]


@pytest.mark.parametrize("length", [0, 63, 65, 200])
def test_a_wrong_length_is_an_error(length: int) -> None:
    with answering(lambda endpoint, data, sender: endpoint.sendto(bytes(length), sender) and None) as port:
        report = run_load("udp", port, "count 1", size=64)
    assert report["requests"] == 0
    assert "wrong length" in report["first_error"]


def test_an_echo_that_comes_twice_is_counted_once() -> None:
    def answer_twice(endpoint: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        endpoint.sendto(data, sender)
        endpoint.sendto(data, sender)

    with answering(answer_twice) as port:
        report = run_load("udp", port, "count 20", connections=2, size=64, window=2)
    assert (report["requests"], report["errors"], report["lost"]) == (20, 0, 0)


def test_the_echo_of_another_socket_is_an_error() -> None:
    held: list[tuple[bytes, tuple[str, int]]] = []

    def exchange(endpoint: socket.socket, data: bytes, sender: tuple[str, int]) -> None:
        held.append((data, sender))
        if len(held) == 2:
            endpoint.sendto(held[0][0], held[1][1])
            endpoint.sendto(held[1][0], held[0][1])

    with answering(exchange) as port:
        report = run_load("udp", port, "count 2", connections=2, size=64)
    assert report["requests"] == 0
    assert report["errors"] == 3  # both sockets, and that none is left
    assert "wrong bytes" in report["first_error"]


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    report = run_load("udp", port, "count 1")
    assert report["requests"] == 0
    assert "Connection refused" in report["first_error"]
