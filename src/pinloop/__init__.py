"""pinloop: an asyncio event loop whose reactor is native.

pinloop.run(main())                                     # as asyncio.run
asyncio.Runner(loop_factory=pinloop.new_event_loop)     # a Runner on it
pinloop.install()                                       # for programs that call asyncio.run themselves
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._core import (
    Future,
    QueueShutDown,
    Task,
    Timeout,
    after,
    readable,
    select,
    select_nowait,
    timeout,
    timeout_at,
    writable,
)
from ._loop import Loop
from ._server import Server
from ._streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from ._sync import (
    BoundedSemaphore,
    Event,
    LifoQueue,
    Limiter,
    LimiterStatistics,
    Lock,
    PriorityQueue,
    Queue,
    Semaphore,
    SemaphoreStatistics,
)
from .channels import (
    BroadcastReceiver,
    BroadcastSender,
    ChannelStatistics,
    OneshotSender,
    Permit,
    Receiver,
    Sender,
    ThreadReceiver,
    ThreadSender,
    WatchReceiver,
    WatchSender,
    broadcast,
    channel,
    from_thread,
    oneshot,
    priority,
    to_thread,
    watch,
)
from .combine import consume_budget, join, race, race_ok, try_join, yield_now
from .errors import BrokenChannel, ChannelError, ClosedChannel, EndOfChannel, Lagged, WouldBlock
from .runner import install, new_event_loop, run
from .scopes import Scope, TaskStatus, fail_after, fail_at, move_on_after, move_on_at, scope
from .streams import Stream, from_channel, stream

if TYPE_CHECKING:
    from . import workers
    from .dumps import dump_on_signal, dump_tasks
    from .serving import Service, serve
    from .watching import publish_metrics
    from .workers import (
        CurrentWorker,
        RemoteTraceback,
        Restart,
        Unpicklable,
        Worker,
        WorkerCrashed,
        WorkerError,
        Workers,
        WorkersClosed,
        WorkersFailed,
        current_worker,
    )

__version__ = "0.1.0"

__all__ = [
    "BoundedSemaphore",
    "BroadcastReceiver",
    "BroadcastSender",
    "BrokenChannel",
    "ChannelError",
    "ChannelStatistics",
    "ClosedChannel",
    "CurrentWorker",
    "EndOfChannel",
    "Event",
    "EventLoopPolicy",
    "Future",
    "Lagged",
    "LifoQueue",
    "Limiter",
    "LimiterStatistics",
    "Lock",
    "Loop",
    "OneshotSender",
    "Permit",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "Receiver",
    "RemoteTraceback",
    "Restart",
    "Scope",
    "Semaphore",
    "SemaphoreStatistics",
    "Sender",
    "Server",
    "Service",
    "Stream",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TaskStatus",
    "ThreadReceiver",
    "ThreadSender",
    "Timeout",
    "Unpicklable",
    "WatchReceiver",
    "WatchSender",
    "Worker",
    "WorkerCrashed",
    "WorkerError",
    "Workers",
    "WorkersClosed",
    "WorkersFailed",
    "WouldBlock",
    "after",
    "broadcast",
    "channel",
    "consume_budget",
    "current_worker",
    "dump_on_signal",
    "dump_tasks",
    "fail_after",
    "fail_at",
    "from_channel",
    "from_thread",
    "install",
    "join",
    "move_on_after",
    "move_on_at",
    "new_event_loop",
    "oneshot",
    "open_connection",
    "open_unix_connection",
    "priority",
    "publish_metrics",
    "race",
    "race_ok",
    "readable",
    "run",
    "scope",
    "select",
    "select_nowait",
    "serve",
    "start_server",
    "start_unix_server",
    "stream",
    "timeout",
    "timeout_at",
    "to_thread",
    "try_join",
    "watch",
    "workers",
    "writable",
    "yield_now",
]


_OF_WORKERS = frozenset(
    (
        "CurrentWorker",
        "RemoteTraceback",
        "Restart",
        "Unpicklable",
        "Worker",
        "WorkerCrashed",
        "WorkerError",
        "Workers",
        "WorkersClosed",
        "WorkersFailed",
        "current_worker",
    )
)


def __getattr__(name: str) -> Any:
    # Policies are deprecated from Python 3.14 on: making the class only when it is asked
    # for keeps `import pinloop` silent.
    if name == "EventLoopPolicy":
        from .runner import event_loop_policy_class

        return event_loop_policy_class()
    # Workers bring pickle and multiprocessing along, which most programs do without.
    if name == "workers":
        import importlib

        return importlib.import_module(".workers", __name__)
    if name in _OF_WORKERS:
        from . import workers

        return getattr(workers, name)
    if name in ("Service", "serve"):
        from . import serving

        return getattr(serving, name)
    if name in ("dump_on_signal", "dump_tasks"):
        from . import dumps

        return getattr(dumps, name)
    if name == "publish_metrics":  # brings sockets and temporary files along
        from .watching import publish_metrics

        return publish_metrics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
