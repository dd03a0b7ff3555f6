"""What channels are made of beside what is native."""

from __future__ import annotations

from typing import NamedTuple


class ChannelStatistics(NamedTuple):
    """Numbers about a channel at one moment."""

    capacity: float
    buffered: int
    reserved: int
    senders: int
    receivers: int
    waiting_senders: int
    waiting_receivers: int
