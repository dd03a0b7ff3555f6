"""Looking at the loops of another process: who is found, who is trusted, what is left behind."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop import _watch_files, top, watching
from tests.api.support import ON_PINLOOP, environment

pytestmark = pytest.mark.skipif(not ON_PINLOOP, reason="only pinloop's loops can be watched")

# Sleeps, and does on request what a line of its input says.
PROGRAM = """
import asyncio, os, sys, threading, time
import pinloop

async def main():
    loop = asyncio.get_running_loop()
    asyncio.create_task(asyncio.sleep(1000), name="sleeper")
    await asyncio.sleep(0)
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        exec(line)
        print("done", flush=True)

print("begin", flush=True)
pinloop.run(main())
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the sockets, which does not exist yet, with a short name."""
    with tempfile.TemporaryDirectory(prefix="w") as parent:
        monkeypatch.setenv("PINLOOP_WATCH_DIR", f"{parent}/f")
        monkeypatch.delenv("PINLOOP_WATCH", raising=False)
        yield Path(parent, "f")


@pytest.fixture
def published(place: Path, no_fd_leak: None) -> Iterator[Path]:
    """This process is watched; where its socket is."""
    path = pinloop.publish_metrics()
    yield path
    watching.stop_publishing()


class Child:
    """A watched process that runs PROGRAM."""

    def __init__(self, *options: str, code: str = PROGRAM, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | {"PINLOOP_WATCH": "1"} | variables,
        )
        self.pid = self.process.pid

    def tell(self, line: str, wait: bool = True) -> None:
        """Have it execute a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if wait:
            assert self.readline() == "done"

    def readline(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[str, str]:
        return self.process.communicate(timeout=20)


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Child]]:
    """Starts children, and ends them."""
    children: list[Child] = []

    def start(*options: str, **rest: Any) -> Child:
        children.append(Child(*options, **rest))
        assert children[-1].readline() == "begin"
        if "code" not in rest:
            children[-1].tell("pass")  # it runs
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.end()


# --------------------------------------------------------------------- what is seen of it --


def test_this_process(published: Path, run: Any) -> None:
    async def main() -> watching.WatchedProcess:
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, watching.read_process, os.getpid())

    assert watching.watched_processes() == [os.getpid()]
    found = run(main())
    assert found.pid == os.getpid()
    assert found.program[0] == sys.orig_argv[0]
    assert abs(found.time - time.monotonic()) < 10
    assert len(found.loops) == 1
    loop = found.loops[0]
    assert (loop.thread, loop.thread_id) == (threading.current_thread().name, threading.get_native_id())
    assert loop.metrics.loops == 1
    assert loop.metrics.turns > 1
    assert loop.metrics.busy + loop.metrics.idle > 0.009
    assert watching.read_process(os.getpid()).loops == ()  # it is closed


def test_publishing_twice_and_stopping_twice(published: Path) -> None:
    assert pinloop.publish_metrics() == published
    watching.stop_publishing()
    assert not published.exists()
    watching.stop_publishing()
    assert watching.watched_processes() == []
    with pytest.raises(ProcessLookupError, match="not watched"):
        watching.read_process(os.getpid())
    assert pinloop.publish_metrics() == published
    assert watching.read_process(os.getpid()).pid == os.getpid()


def test_another_process_and_one_that_is_blocked(start: Any, place: Path) -> None:
    child = start()
    assert watching.watched_processes() == [child.pid]
    loop = watching.read_process(child.pid).loops[0]
    assert (loop.number, loop.thread, loop.thread_id) == (0, "MainThread", child.pid)
    assert loop.metrics.tasks == 2
    child.tell("print('blocking', flush=True); sys.stdin.readline()", wait=False)
    assert child.readline() == "blocking"
    away = [watching.read_process(child.pid).loops[0].metrics.away for _ in range(2)]
    assert 0 < away[0] < away[1]
    child.tell("go on")


def test_the_tasks_of_another_process(start: Any) -> None:
    child = start()
    text = watching.read_tasks(child.pid)
    assert text.startswith(f"Tasks of process {child.pid} on ")
    assert "Task 'sleeper' waits for a future" in text


def test_loops_in_threads_and_loops_that_do_not_run(start: Any) -> None:
    child = start()
    child.tell("asleep = pinloop.new_event_loop(); globals().update(asleep=asleep)")
    child.tell("work = lambda: pinloop.run(asyncio.sleep(1000)); globals().update(work=work)")
    child.tell("threading.Thread(target=work, name='second', daemon=True).start()")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        loops = watching.read_process(child.pid).loops
        if len(loops) == 3 and loops[2].thread == "second":
            break
    assert [loop.thread for loop in loops] == ["MainThread", None, "second"]
    assert loops[2].thread_id not in (None, child.pid)
    child.process.kill()


# ---------------------------------------------------------------------------- its end --


@pytest.mark.parametrize(
    "line", ["", "sys.exit(3)", "raise ValueError", "signal.raise_signal(signal.SIGINT)"]
)
def test_nothing_is_left_by_a_process_that_ends(start: Any, place: Path, line: str) -> None:
    child = start()
    assert [path.name for path in place.iterdir()] == [str(child.pid)]
    if line:
        child.tell(f"import signal; {line}", wait=False)
    child.end()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_found_out(start: Any, place: Path) -> None:
    child = start()
    child.process.kill()
    child.process.wait()
    assert place.joinpath(str(child.pid)).exists()
    with pytest.raises(ProcessLookupError, match="has ended"):
        watching.read_process(child.pid)
    assert list(place.iterdir()) == []


def test_who_looks_or_publishes_removes_what_killed_processes_left(start: Any, place: Path) -> None:
    for others in (0, 1):
        child = start()
        child.process.kill()
        child.process.wait()
        if others:
            other = start()
            assert watching.watched_processes() == [other.pid]
        else:
            assert watching.watched_processes() == []
        assert [path.name for path in place.iterdir()] == [str(each) for each in watching.watched_processes()]


def test_a_socket_whose_process_is_not_to_be_seen_from_here_stays(place: Path) -> None:
    place.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended, socket.socket(socket.AF_UNIX) as listener:
        ended.wait()
        listener.bind(str(place / str(ended.pid)))  # as a container's would be
        listener.listen()
        assert watching.watched_processes() == [ended.pid]
        assert place.joinpath(str(ended.pid)).exists()


def test_a_stopped_process_does_not_answer(start: Any) -> None:
    child = start()
    child.process.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    with pytest.raises(TimeoutError):
        watching.read_process(child.pid, timeout=0.2)
    child.process.send_signal(signal.SIGCONT)
    assert watching.read_process(child.pid).pid == child.pid


FORKS = """
import os, sys, pinloop
from pinloop import watching
path = pinloop.publish_metrics()
print("begin", flush=True)
if os.fork() == 0:
    watching.stop_publishing()
    assert path.exists()
    mine = pinloop.publish_metrics()
    assert mine != path
    assert watching.read_process(os.getpid()).pid == os.getpid()
    watching.stop_publishing()
    assert not mine.exists()
    sys.exit(0)
assert os.wait()[1] == 0
assert watching.watched_processes() == [os.getpid()]
assert watching.read_process(os.getpid()).pid == os.getpid()
"""


def test_a_forked_child_leaves_its_parents_socket_alone(start: Any, place: Path) -> None:
    child = start("-W", "ignore::DeprecationWarning", code=FORKS)
    out, err = child.end()
    assert (out, err, child.process.returncode) == ("", "", 0)
    assert list(place.iterdir()) == []


# ------------------------------------------------------------------------ who may look --


def test_only_its_user_can_enter_the_folder_and_open_the_socket(published: Path) -> None:
    assert stat.S_IMODE(published.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(published.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(published.stat().st_mode)


def refused(text: str) -> None:
    """Both sides refuse the folder."""
    for call in (pinloop.publish_metrics, watching.watched_processes):
        with pytest.raises(PermissionError, match=text):
            call()
    with pytest.raises(PermissionError, match=text):
        watching.read_process(os.getpid())


def test_a_folder_that_others_can_enter_is_refused(place: Path, no_fd_leak: None) -> None:
    place.mkdir(mode=0o700)
    place.chmod(0o750)
    refused("0700")


def test_what_is_no_folder_is_refused(place: Path, no_fd_leak: None) -> None:
    place.symlink_to(tempfile.gettempdir())
    refused("is no folder")
    place.unlink()
    place.touch()
    refused("is no folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(place: Path, no_fd_leak: None) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)
    refused("belongs to user 12345")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who is at the other end")
def test_another_user_who_gets_hold_of_the_socket_is_told_nothing(published: Path) -> None:
    published.parent.parent.chmod(0o755)
    published.parent.chmod(0o755)
    published.chmod(0o666)
    code = (
        "import os, socket, sys; os.setuid(12345); s = socket.socket(socket.AF_UNIX); s.settimeout(10);"
        f"s.connect({str(published)!r}); s.sendall(b'{{}}\\n'); print(s.recv(100))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "b''\n" or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr
    published.parent.chmod(0o700)


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINLOOP_WATCH_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert _watch_files.folder() == Path("/run/user/1/pinloop")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert _watch_files.folder() == Path(tempfile.gettempdir(), f"pinloop-{os.geteuid()}")


def test_a_name_too_long_for_a_socket(place: Path, monkeypatch: pytest.MonkeyPatch, no_fd_leak: None) -> None:
    monkeypatch.setenv("PINLOOP_WATCH_DIR", f"{place.parent}/{'x' * 120}")
    with pytest.raises(OSError, match="PINLOOP_WATCH_DIR can name another"):
        pinloop.publish_metrics()


def test_the_variable_where_the_folder_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.touch()
    monkeypatch.setenv("PINLOOP_WATCH", "1")
    with pytest.warns(RuntimeWarning, match="PINLOOP_WATCH is set, but .* is no folder"):
        pinloop.new_event_loop().close()


@pytest.mark.parametrize("value", ["", "0"])
def test_the_variable_that_says_no(place: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PINLOOP_WATCH", value)
    pinloop.new_event_loop().close()
    assert not place.exists()


# ------------------------------------------------------------------------- bad questions --


def ask(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(100)
        return b""


@pytest.mark.parametrize(
    "request_", [b"", b"\n", b"x\n", b"[]\n", b"3\n", b"\xff\n", b"[" * 4000 + b"\n", b"x" * 9999]
)
def test_who_asks_badly_is_told_nothing_and_the_next_one_is_answered(
    published: Path, request_: bytes
) -> None:
    assert ask(published, request_) in (b"", b'{"error": "it knows no such question"}')
    assert watching.read_process(os.getpid()).pid == os.getpid()


def test_who_asks_and_leaves(published: Path) -> None:
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(published))
            sock.sendall(b"{}\n")
    assert watching.read_process(os.getpid()).pid == os.getpid()


def test_who_says_nothing_does_not_hold_the_others_up_for_long(
    place: Path, no_fd_leak: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PATIENCE", 0.05)
    path = pinloop.publish_metrics()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(path))
        assert watching.read_process(os.getpid()).pid == os.getpid()
    watching.stop_publishing()


def test_a_failure_in_the_watched_process_is_told(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> str:
        raise ZeroDivisionError("for the test")

    monkeypatch.setattr(watching, "format_tasks", fail)
    with pytest.raises(ValueError, match="cannot tell: ZeroDivisionError: for the test"):
        watching.read_tasks(os.getpid())
    assert watching.read_process(os.getpid()).pid == os.getpid()


# --------------------------------------------------------------------------- bad answers --


@pytest.fixture
def impostor(place: Path, no_fd_leak: None) -> Iterator[Callable[[bytes], int]]:
    """Something that answers with these bytes; the process that it says it is."""
    ends: list[tuple[socket.socket, threading.Thread]] = []

    def answer(listener: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(answer)

    def impostor(answer_: bytes) -> int:
        place.mkdir(mode=0o700, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(place / "77"))
        listener.listen()
        listener.settimeout(10)
        thread = threading.Thread(target=answer, args=(listener, answer_))
        thread.start()
        ends.append((listener, thread))
        return 77

    yield impostor
    for listener, thread in ends:
        thread.join()
        listener.close()


def of_a_loop(**wrong: Any) -> bytes:
    """An answer that is right but for this."""
    loop = {"number": 0, "thread": None, "thread_id": None, "metrics": {}} | wrong
    return json.dumps({"loops": [loop], "program": [], "time": 0}).encode()


def test_the_answer_that_the_wrong_ones_are_made_of(impostor: Any) -> None:
    assert len(watching.read_process(impostor(of_a_loop())).loops) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"x",
        b"[]",
        b"3",
        b"{}",
        b"[" * 100_000,
        b'{"loops": 3, "program": [], "time": 0}',
        b'{"loops": [], "program": 3, "time": 0}',
        b'{"loops": [], "program": [3], "time": 0}',
        b'{"loops": [], "program": [], "time": "x"}',
        b'{"loops": [3], "program": [], "time": 0}',
        of_a_loop(number=True),
        of_a_loop(number=None),
        of_a_loop(thread=3),
        of_a_loop(thread_id="x"),
        of_a_loop(metrics=[]),
        of_a_loop(metrics={"lag": 1}),
        of_a_loop(metrics={"turns": 1.5}),
    ],
)
def test_an_answer_that_makes_no_sense(impostor: Any, answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"process 77|metrics|must be"):
        watching.read_process(impostor(answer))


def test_an_answer_that_is_too_long(impostor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LONGEST_ANSWER", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        watching.read_process(impostor(b" " * 2000))


def test_an_answer_that_would_command_a_terminal(impostor: Any) -> None:
    answer = {"loops": [], "program": ["a\x1b[2Jb"], "time": 0}
    assert watching.read_process(impostor(json.dumps(answer).encode())).program == (
        "a\N{REPLACEMENT CHARACTER}[2Jb",
    )


def test_tasks_that_are_no_text(impostor: Any) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        watching.read_tasks(impostor(b"{}"))


def test_no_answer_at_all(impostor: Any) -> None:
    with pytest.raises(ProcessLookupError, match="has ended"):
        watching.read_process(impostor(b""))


def test_what_is_no_socket(place: Path, no_fd_leak: None) -> None:
    place.mkdir(mode=0o700)
    (place / "77").touch()
    (place / "other").touch()
    assert watching.watched_processes() == [77]
    with pytest.raises(PermissionError, match="not a socket"):
        watching.read_process(77)
    assert top.look(77).problem.endswith("is not a socket of this user's")
