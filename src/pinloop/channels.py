"""Channels: how tasks of one loop hand items to one another, the consumer setting the pace.

tx, rx = channel(16)
await tx.send(item)
async for item in rx: ...

What runs once per item is in `pinloop._core`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ._channel_kinds import (
    BroadcastReceiver,
    BroadcastSender,
    OneshotSender,
    WatchReceiver,
    WatchSender,
    new_broadcast,
    new_watch,
)
from ._channel_parts import ChannelStatistics
from ._channel_threads import ThreadReceiver, ThreadSender, from_thread, to_thread
from ._core import Permit, Receiver, Sender, open_channel
from .errors import BrokenChannel, ChannelError, ClosedChannel, EndOfChannel, Lagged, WouldBlock

__all__ = [
    "BroadcastReceiver",
    "BroadcastSender",
    "BrokenChannel",
    "ChannelError",
    "ChannelStatistics",
    "ClosedChannel",
    "EndOfChannel",
    "Lagged",
    "OneshotSender",
    "Permit",
    "Receiver",
    "Sender",
    "ThreadReceiver",
    "ThreadSender",
    "WatchReceiver",
    "WatchSender",
    "WouldBlock",
    "broadcast",
    "channel",
    "from_thread",
    "oneshot",
    "priority",
    "to_thread",
    "watch",
]


def channel(capacity: float) -> tuple[Sender[Any], Receiver[Any]]:
    """A channel that holds up to `capacity` items; its two ends.

    With 0 a sender waits until a receiver takes the item: a rendezvous. With `math.inf` senders never wait.

    Raises ValueError for a negative capacity and NaN, TypeError for what is no whole number.
    """
    return open_channel(checked_capacity(capacity))


def priority(capacity: float, key: Callable[[Any], Any] | None = None) -> tuple[Sender[Any], Receiver[Any]]:
    """A channel whose receivers get the lowest item first, by `key(item)` or the item; equals in order.

    What waits for room is not in the channel yet: those go in in the order in which they came. An item
    that cannot be compared with the others has its `send` raise TypeError.

    Raises as `channel`.
    """
    return open_channel(checked_capacity(capacity), True, key)


def oneshot() -> tuple[OneshotSender[Any], Receiver[Any]]:
    """A channel for one value, from one sender to one receiver.

    `tx.send(value)` does not wait. `await rx.recv()` gives the value, once; EndOfChannel after that, or where
    the sender was closed or dropped without a value.
    """
    tx, rx = open_channel(1, single=True)
    return OneshotSender(tx), rx


def watch(value: Any) -> tuple[WatchSender[Any], WatchReceiver[Any]]:
    """A value that changes: receivers see the latest, and can wait for a later one.

    Values in between may pass unseen. `value` is the first.
    """
    return new_watch(value)


def broadcast(capacity: int, overflow: str = "block") -> tuple[BroadcastSender[Any], BroadcastReceiver[Any]]:
    """A channel whose items go to all receivers: each has its own queue of `capacity` items.

    When a receiver's is full, with "block" the sender waits for it; with "lag" its oldest item is dropped,
    and its next `recv` raises Lagged, which tells how many there were.

    Raises ValueError for a capacity below 1 and for other words, TypeError for what is no whole number.
    """
    if overflow not in ("block", "lag"):
        raise ValueError(f"overflow must be 'block' or 'lag', not {overflow!r}")
    return new_broadcast(checked_capacity(capacity, 1), overflow == "lag")


def checked_capacity(capacity: float, least: int = 0) -> int:
    """The capacity for `open_channel`: -1 for any number."""
    if isinstance(capacity, float):
        if capacity == math.inf and least == 0:
            return -1
        if math.isnan(capacity) or capacity < least:
            raise ValueError(f"capacity must be {least} or more, not {capacity!r}")
    try:
        whole = operator.index(capacity)  # type: ignore[arg-type]
    except TypeError:
        expected = "an integer" if least else "an integer or math.inf"
        raise TypeError(f"capacity must be {expected}, not {type(capacity).__name__}") from None
    if whole < least:
        raise ValueError(f"capacity must be {least} or more, not {capacity!r}")
    return whole
