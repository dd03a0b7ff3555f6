"""One pinned event loop per core, and calls to them."""

from __future__ import annotations

from .counts import PoolMetrics, WorkerMetrics
from .errors import RemoteTraceback, Unpicklable, WorkerCrashed, WorkerError, WorkersClosed, WorkersFailed
from .member import Worker
from .pool import Workers
from .supervise import Restart
from .worker import CurrentWorker, current_worker

__all__ = [
    "CurrentWorker",
    "PoolMetrics",
    "RemoteTraceback",
    "Restart",
    "Unpicklable",
    "Worker",
    "WorkerCrashed",
    "WorkerError",
    "WorkerMetrics",
    "Workers",
    "WorkersClosed",
    "WorkersFailed",
    "current_worker",
]
