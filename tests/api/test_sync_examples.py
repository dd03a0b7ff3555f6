"""The programs in docs/sync.md run."""

import re
from pathlib import Path

import pytest

import pinloop
from tests.api.support import ON_PINLOOP, python

PAGE = (Path(__file__).parents[2] / "docs" / "sync.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(not ON_PINLOOP, reason="the examples run on pinloop's loop")
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_an_example_runs(number: int) -> None:
    done = python("-c", PROGRAMS[number])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr


def test_each_class_has_an_example() -> None:
    for name in ("Queue", "Lock", "Semaphore", "Event", "timeout"):
        assert any(f"pinloop.{name}(" in program for program in PROGRAMS), name
        assert f"`{name}`" in PAGE and hasattr(pinloop, name)
