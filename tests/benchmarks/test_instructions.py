"""The guard's judgement, its file, and what it does where it cannot count."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from pinloop.bench.errors import BenchError

KEY = "3.11 x86_64, gcc 12, module gcc 12"
KNOWN = {"interpreter": 3000, "call-soon-chain": 1000, "spawn-await": 2000}


@pytest.fixture
def guard(
    program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The program, on a machine of which the file has `KNOWN`."""
    guard = program("instructions")
    monkeypatch.setattr(guard, "FILE", tmp_path / "instructions.json")
    monkeypatch.setattr(guard.callgrind, "installed", lambda: True)
    monkeypatch.setattr(guard, "machine_key", lambda: KEY)
    guard.FILE.write_text(json.dumps({KEY: KNOWN}))
    return guard


def counting(guard: ModuleType, monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """Let the guard find the counts of the file, but for these."""
    found = KNOWN | {name.replace("_", "-"): count for name, count in changed.items()}
    monkeypatch.setattr(guard, "measure", lambda: found)


@pytest.mark.parametrize(
    ("count", "status", "says"),
    [
        (1000, 0, "instructions: 3 cells as in the file"),
        (1030, 0, "instructions: 3 cells as in the file"),
        (1031, 1, "instructions: more than 3% slower: call-soon-chain"),
        (970, 0, "instructions: 3 cells as in the file"),
        (969, 0, "the file is out of date; update it: make instructions INSTRUCTIONS_ARGS=--update"),
    ],
)
def test_three_per_cent_are_the_limit(
    guard: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: int,
    status: int,
    says: str,
) -> None:
    counting(guard, monkeypatch, call_soon_chain=count)
    assert guard.main([]) == status
    out = capsys.readouterr().out
    assert says in out.splitlines()[-1]
    assert f"call-soon-chain: {count}, in the file 1000 ({count / 1000 - 1:+.1%})" in out


def test_a_slower_cell_fails_whatever_the_others_gained(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counting(guard, monkeypatch, call_soon_chain=2000, spawn_await=1)
    assert guard.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("slower: call-soon-chain")


def test_a_machine_that_is_not_in_the_file_fails_nothing(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counting(guard, monkeypatch, call_soon_chain=9999)
    monkeypatch.setattr(guard, "machine_key", lambda: "3.14 arm64, clang 21, module clang 21")
    assert guard.main([]) == 0
    out = capsys.readouterr().out
    assert "call-soon-chain: 9999" in out
    assert f"3.14 arm64, clang 21, module clang 21 is not in the file ({KEY})" in out
    assert out.strip().endswith("PYTHON=python3.14")


@pytest.mark.parametrize("interpreter", [2930, 3070])
def test_another_build_of_the_interpreter_fails_nothing(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interpreter: int
) -> None:
    counting(guard, monkeypatch, call_soon_chain=9999, interpreter=interpreter)
    assert guard.main([]) == 0
    assert "not compared, another build" in capsys.readouterr().out


@pytest.mark.parametrize("interpreter", [2940, 3060])
def test_a_slower_cell_fails_where_the_interpreter_is_nearly_the_same(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, interpreter: int
) -> None:
    counting(guard, monkeypatch, call_soon_chain=9999, interpreter=interpreter)
    assert guard.main([]) == 1


def test_cells_that_came_and_went_ask_for_a_new_file(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "measure", lambda: {"interpreter": 3000, "call-soon-chain": 1000, "ring": 7})
    assert guard.main([]) == 0
    out = capsys.readouterr().out
    assert "ring: 7, not in the file" in out
    assert "spawn-await: in the file, but there is no such cell" in out
    assert "out of date" in out.splitlines()[-1]


def test_an_update_leaves_other_machines_alone(guard: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    counting(guard, monkeypatch, call_soon_chain=500)
    monkeypatch.setattr(guard, "machine_key", lambda: "3.14 x")
    assert guard.main(["--update"]) == 0
    assert json.loads(guard.FILE.read_text()) == {KEY: KNOWN, "3.14 x": KNOWN | {"call-soon-chain": 500}}
    monkeypatch.setattr(guard, "machine_key", lambda: KEY)
    assert guard.main(["--update"]) == 0
    assert guard.main([]) == 0
    assert set(json.loads(guard.FILE.read_text())) == {KEY, "3.14 x"}


def test_a_missing_file_is_an_empty_one(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counting(guard, monkeypatch)
    guard.FILE.unlink()
    assert guard.main([]) == 0
    assert "not in the file (none)" in capsys.readouterr().out


def test_a_broken_file_is_named(guard: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    guard.FILE.write_text("{")
    assert guard.main([]) == 1
    assert f"cannot read {guard.FILE}" in capsys.readouterr().out


def test_without_valgrind_it_is_skipped(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard.callgrind, "installed", lambda: False)
    assert guard.main([]) == 0
    assert capsys.readouterr().out.startswith("instructions: skipped, valgrind is not installed")


def test_a_cell_that_cannot_be_counted_fails(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> None:
        raise BenchError("valgrind ended with status 1: boom")

    monkeypatch.setattr(guard, "measure", measure)
    assert guard.main([]) == 1
    assert "boom" in capsys.readouterr().out


def test_every_cell_is_counted_but_those_left_out(guard: ModuleType) -> None:
    counted = guard.callgrind.cells.CELLS.keys() - guard.LEFT_OUT
    assert guard.callgrind.cells.CELLS.keys() > guard.LEFT_OUT
    assert {"call-soon-chain", "socketpair-echo", guard.REFERENCE} < counted


@pytest.mark.parametrize(
    ("module", "compiler"),
    [
        (b"\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0", "gcc 12"),
        (b"\0GCC: (GNU) 14.2.1 20240801\0clang version 18.1.8\0", "clang 18"),
        (b"\x7fELF", "unknown"),
    ],
)
def test_the_compiler_of_a_module(guard: ModuleType, module: bytes, compiler: str) -> None:
    assert guard.compiler_of(module) == compiler


def test_the_key_names_interpreter_and_compilers(
    program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guard = program("instructions")
    (tmp_path / "_core.so").write_bytes(b"GCC: (Debian) 12.2.0")
    monkeypatch.setattr(guard.pinloop, "_core", SimpleNamespace(__file__=str(tmp_path / "_core.so")))
    monkeypatch.setattr(guard.platform, "python_version_tuple", lambda: ("3", "11", "7"))
    monkeypatch.setattr(guard.platform, "machine", lambda: "x86_64")
    for said, meant in {"GCC 14.2.0": "gcc 14", "Clang 17.0.6 (x)": "clang 17", "": "unknown"}.items():
        monkeypatch.setattr(guard.platform, "python_compiler", lambda said=said: said)
        assert guard.machine_key() == f"3.11 x86_64, {meant}, module gcc 12"
