"""Counting: it repeats, and what goes wrong under valgrind is told."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pinloop.bench.errors import BenchError


@pytest.fixture
def callgrind(program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with counts that are just enough."""
    callgrind = program("callgrind")
    monkeypatch.setattr(callgrind, "FEW", 1000)
    monkeypatch.setattr(callgrind, "MANY", 2000)
    return callgrind


needs_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None or bool(os.environ.get("LD_PRELOAD")),
    reason="needs valgrind, and a process without the sanitizers that valgrind cannot run",
)


@needs_valgrind
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_count_repeats(callgrind: ModuleType) -> None:
    # Timers: the cell that depends most on the clock.
    with callgrind.valgrind() as under:
        first, second = (under.count("pinloop", "call-later-fire") for _ in range(2))
    # But for a dozen instructions in all, now and then: what a process is given, its number for one, differs.
    assert first == pytest.approx(second, abs=0.1)
    assert 100 < first < 100_000


@needs_valgrind
@pytest.mark.parametrize(
    ("script", "said"),
    [("raise KeyError('ring')", "status 1: KeyError: 'ring'"), ("", "status 0: no output")],
)
def test_a_process_that_fails_is_told(
    callgrind: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    with callgrind.valgrind() as under:
        monkeypatch.setattr(callgrind, "HERE", tmp_path)
        (tmp_path / "callgrind_child.py").write_text(script)
        with pytest.raises(BenchError, match=said):
            under.count("pinloop", "call-soon-chain")


def test_valgrind_and_compiler_are_asked_for(callgrind: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callgrind, "installed", lambda: True)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match="'no-such-compiler' is not on PATH"), callgrind.valgrind():
        pass
    monkeypatch.setattr(callgrind, "installed", lambda: False)
    with pytest.raises(BenchError, match="valgrind is not installed"), callgrind.valgrind():
        pass


def test_output_without_a_total_is_an_error(callgrind: ModuleType) -> None:
    assert callgrind._total("events: Ir\nsummary: 12\n") == 12
    with pytest.raises(BenchError, match="no total"):
        callgrind._total("events: Ir\n")
