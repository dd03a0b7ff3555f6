"""The measured process of another loop has nothing of pinloop in it."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["callgrind_child", "million_tasks"])
def test_pinloop_is_not_imported(name: str) -> None:
    script = f"import sys, {name}; print(sorted(m for m in sys.modules if m.startswith('pinloop')))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=FOLDER, timeout=30
    )
    assert done.stderr == ""
    assert done.stdout == "[]\n"


def test_a_cell_runs_on_asyncio_without_it() -> None:
    script = (
        "import sys, callgrind_child; sys.modules['pinloop'] = None;"
        "callgrind_child.main('asyncio', 'socketpair-echo', 100, 200)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=FOLDER, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")
