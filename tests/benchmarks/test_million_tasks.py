"""Many tasks: a small run of each kind, and what the figures mean."""

import asyncio
import re
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.conftest import Run


@pytest.fixture
def million(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("million_tasks")


def test_every_kind_on_two_loops(
    million: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["million_tasks", "--loop", "pinloop,asyncio", "--tasks", "20000"])
    assert million.main() == 0
    lines = capsys.readouterr().out.splitlines()
    for what in ("future", "sleep", "skynet"):
        for loop in ("pinloop", "asyncio"):
            (row,) = [line for line in lines if re.match(rf"{what} +{loop} ", line)]
            figures = re.search(r" (\d+) bytes \((\d+\.\d\d) ×\) +(\d+\.\d\d) µs", row)
            assert figures, row
            # More than a coroutine's frame alone; a sanitizer's heap takes a few times what others do.
            assert 200 < int(figures[1]) < 20_000
            assert float(figures[3]) > 0


def test_unknown_kinds_are_refused(
    million: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["million_tasks", "--loop", "asyncio", "--what", "future,threads"])
    assert million.main() == 1
    assert "unknown: threads; known: future, sleep, skynet" in capsys.readouterr().err


def test_a_task_that_ends_otherwise_is_an_error(
    million: ModuleType, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        """A sleep that is over at once."""

    real = asyncio.sleep
    monkeypatch.setattr(million.asyncio, "sleep", lambda seconds: sleep(seconds) if seconds else real(0))
    with pytest.raises(RuntimeError, match="0 of 10 tasks were cancelled"):
        run(million.of_sleep(10))
