"""The cells of pipelines: each puts as many items through as it says."""

import asyncio

import pytest

import pinloop
from pinloop.bench import catalog, cells_pipes

BY_NAME = {cell.name: cell for cell in catalog.CELLS if cell.group == catalog.PIPES}


def test_each_has_its_row_and_stands_beside_one_by_hand() -> None:
    assert BY_NAME.keys() == cells_pipes.CELLS.keys() == cells_pipes.TITLES.keys()
    streams = {name.removeprefix("stream") for name in BY_NAME if name.startswith("stream-")}
    assert streams == {name.removeprefix("generators") for name in BY_NAME if name.startswith("generators-")}
    assert {cell.needs for cell in BY_NAME.values()} == {(), ("aiostream",), ("asyncstdlib",)}


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, pinloop.new_event_loop], ids=["asyncio", "pinloop"]
)
@pytest.mark.parametrize("name", [name for name, cell in BY_NAME.items() if not cell.missing])
def test_a_cell_runs(name: str, factory: type[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(cells_pipes.CELLS[name](2500)) == 2000  # type: ignore[arg-type]
        assert runner.run(cells_pipes.CELLS[name](1)) == 1000  # type: ignore[arg-type]
