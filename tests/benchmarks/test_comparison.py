"""The tables that docs/comparison.md is made of."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "comparison.py"


def outcome(*costs: float) -> dict[str, object]:
    samples = [
        {"round": number, "operations": 10, "cpu_ns": 10 * cost, "user_ns": cost, "system_ns": 9 * cost}
        for number, cost in enumerate(costs)
    ]
    return {"samples": samples, "failed": "", "not_offered": ""}


def results(path: Path, python: str) -> Path:
    rows = [
        {
            "name": "spawn",
            "title": "spawn",
            "group": "scheduler",
            "outcomes": {"uvloop": outcome(400, 400, 800), "pinloop": outcome(200, 100, 200)},
        },
        {
            "name": "echo",
            "title": "echo",
            "group": "server",
            "outcomes": {
                "uvloop": {"samples": [], "failed": "refused", "not_offered": ""},
                "pinloop": outcome(5000),
            },
        },
    ]
    loops = {"uvloop": "1.0", "pinloop": "2.0"}
    found = {"schema": 1, "created": "", "machine": {"python": python}, "settings": {"rounds_done": "3"}}
    path.write_text(json.dumps(found | {"loops": loops, "not_installed": [], "notes": [], "rows": rows}))
    return path


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_tables_replace_those_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    found = run("--write", page, results(tmp_path / "a", "3.14.0"), results(tmp_path / "b", "3.13.0"))
    assert (found.returncode, found.stderr) == (0, "")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.index("## CPython 3.14.0") < text.index("## CPython 3.13.0")
    assert "| spawn | 400 | **200** | 0.25 |" in text  # the median of 200/400, 100/400, 200/800
    assert "| echo | – | **5.00 (0.50)** | – |" in text
    assert "0.25 × the best peer of each cell, 0.25 × uvloop" in text


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    found = run(tmp_path / "none")
    assert found.returncode == 1 and "cannot read" in found.stderr
    page = tmp_path / "page.md"
    page.write_text("no place")
    found = run("--write", page, results(tmp_path / "a", "3.14.0"))
    assert found.returncode == 1 and "has no place for the tables" in found.stderr
    assert page.read_text() == "no place"
