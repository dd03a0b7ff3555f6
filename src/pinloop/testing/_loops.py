"""Loops whose time is virtual and whose order is drawn from a seed, on pinloop's loop and on asyncio's."""

from __future__ import annotations

import asyncio
import bisect
import collections
import concurrent.futures
import dataclasses
import heapq
import itertools
import math
import random
import selectors
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .. import _core
from .._loop import Loop
from .._signals import Signals
from ._reports import Deadlock, Livelock, count, describe_tasks

T = TypeVar("T")

STEPS = 1_000_000
SECONDS = 86_400.0  # of virtual time
IO_PATIENCE = 0.02  # seconds of real time
JOB_PATIENCE = 10.0

CROWD = 32  # ready tasks, above which an epoch lasts longer

USUAL = 0  # the seed of the order in which a loop runs things anyway

# What both kinds have is a mixin, whose methods go on to those of either.
if TYPE_CHECKING:
    _Base = asyncio.AbstractEventLoop
else:
    _Base = object


class _Virtual(_Base):
    """What to wait for really, and what to say when there is nothing."""

    _asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]]
    _children: set[asyncio.BaseTransport]
    _default_executor: concurrent.futures.ThreadPoolExecutor | None
    _jobs: int
    _job_begun: Callable[[], None]
    _job_ended: Callable[[], None]
    _options: Options
    _set_limits: Callable[[int, float], None]

    def _configure(self, options: Options) -> None:
        self._options = options
        self._children = set()
        self._renew_limits()

    def _renew_limits(self) -> None:
        """Count steps and seconds from now."""
        self._set_limits(self._options.max_steps, self.time() + self._options.timeout)

    def _patience(self, watching: bool, last: bool) -> float:
        for transport in [child for child in self._children if child.get_returncode() is not None]:  # type: ignore[attr-defined]
            self._children.discard(transport)
            self._job_ended()
        if self._jobs:
            return self._options.job_patience
        if watching or (last and threading.active_count() > 1):
            return self._options.io_patience
        return 0.0

    def _stuck(self, why: str) -> NoReturn:
        tasks = asyncio.all_tasks(self)
        who = f"{count(len(tasks), 'task')} not done:\n{describe_tasks(tasks)}"
        if why == "steps":
            steps = self._options.max_steps
            raise Livelock(f"still at it after {steps} steps, at {self.time():g} s of virtual time; {who}")
        if why == "time":
            raise Livelock(f"still at it after {self._options.timeout:g} s of virtual time; {who}")
        jobs = f", though {count(self._jobs, 'thread or process')} did not end" if self._jobs else ""
        raise Deadlock(
            f"nothing is ready, no timer is set and nothing came from outside{jobs}: this would never end, "
            f"at {self.time():g} s of virtual time; {who}"
        )

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As the loop's; virtual time stands still until the call is done."""
        future = super().run_in_executor(executor, func, *args)
        self._job_begun()
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, future: object) -> None:
        self._job_ended()

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As the loop's; virtual time stands still until the threads are done."""
        self._job_begun()
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._job_ended()

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """As the loop's; virtual time stands still while the child runs."""
        return self._born(await super().subprocess_exec(*args, **kwargs))

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As the loop's; virtual time stands still while the child runs."""
        return self._born(await super().subprocess_shell(*args, **kwargs))

    def _born(self, made: tuple[asyncio.BaseTransport, Any]) -> tuple[asyncio.BaseTransport, Any]:
        self._children.add(made[0])
        self._job_begun()
        return made


class _NoWakeup(Signals):
    """Signals are looked for at each wait: no pipe needs to end it."""

    def enter(self) -> None:
        pass


class VirtualLoop(_Virtual, Loop, _core.VirtualLoop):
    """pinloop's loop in virtual time.  Made by `pinloop.testing.new_event_loop()`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._signals = _NoWakeup(self)
        self._set_seed(None if seed == USUAL else seed)


# ------------------------------------------------------------------------- on asyncio's --


_Entry = tuple[int, int, int, asyncio.Handle]
"""Rank, how many came before, the task's number (0: a callback), and the handle."""


class _Ready:
    """In place of asyncio's queue of ready handles: the next is drawn as in loop_virtual.pxi.

    Handles that step a task are told by whose method they call. Those that may be next are in front: the
    steps at the head of the queue and the callback behind them, in the order of the tasks' numbers or, where
    an epoch lasts for several steps, as a heap by rank. So drawing one does not go through them all.
    """

    def __init__(self, loop: AsyncioVirtualLoop, seed: int) -> None:
        self.steps_left: float = math.inf
        self._loop: AsyncioVirtualLoop = weakref.proxy(loop)
        self._random = None if seed == USUAL else random.Random(seed)
        self._epoch_length = self._random.choice((1, 2, 8, 32)) if self._random else 1
        self._epoch = self._random.getrandbits(64) if self._random else 0
        self._front: list[_Entry] = []
        self._complete = False  # the callback is there
        self._behind: collections.deque[asyncio.Handle] = collections.deque()
        self._arrivals = itertools.count()
        self._made = itertools.count(1)
        self._numbers: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._front) + len(self._behind)

    def clear(self) -> None:
        self._front.clear()
        self._behind.clear()
        self._complete = False

    def append(self, handle: asyncio.Handle) -> None:
        self._behind.append(handle)  # and no more than that: any thread may do so

    def popleft(self) -> asyncio.Handle:
        self.steps_left -= 1
        if self.steps_left < 0:
            self._loop._stuck("steps")
        if self._random is None:
            return self._behind.popleft()
        while self._behind and not self._complete:
            self._offer(self._behind.popleft())
        if self._epoch_length == 1:
            _, _, number, handle = self._front.pop(self._random.randrange(len(self._front)))
        else:
            # To rank a crowd takes longer than to run one of it, so there epochs last longer.
            if self._random.randrange(max(self._epoch_length, len(self._front) // CROWD)) == 0:
                self._epoch = self._random.getrandbits(64)
                self._front = [(_mixed(self._epoch ^ entry[2]), *entry[1:]) for entry in self._front]
                heapq.heapify(self._front)
            _, _, number, handle = heapq.heappop(self._front)
        if number == 0:
            self._complete = False
        return handle

    def _offer(self, handle: asyncio.Handle) -> None:
        task = _stepped_by(handle)
        if task is None:
            number, self._complete = 0, True
        else:
            number = self._numbers.get(task) or self._numbers.setdefault(task, next(self._made))
        if self._epoch_length == 1:
            bisect.insort(self._front, (number, next(self._arrivals), number, handle))
        else:
            rank = _mixed(self._epoch ^ number)
            heapq.heappush(self._front, (rank, next(self._arrivals), number, handle))


class _Selector(selectors.DefaultSelector):
    """The platform's selector, which lets virtual time pass where another would sleep."""

    loop: AsyncioVirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        watching = len(self.get_map()) > 1  # the loop's own pipe is always there
        if timeout == 0:
            return super().select(0) if watching else []
        return self.loop._idle(watching, super().select)


class AsyncioVirtualLoop(_Virtual, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """asyncio's loop in virtual time.  Made by `pinloop.testing.new_event_loop(loop="asyncio")`."""

    _ready: _Ready
    _selector: _Selector
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int) -> None:
        self._now = 0.0
        self._latest = math.inf
        self._jobs = 0
        selector = _Selector()
        super().__init__(selector)
        self._ready = _Ready(self, seed)
        selector.loop = weakref.proxy(self)

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._now

    def _set_limits(self, steps: int, seconds: float) -> None:
        self._ready.steps_left = steps
        self._latest = seconds

    def _job_begun(self) -> None:
        self._jobs += 1

    def _job_ended(self) -> None:
        self._jobs -= 1

    def _idle(self, watching: bool, select: Callable[[float], Any]) -> Any:
        """Nothing is ready: events that come within the patience there is, or the time of the next timer."""
        timer = self._scheduled[0] if self._scheduled else None
        last = timer is None or timer.when() == math.inf
        if watching or last or self._jobs:
            events = select(self._patience(watching, last))
            if events or self._ready:
                return events
        if last:
            self._stuck("deadlock")
        assert timer is not None
        if timer.when() > self._latest:
            self._stuck("time")
        self._now = max(self._now, timer.when())
        return []


def _stepped_by(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


def _mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFF_FFFF_FFFF_FFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFF_FFFF_FFFF_FFFF
    return value ^ (value >> 31)


# --------------------------------------------------------------------------------- both --

_KINDS: dict[str, type[VirtualLoop | AsyncioVirtualLoop]] = {
    "pinloop": VirtualLoop,
    "asyncio": AsyncioVirtualLoop,
}


def check_seed(seed: object) -> None:
    """Raise TypeError for what is no int, ValueError for one that is out of range."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"a seed must be an int, not {type(seed).__name__!r}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"a seed must be from 0 to 2 ** 64 - 1, not {seed}")


def _check_number(name: str, value: object, *, zero: bool = False) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__!r}")
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{name} must be {'0 or more' if zero else 'more than 0'}, not {value!r}")


@dataclasses.dataclass(frozen=True)
class Options:
    """The keywords of `new_event_loop`.  Raises TypeError or ValueError for what they cannot be."""

    loop: str
    timeout: float
    max_steps: int
    io_patience: float
    job_patience: float

    def __post_init__(self) -> None:
        if self.loop not in _KINDS:
            raise ValueError(f'loop must be "pinloop" or "asyncio", not {self.loop!r}')
        if not isinstance(self.max_steps, int):
            raise TypeError(f"max_steps must be an int, not {type(self.max_steps).__name__!r}")
        _check_number("max_steps", self.max_steps)
        _check_number("timeout", self.timeout)
        _check_number("io_patience", self.io_patience, zero=True)
        _check_number("job_patience", self.job_patience, zero=True)

    def make_loop(self, seed: int) -> VirtualLoop | AsyncioVirtualLoop:
        """A loop with them."""
        loop = _KINDS[self.loop](seed)
        loop._configure(self)
        return loop


def new_event_loop(
    seed: int = USUAL,
    *,
    loop: str = "pinloop",
    timeout: float = SECONDS,
    max_steps: int = STEPS,
    io_patience: float = IO_PATIENCE,
    job_patience: float = JOB_PATIENCE,
) -> VirtualLoop | AsyncioVirtualLoop:
    """A loop in virtual time: `time()` begins at 0 and moves only when nothing is ready, to the next timer.

    `seed` (an int from 0) draws the order in which ready tasks make their steps; 0 is the order in which a
    loop runs them anyway. `loop` is what it is made of: "pinloop", or "asyncio" for its selector loop,
    slower and with other orders for the same seed.

    Some things happen in real time. While a call of `run_in_executor` or a child process is under way, the
    loop waits for it before the clock moves, for up to `job_patience` seconds at a time (of real time, as all
    patience); while fds are watched (sockets, pipes), for up to `io_patience`.

    Out of `run_until_complete` and `run_forever` come Deadlock when nothing is left that could wake a task,
    and Livelock after `max_steps` steps of tasks and callbacks, or when the clock would pass `timeout`:
    seconds of virtual time. Raises TypeError or ValueError for other arguments.
    """
    check_seed(seed)
    return Options(loop, timeout, max_steps, io_patience, job_patience).make_loop(seed)
