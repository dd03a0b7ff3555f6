"""Waiting for several at once: for all of them, for the first, for the first that succeeds.

a, b = await join(read(a), read(b))         # all finish
answer = await race(ask(one), ask(other))   # the first finishes, the others are cancelled

What is given to a call belongs to it: coroutines become its children, and when it returns or raises, all that
it was given has ended. It works on every asyncio loop and with every class of tasks, in scopes, in
asyncio.TaskGroup and asyncio.timeout, and the other way round.
"""

from __future__ import annotations

from ._core import consume_budget, join, race, race_ok, try_join, yield_now

__all__ = ["consume_budget", "join", "race", "race_ok", "try_join", "yield_now"]
