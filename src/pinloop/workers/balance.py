"""Balance: calls that wait in one worker while another has next to nothing to do are had back and made there.

A call goes to the worker that has the fewest, and that is all that is known when it is made: not how long it
will take, nor how fast that core is today.
"""

from __future__ import annotations

from collections.abc import Sequence

from .calls import FEW, Caller


def balance(callers: Sequence[Caller], now: float) -> float | None:
    """Have the busiest worker give back what it would have more than those that have next to nothing.

    The time at which to look again, if all that might be asked had none to give just before.
    """
    idle = [len(caller.calls) for caller in callers if len(caller.calls) <= FEW]
    busy = [caller for caller in callers if len(caller.calls) > FEW and caller.may_recall]
    if not idle or not busy:
        return None
    ready = [caller for caller in busy if caller.rests_until <= now]
    if not ready:
        return min(caller.rests_until for caller in busy)
    busiest = max(ready, key=lambda caller: len(caller.calls))
    has = len(busiest.calls)
    fair = -(-(has + sum(idle)) // (len(idle) + 1))
    if has > fair:
        busiest.recall(has - fair)
    return None
