"""Which backend a pool or a service has, by its name."""

from __future__ import annotations

import sys
from typing import Any

from .supervise import Backend


def make_backend(
    name: str | None, spin_us: float, grace: float, start_timeout: float = 0, address: Any = None
) -> Backend:
    """The backend of this name; None: threads where Python has no GIL, else processes.

    Raises ValueError for another name, and for an address that goes with none but Dask.
    """
    if name == "dask":
        from .dask import DaskBackend

        return DaskBackend(address, spin_us, start_timeout)
    if address is not None:
        raise ValueError("address is that of a Dask scheduler: it goes with backend='dask'")
    if name is None:
        gil = getattr(sys, "_is_gil_enabled", None)
        name = "process" if gil is None or gil() else "thread"
    if name == "process":
        from .process import ProcessBackend

        return ProcessBackend(spin_us, grace)
    if name == "thread":
        from .thread import ThreadBackend

        return ThreadBackend(spin_us)
    raise ValueError(f"backend must be 'process', 'thread' or 'dask', not {name!r}")


def check_watch(backend: str, heartbeat: float | None, memory_limit: int | None) -> None:
    """Raise ValueError for what cannot be watched or is no number for it."""
    for name, value in (("heartbeat", heartbeat), ("memory_limit", memory_limit)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be more than 0, not {value!r}")
    if backend == "thread" and (heartbeat is not None or memory_limit is not None):
        raise ValueError(
            "heartbeat and memory_limit are for processes: a thread cannot be killed, and has no memory"
            " of its own"
        )
    if backend == "dask" and memory_limit is not None:
        raise ValueError(
            "memory_limit is for processes of the pool's own: Dask limits its workers itself, by"
            " distributed.worker.memory of its configuration"
        )
