"""The tables of what channels cost: small runs of every contender, and what is made of them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "channels.py"


@pytest.fixture
def channels(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("channels")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def test_tables_replace_those_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    words = [
        "--rows",
        "s[pc][so][cp]*-1*",
        "--only",
        "pinloop,asyncio.Queue",
        "--rounds",
        2,
        "--seconds",
        0.005,
    ]
    found = run(*words, "--write", page)
    assert found.returncode == 0, found.stderr
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "CPython " in text and "--only pinloop,asyncio.Queue" in text
    for title in ("spsc, capacity 1", "spsc, capacity 16"):
        (row,) = re.findall(rf"^\| {title} \| (.*) \|$", text, re.MULTILINE)
        ours, theirs, ratio = row.split(" | ")
        assert re.fullmatch(r"\*\*\d+\*\* ± \d+", ours) or re.fullmatch(r"\*\*\d+\*\* ± \d+", theirs)
        assert float(ratio) > 0
    # A scope is a cell of `pinloop bench`, which runs for itself.
    assert re.search(r"^\| 1,000 children \| \*\*\d+\*\* ± \d+ \| – \|$", text, re.MULTILINE), text


@pytest.mark.parametrize("arms", [2, 8])
def test_each_way_to_select_gets_every_item(channels: ModuleType, arms: int) -> None:
    for contender in channels.ROWS[f"select-{arms}"][1].values():
        if contender.installed:
            assert contender.run(lambda run=contender.function: run(20)) == 20


@pytest.mark.parametrize("kind", ["spsc", "mpsc", "mpmc"])
@pytest.mark.parametrize("capacity", ["0", "1", "16", "inf"])
def test_each_channel_carries_every_item(channels: ModuleType, kind: str, capacity: str) -> None:
    for contender in channels.ROWS[f"{kind}-{capacity}"][1].values():
        if contender.installed:
            whole = {"spsc": 50, "mpsc": 48, "mpmc": 48}[kind]
            assert contender.run(lambda run=contender.function: run(50)) == whole


def test_tens_of_a_group_that_is_not_ours(channels: ModuleType) -> None:
    pytest.importorskip("anyio")
    for row in ("join-10", "race-10"):
        contender = channels.ROWS[row][1]["anyio task group"]
        assert contender.run(lambda run=contender.function: run(25)) == 20


def test_what_fails_is_told(
    channels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(channels, "command", lambda *words: [sys.executable, "-c", "raise SystemExit(3)"])
    monkeypatch.setattr("sys.argv", ["channels", "--rows", "spsc-1", "--only", "pinloop", "--rounds", "1"])
    assert channels.main() == 1
    assert re.search("- spsc-1, pinloop: .* ended with status 3", capsys.readouterr().out)


def test_rows_that_are_none_are_refused(tmp_path: Path) -> None:
    found = run("--rows", "none")
    assert found.returncode == 2 and "rows: spsc-0, " in found.stderr


def test_a_page_without_a_place_is_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no place")
    words = ["--rows", "spsc-1", "--only", "pinloop", "--rounds", 1, "--seconds", 0.001, "--write", page]
    found = run(*words)
    assert found.returncode == 1 and "has no place for the tables" in found.stderr
    assert page.read_text() == "no place"
