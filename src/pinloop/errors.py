"""The exceptions of pinloop's own primitives."""

from __future__ import annotations

__all__ = ["BrokenChannel", "ChannelError", "ClosedChannel", "EndOfChannel", "Lagged", "WouldBlock"]


class ChannelError(Exception):
    """What all errors of channels are."""

    arm: int | None = None
    """Which operation of a `select` it was that failed, by position; None outside of `select`."""


class EndOfChannel(ChannelError):
    """Nothing more will come: all senders are closed, and what they sent has been received."""


class BrokenChannel(ChannelError):
    """Nobody will receive what is sent: all receivers are closed.

    Receivers get it where the sender was in a worker that ended without closing the channel.
    """


class ClosedChannel(ChannelError):
    """This very end of the channel has been closed, here."""


class Lagged(ChannelError):
    """Items of a broadcast were dropped, because this receiver was too slow: `missed` of them."""

    def __init__(self, missed: int) -> None:
        super().__init__(missed)
        self.missed = missed

    def __str__(self) -> str:
        return f"{self.missed} items were dropped before they were received"


class WouldBlock(Exception):
    """The operation would have to wait, and was told not to."""
