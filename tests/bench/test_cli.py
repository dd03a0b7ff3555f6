"""The command, as a user types it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pinloop.bench
from pinloop.bench import cli, loops
from pinloop.bench.catalog import CELLS

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("rich") is None or importlib.util.find_spec("matplotlib") is None,
    reason="needs the bench extra",
)


def test_the_list_names_cells_and_loops(capsys: pytest.CaptureFixture[str]) -> None:
    assert pinloop.bench.main(["--list"]) == 0
    out = capsys.readouterr().out
    for cell in CELLS:
        assert cell.name in out
    for loop in loops.LOOPS:
        assert loop.name in out


def test_the_quick_list_is_shorter(capsys: pytest.CaptureFixture[str]) -> None:
    assert pinloop.bench.main(["--list", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "echo-protocol-1k-20 " in out
    assert "echo-protocol-1k-1000" not in out


@needs_extra
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--cells", "no-such-*"], "no cell matches 'no-such-*'; known: call-soon-chain"),
        (["--loops", "no-such"], "unknown loop 'no-such'; known: asyncio"),
        (["--render", "absent.json"], "cannot read absent.json"),
    ],
)
def test_unknown_names_list_the_known(
    words: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pinloop.bench.main(words) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@needs_extra
def test_a_loop_that_is_not_installed_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops.Loop, "version", lambda self: "1" if self.name == "asyncio" else None)
    assert pinloop.bench.main(["--loops", "asyncio,rloop"]) == 2
    assert "rloop is not installed (installed: asyncio)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--rounds", "0"], ["--rounds", "x"], ["--seconds", "-1"], ["--seconds", "nan"]]
)
def test_numbers_are_checked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert pinloop.bench.main(words) == 2
    assert "invalid positive" in capsys.readouterr().err


def test_missing_extras_are_named_before_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert pinloop.bench.main(["--quick"]) == 2
    err = capsys.readouterr().err
    assert "rich and matplotlib not installed" in err
    assert "pip install 'pinloop[bench]'" in err


@needs_extra
def test_a_small_run_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pinloop.bench", "--quick", "--rounds", "2", "--seconds", "0.05"]
    command += ["--cells", "future-wake,echo-protocol-1k-20", "--loops", "asyncio,pinloop"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=50)
    assert done.stderr == ""
    assert done.returncode == 0
    for word in ("future wake", "echo 1 KiB × 20, Protocol", "C floor", "best peer", "2 round(s)"):
        assert word in done.stdout
    names = sorted(path.suffix for path in (tmp_path / "bench-results").iterdir())
    assert names == [".json", ".png", ".svg"]
    (saved,) = (tmp_path / "bench-results").glob("*.json")
    assert [row["name"] for row in json.loads(saved.read_text())["rows"]] == [
        "future-wake",
        "echo-protocol-1k-20",
    ]
    again = [
        sys.executable,
        "-m",
        "pinloop.bench",
        "--render",
        str(saved),
        "--chart",
        str(tmp_path / "again"),
    ]
    done = subprocess.run(again, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=50)
    assert "future wake" in done.stdout
    assert (tmp_path / "again.svg").exists()


@needs_extra
def test_a_failure_is_in_the_table_and_in_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blazio.py").write_text("def new_event_loop(): raise RuntimeError('no ring for you')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    command = [sys.executable, "-m", "pinloop.bench", "--quick", "--rounds", "1", "--cells", "future-wake"]
    command += ["--loops", "asyncio,blazio", "--no-chart"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=50)
    assert done.returncode == 1
    assert "failed: future wake, blazio: RuntimeError: no ring for you" in done.stdout
