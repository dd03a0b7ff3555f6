"""The two ways a benchmark fails: as a whole, or in one measurement."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the message tells the user what to do about it."""


class MeasurementError(Exception):
    """One measurement failed; the message is the reason, in one line. The others go on."""


class NotOfferedError(Exception):
    """The loop does not offer what the cell needs (it raised `NotImplementedError`)."""
