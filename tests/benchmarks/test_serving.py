"""The tables of what serving costs: the load and what it counts, wrk's output, a whole run."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello from 7"

WRK = """Running 1s test @ http://127.0.0.1:8000/
  1 threads and 48 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.41ms  310.00us   8.77ms   90.64%
  Latency Distribution
     50%  890.00us
     75%    1.47ms
     90%    1.61ms
     99%    2.84ms
  33948 requests in 1.00s, 4.92MB read
"""


@pytest.fixture
def serving(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("serving")


@pytest.fixture
def load(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("serving_load")


def answer_with(listener: socket.socket, *answers: bytes) -> threading.Thread:
    """Give each connection, in turn, one of these instead of an answer, then close it; then refuse."""

    def serve() -> None:
        for number, answer in enumerate(answers, 1):
            connection, _ = listener.accept()
            if number == len(answers):  # what connects after it is refused, not accepted and reset
                listener.close()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_what_fails_is_counted(load: ModuleType) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    found = load.Load(listener.getsockname()[1])
    thread = answer_with(listener, ANSWER, ANSWER[:30], b"", ANSWER.replace(b"200 OK", b"503 Busy"), ANSWER)
    found.run(0.5, keep=0, fresh=1)
    thread.join()
    result = found.result()
    assert result["requests"] == 2
    assert result["servers"] == {"7": 2}
    refused = result["failed"].pop("ECONNREFUSED")
    assert refused > 0
    assert result["failed"] == {"cut short": 1, "closed without an answer": 1, "HTTP/1.1 503 Busy": 1}


def test_a_connection_that_is_kept_is_used_again_until_it_is_to_be_closed(load: ModuleType) -> None:
    served = []

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                for number in range(3):
                    served.append(connection.recv(4096))
                    connection.sendall(
                        ANSWER if number < 2 else ANSWER.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")
                    )
                assert connection.recv(4096) == b""
        found.over = True
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = load.Load(listener.getsockname()[1])
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        found.run(0.5, keep=1, fresh=0)
        thread.join()
    assert len(served) == 6
    assert found.result()["requests"] == 6
    assert b"close" not in served[0]


def test_an_answer_that_never_comes_has_failed(load: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = load.Load(listener.getsockname()[1])
        found.run(0.1, keep=2, fresh=1)
    assert found.result()["failed"] == {"not answered": 3}
    assert not found.selector.get_map()


def test_it_goes_on_until_so_many_processes_have_answered(load: ModuleType) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    found = load.Load(listener.getsockname()[1])
    pids = [7, 7, 7, 8, 8, 9]
    thread = answer_with(listener, *(ANSWER[:-1] + b"%d" % pid for pid in pids))
    found.run(0, keep=0, fresh=1, servers=3)
    thread.join()
    assert found.result()["servers"] == {"7": 3, "8": 2, "9": 1}


def test_what_wrk_says(serving: ModuleType) -> None:
    assert serving.parsed(WRK) == {"requests": 33948, "failed": {}, "p50": 890e-6, "p99": 2.84e-3}
    broken = WRK + "  Socket errors: connect 0, read 17, write 0, timeout 2\n  Non-2xx or 3xx responses: 4\n"
    assert serving.parsed(broken)["failed"] == {"read": 17, "timeout": 2, "status": 4}
    with pytest.raises(serving.BenchError, match="unable to connect"):
        serving.parsed("unable to connect to 127.0.0.1:8000 Connection refused\n")


def test_advantage_is_the_median_of_the_rounds(serving: ModuleType) -> None:
    ours, theirs = serving.Found(per_cpu=[30.0, 40.0, 90.0]), serving.Found(per_cpu=[20.0, 20.0, 30.0])
    measured = {("pinloop serve", 2): ours, ("uvicorn on uvloop", 2): theirs}
    assert serving.advantage(measured, "uvicorn on uvloop", 2) == 2.0
    assert serving.advantage(measured, "pinloop serve", 2) is None
    assert serving.advantage(measured, "uvicorn on uvloop", 1) is None


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_whole_run(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="what is served is an ASGI app")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    words = ["--rounds", "1", "--seconds", "0.5", "--restart-seconds", "6", "--load", "own", "--write", page]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], check=False, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1:-1] for line in page.read_text().splitlines() if "±" in line]
    rows = [[cell.strip() for cell in line] for line in lines if "pinloop serve" in line[0]]
    assert [row[:2] for row in rows] == [
        ["pinloop serve", "1"],
        ["pinloop serve", "2"],
        ["pinloop serve", "2"],
    ]
    assert [row[6] for row in rows[:2]] == ["0", "0"]
    assert rows[2][2] == "1"
    assert rows[2][4:6] == ["0", "4"]  # nothing failed, and both workers were replaced
