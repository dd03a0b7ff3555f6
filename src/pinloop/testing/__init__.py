"""Deterministic tests of concurrent code: virtual time, and orders of execution drawn from seeds.

@explore(seeds=200)                          # a test under 200 orders, each on a loop of its own
async def test_transfers() -> None: ...

run(main(), seed=17)                         # once, under one of them
asyncio.Runner(loop_factory=new_event_loop)  # virtual time alone
"""

from __future__ import annotations

from ._explore import explore, run
from ._loops import new_event_loop
from ._reports import Deadlock, Leftovers, Livelock

__all__ = ["Deadlock", "Leftovers", "Livelock", "explore", "new_event_loop", "run"]

for _public in (Deadlock, Leftovers, Livelock, explore, new_event_loop, run):
    _public.__module__ = __name__
