"""Which CPU the measured process runs on, and which its load: two different ones, where there are two."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cpus:
    """The CPU of the measured process, those of the load, and what the reader should know about them.

    None stands for a CPU where the system has no call to pin a process (macOS). The load has two if possible:
    a C server is as fast as a C client, and one client alone would now and then keep it waiting.
    """

    server: int | None
    loads: tuple[int | None, ...]
    note: str


def _siblings(cpu: int) -> set[int]:
    """The logical CPUs that share a core with *cpu*, itself included."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return {cpu}
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def choose() -> Cpus:
    """Choose CPUs out of the allowed mask: the load's on other cores than the server's, if there are others.

    The server has the last one: the first is where most systems handle their interrupts.
    """
    if not hasattr(os, "sched_getaffinity"):
        return Cpus(None, (None,), "processes are not pinned: this system has no call for it")
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[-1]
    others = allowed[:-1]
    if not others:
        note = f"only CPU {server} is allowed: load and server take turns on it, ratios are blunter"
        return Cpus(server, (server,), note)
    apart = [cpu for cpu in others if cpu not in _siblings(server)]
    loads = tuple((apart or others)[:2])
    note = f"server on CPU {server}, load on CPU {' and '.join(map(str, loads))}"
    return Cpus(server, loads, note if apart else note + ": threads of one core")


@contextlib.contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Pin the calling thread to *cpu* inside the block: a process that is started there is born pinned."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
