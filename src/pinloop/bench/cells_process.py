"""The cells that start processes: what a child costs from its creation until its status is known.

Each is measured with what its children used, so a loop that makes them do the work gains nothing.
"""

from __future__ import annotations

import asyncio
import shutil

from .cells import CellFunction


async def subprocess_true(n: int) -> int:
    """The smallest program, one after the other."""
    program = shutil.which("true") or "true"
    for _ in range(n):
        child = await asyncio.create_subprocess_exec(program)
        if status := await child.wait():
            raise RuntimeError(f"{program} ended with status {status}")
    return n


CELLS: dict[str, CellFunction] = {"subprocess-true": subprocess_true}
TITLES = {"subprocess-true": "true, created and awaited"}
