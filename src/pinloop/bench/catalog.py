"""The list of cells: what can be measured, and what the quick run measures."""

from __future__ import annotations

import fnmatch
import importlib.util
from dataclasses import dataclass

from . import cells, cells_combine, cells_pipes, cells_process, cells_sync
from .errors import BenchError

SCHEDULER, NATIVE, TENS, PIPES = "scheduler", "native", "tens", "pipes"
SERVER, PROCESS = "server", "process"
MIB = 1 << 20


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    `server` names an entry of `servers.SERVERS`; it is empty for a cell without a server, whose function has
    the name of the cell. `load` is what drives the server: a mode of the load program, or `tls-` and a mode
    of `load_tls.py`. `size` is in bytes. A request counts as `per_request` operations. A cell without a
    server runs `longer` times as long as the plan says. `needs` are the modules without which the cell is
    left out.
    """

    name: str
    title: str
    group: str
    quick: bool
    server: str = ""
    load: str = ""
    size: int = 0
    connections: int = 0
    window: int = 1
    per_request: float = 1
    longer: float = 1
    has_floor: bool = False
    needs: tuple[str, ...] = ()

    @property
    def http(self) -> bool:
        """Whether the cell speaks HTTP, not echo."""
        return self.load == "http"

    @property
    def missing(self) -> list[str]:
        """The modules that the cell needs and that are not installed."""
        return [module for module in self.needs if importlib.util.find_spec(module) is None]


_STYLES = {
    "protocol": "Protocol",
    "buffered": "BufferedProtocol",
    "streams": "asyncio streams",
    "native-streams": "pinloop streams",
    "sock": "sock_recv/sendall",
    "sock-into": "sock_recv_into/sendall",
}
_QUICK_ECHO = {
    ("protocol", 1, 20),
    ("buffered", 1, 20),
    ("streams", 1, 20),
    ("native-streams", 1, 20),
    ("sock", 1, 20),
    ("protocol", 100, 20),
}


def _scheduler_cells() -> list[Cell]:
    """Each in its group; only those of SCHEDULER are in the mean over all cells."""

    def group(name: str) -> str:
        if name in cells_combine.NAMES:
            return TENS
        return NATIVE if name.endswith(cells_sync.NATIVE) else SCHEDULER

    return [Cell(name, title, group(name), quick=True) for name, title in cells.TITLES.items()]


def _pipe_cells() -> list[Cell]:
    return [
        Cell(name, title, PIPES, quick=True, needs=cells_pipes.NEEDS[name])
        for name, title in cells_pipes.TITLES.items()
    ]


def _process_cells() -> list[Cell]:
    return [Cell(name, title, PROCESS, quick=True, longer=4) for name, title in cells_process.TITLES.items()]


def _echo_cell(style: str, kib: int, connections: int) -> Cell:
    return Cell(
        name=f"echo-{style}-{kib}k-{connections}",
        title=f"echo {kib} KiB × {connections}, {_STYLES[style]}",
        group=SERVER,
        quick=(style, kib, connections) in _QUICK_ECHO,
        server=f"echo-{style}",
        load="echo",
        size=kib * 1024,
        connections=connections,
        has_floor=True,
    )


def _http_cell(server: str, title: str, *needs: str) -> Cell:
    return Cell(server, f"{title} hello × 20", SERVER, True, server, "http", connections=20, needs=needs)


def _udp_cell(size: int, label: str, quick: bool) -> Cell:
    # 20 sockets with 4 datagrams each: about what the usual receive buffer of a server holds.
    return Cell(
        name=f"udp-echo-{label.replace(' ', '').removesuffix('iB').lower()}-20",
        title=f"UDP echo {label} × 20 × 4",
        group=SERVER,
        quick=quick,
        server="udp-echo",
        load="udp",
        size=size,
        connections=20,
        window=4,
        has_floor=True,
    )


def _tls_echo_cell(kib: int, quick: bool) -> Cell:
    return Cell(
        name=f"tls-echo-{kib}k-20",
        title=f"TLS echo {kib} KiB × 20, Protocol",
        group=SERVER,
        quick=quick,
        server="tls-echo",
        load="tls-echo",
        size=kib * 1024,
        connections=20,
    )


def _sendfile_cell(mib: int, label: str, quick: bool) -> Cell:
    return Cell(
        name=f"sendfile-{label.replace(' ', '').removesuffix('iB').lower()}",
        title=f"sendfile of {label}, per MiB",
        group=SERVER,
        quick=quick,
        server="sendfile",
        load="fetch",
        size=mib * MIB,
        connections=1,
        per_request=mib,
    )


CELLS = (
    *_scheduler_cells(),
    *_pipe_cells(),
    *_process_cells(),
    *(
        _echo_cell(style, kib, connections)
        for style in ("protocol", "buffered", "streams")
        for kib in (1, 10, 100)
        for connections in (1, 20, 1000)
    ),
    *(_echo_cell(style, kib, 20) for style in ("native-streams", "sock", "sock-into") for kib in (1, 100)),
    _udp_cell(64, "64 B", quick=False),
    _udp_cell(1024, "1 KiB", quick=True),
    _tls_echo_cell(1, quick=True),
    _tls_echo_cell(100, quick=True),
    Cell("tls-handshake", "TLS handshake", SERVER, True, "tls-handshake", "tls-handshake", connections=20),
    _sendfile_cell(64, "64 MiB", quick=True),
    _sendfile_cell(1024, "1 GiB", quick=False),
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
