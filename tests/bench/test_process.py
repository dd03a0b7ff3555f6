"""A measured process that dies, hangs or talks nonsense is reported with its reason."""

import os
import sys
import time
from pathlib import Path

import pytest

from pinloop.bench import cpus
from pinloop.bench.errors import BenchError, MeasurementError, NotOfferedError
from pinloop.bench.process import Child, allow_open_files


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it does not only wait for init to reap it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_lines_are_answered() -> None:
    code = 'import sys\nfor line in sys.stdin: print(\'{"said": "%s"}\' % line.strip(), flush=True)'
    with Child(python(code), None, 10) as child:
        assert child.ask("one") == {"said": "one"}
        assert child.ask("two") == {"said": "two"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no luck')", "ended with status 1: RuntimeError: no luck"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("print('hello')", "said b'hello'"),
        ("print(7)", "said b'7'"),
        ("""print('{"failed": "ImportError: x"}')""", "ImportError: x"),
    ],
)
def test_a_death_has_a_reason(code: str, reason: str) -> None:
    with Child(python(code), None, 10) as child, pytest.raises(MeasurementError, match=reason):
        child.answer()


def test_a_stuck_child_is_killed() -> None:
    with Child(python("import time; time.sleep(100)"), None, 0.2) as child:
        with pytest.raises(MeasurementError, match="no answer within"):
            child.answer()
        pid = child.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_grandchildren_are_killed_too() -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '100']); "
    code += "print('{\"pid\": %d}' % p.pid, flush=True); "
    with Child(python(code + "p.wait()"), None, 10) as child:
        pid = child.answer()["pid"]
        assert is_running(pid)
    ends = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_what_is_not_offered_is_no_failure() -> None:
    code = """print('{"not_offered": "sock_recv"}')"""
    with Child(python(code), None, 10) as child, pytest.raises(NotOfferedError, match="sock_recv"):
        child.answer()


def test_asking_the_dead_has_a_reason() -> None:
    with Child(python("print('{}')"), None, 10) as child:
        child.answer()
        with pytest.raises(MeasurementError, match="ended with status 0"):
            for _ in range(100):
                child.ask("anybody?")


def test_open_files_within_the_limit() -> None:
    allow_open_files(10)
    with pytest.raises(BenchError, match="ulimit"):
        allow_open_files(1 << 40)


def test_the_chosen_cpus_are_allowed_ones() -> None:
    chosen = cpus.choose()
    assert chosen.note
    if hasattr(os, "sched_getaffinity"):
        assert {chosen.server, *chosen.loads} <= os.sched_getaffinity(0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no call to pin a process here")
def test_one_cpu_is_shared_and_said_so() -> None:
    before = os.sched_getaffinity(0)
    only = min(before)
    code = "import os; print('{\"cpus\": %d}' % len(os.sched_getaffinity(0)))"
    with cpus.pinned(only):
        chosen = cpus.choose()
        assert (chosen.server, chosen.loads) == (only, (only,))
        assert "take turns" in chosen.note
        with Child(python(code), only, 10) as child:
            assert child.answer() == {"cpus": 1}
    assert os.sched_getaffinity(0) == before
