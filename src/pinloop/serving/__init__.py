"""The same app on every core: `pinloop.serve`."""

from __future__ import annotations

from .binding import Address
from .entry import serve
from .pooled import PoolServer
from .service import Service, ServingWorker

__all__ = ["Address", "PoolServer", "Service", "ServingWorker", "serve"]
