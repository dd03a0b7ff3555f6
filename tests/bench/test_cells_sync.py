"""The cells of queues, locks and timeouts: each twice, with asyncio's classes and with pinloop's."""

import asyncio
from typing import Any

import pytest

import pinloop
from pinloop.bench import catalog, cells, cells_combine, cells_sync

NAMES = [name for name in cells.CELLS if name + cells_sync.NATIVE in cells.CELLS]


def test_each_native_cell_stands_beside_one_of_asyncios() -> None:
    native = {name for name in cells.CELLS if name.endswith(cells_sync.NATIVE)}
    assert native == {name + cells_sync.NATIVE for name in NAMES}
    assert {"queue-16", "queue-1-ping-pong", "lock-10", "semaphore-10", "event-ping-pong", "timeout"} <= set(
        NAMES
    )
    groups = {cell.name: cell.group for cell in catalog.CELLS}
    for name in NAMES:
        # A mean over the scheduler cells is about what a program has without changing a line.
        own = (catalog.SCHEDULER, catalog.NATIVE)
        found = (groups[name], groups[name + cells_sync.NATIVE])
        assert found == ((catalog.TENS, catalog.TENS) if name in cells_combine.NAMES else own)
    assert {name for name, group in groups.items() if group == catalog.TENS} == set(cells_combine.NAMES)


class Watched:
    """A module that notes what is taken from it."""

    def __init__(self, module: Any) -> None:
        self.module, self.taken = module, set()  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        self.taken.add(name)
        return getattr(self.module, name)


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, pinloop.new_event_loop], ids=["asyncio", "pinloop"]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_cell_runs_with_both(name: str, factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(pinloop)
    monkeypatch.setattr(cells_sync, "_native", lambda: watched)
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(cells.CELLS[name](100)) == 100  # type: ignore[arg-type]
        assert not watched.taken
        assert runner.run(cells.CELLS[name + cells_sync.NATIVE](100)) == 100  # type: ignore[arg-type]
    assert len(watched.taken) == 1
