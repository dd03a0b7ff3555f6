"""The list of cells: what can be measured, and what the quick run measures."""

from __future__ import annotations

import fnmatch
import importlib.util
from dataclasses import dataclass

from . import cells
from .errors import BenchError

SCHEDULER, SERVER = "scheduler", "server"


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    `server` names an entry of `servers.SERVERS`; it is empty for a scheduler cell, whose function has the
    name of the cell. `size` is in bytes. `needs` are the modules without which the cell is left out.
    """

    name: str
    title: str
    group: str
    quick: bool
    server: str = ""
    size: int = 0
    connections: int = 0
    needs: tuple[str, ...] = ()

    @property
    def http(self) -> bool:
        """Whether the cell speaks HTTP, not echo."""
        return self.server.startswith("http-")

    @property
    def has_floor(self) -> bool:
        """Whether the C server can stand beside the loops here."""
        return self.group == SERVER and not self.http

    @property
    def missing(self) -> list[str]:
        """The modules that the cell needs and that are not installed."""
        return [module for module in self.needs if importlib.util.find_spec(module) is None]


_STYLES = {
    "protocol": "Protocol",
    "buffered": "BufferedProtocol",
    "streams": "asyncio streams",
    "sock": "sock_recv/sendall",
}
_QUICK_ECHO = {
    ("protocol", 1, 20),
    ("buffered", 1, 20),
    ("streams", 1, 20),
    ("sock", 1, 20),
    ("protocol", 100, 20),
}


def _scheduler_cells() -> list[Cell]:
    return [Cell(name, title, SCHEDULER, quick=True) for name, title in cells.TITLES.items()]


def _echo_cell(style: str, kib: int, connections: int) -> Cell:
    return Cell(
        name=f"echo-{style}-{kib}k-{connections}",
        title=f"echo {kib} KiB × {connections}, {_STYLES[style]}",
        group=SERVER,
        quick=(style, kib, connections) in _QUICK_ECHO,
        server=f"echo-{style}",
        size=kib * 1024,
        connections=connections,
    )


def _http_cell(server: str, title: str, *needs: str) -> Cell:
    return Cell(server, f"{title} hello × 20", SERVER, True, server, connections=20, needs=needs)


CELLS = (
    *_scheduler_cells(),
    *(
        _echo_cell(style, kib, connections)
        for style in ("protocol", "buffered", "streams")
        for kib in (1, 10, 100)
        for connections in (1, 20, 1000)
    ),
    *(_echo_cell("sock", kib, 20) for kib in (1, 100)),
    _http_cell("http-uvicorn", "uvicorn + httptools", "uvicorn", "httptools"),
    _http_cell("http-aiohttp", "aiohttp", "aiohttp"),
)


def select(patterns: list[str] | None, quick: bool) -> list[Cell]:
    """The cells whose names match one of the shell *patterns*; without any, all of them, or the quick ones.

    Raises `BenchError` for a pattern that matches nothing.
    """
    if not patterns:
        return [cell for cell in CELLS if cell.quick or not quick]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(cell.name, pattern) for cell in CELLS):
            raise BenchError(f"no cell matches {pattern!r}; known: {', '.join(cell.name for cell in CELLS)}")
    return [cell for cell in CELLS if any(fnmatch.fnmatchcase(cell.name, pattern) for pattern in patterns)]
