"""The cells without a loop, for `performance.py`, which compiles `floors.c` into the import path."""

from __future__ import annotations

import floors  # type: ignore[import-not-found]
from apart import cells


@cells.cell("floor-call-soon", "floor: a ring of callables in C")
async def floor_call_soon(n: int) -> int:
    """The same as `call-soon-batch`."""
    for _ in range(n // cells.BATCH):
        for _ in range(cells.BATCH):
            floors.push(cells._nothing)
        floors.run()
    return n


@cells.cell("floor-switch", "floor: coroutines sent to in C")
async def floor_switch(n: int) -> int:
    """The same as `sleep0-1000`."""
    floors.switch_among([cells._yield_often(max(10, n // cells.BATCH)) for _ in range(cells.BATCH)])
    return n


@cells.cell("floor-echo", "floor: epoll, recv, send in C")
async def floor_echo(n: int) -> int:
    """The same as `socketpair-echo`."""
    floors.echo(n)
    return n
