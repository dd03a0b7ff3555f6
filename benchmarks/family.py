"""A process and all below it, and the CPU that they take, by Linux's /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICK: int = os.sysconf("SC_CLK_TCK")


def members(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return found


def cpu(pid: int) -> float:
    """The seconds of all so far, those that have ended included; counted in ticks, of 10 ms mostly."""
    return sum(map(_cpu, members(pid)))


def _cpu(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK  # user and system, its own and of children it has waited for


def fine_cpu(pid: int) -> float:
    """The seconds of all that live, of their threads that do; counted in nanoseconds."""
    total = 0
    for one in members(pid):
        for schedstat in Path(f"/proc/{one}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(schedstat.read_text().split()[0])
    return total / 1e9
