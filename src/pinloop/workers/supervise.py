"""Supervision: each worker has a `Slot`, whose task starts it, learns of its end and starts it anew."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from ..metrics import Metrics
from .calls import Caller
from .channel import Hub
from .counts import Tally, WorkerMetrics
from .errors import RemoteTraceback, Unpicklable, WorkerCrashed, WorkerError, WorkersFailed
from .link import Link, nothing
from .placement import CPUs
from .wire import ENDED, FAILED, MEASURE, MEASURED, PING, PONG, READY, START, STOP
from .worker import Hooks

AnyFuture = asyncio.Future[Any]

TICK = 1.0
"""Seconds between two looks at a worker's memory."""


class Life(Protocol):
    """One life of a worker, whatever it is made of."""

    @property
    def link(self) -> Link: ...
    @property
    def pid(self) -> int: ...
    @property
    def exited(self) -> asyncio.Future[str]: ...
    def kill(self, why: str | None = None) -> None: ...
    def memory(self) -> int | None: ...


class Backend(Protocol):
    """What workers are made of."""

    @property
    def name(self) -> str: ...
    async def open(self, places: list[CPUs | None]) -> list[CPUs | None]:
        """The pool is entered: make what its workers share. The places of the workers that there will be."""

    def start(self, index: int, cpus: CPUs | None) -> Coroutine[Any, Any, Life]: ...
    async def close(self) -> None:
        """All workers have ended, or could not be started."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How often the workers of a pool may end and be restarted: `max` times in any `within` seconds.

    Once more, and the pool fails. Raises ValueError for a negative `max`, and for a time that is not
    positive.
    """

    max: int = 3
    within: float = 5.0

    def __post_init__(self) -> None:
        if self.max < 0:
            raise ValueError(f"max must be 0 or more, not {self.max!r}")
        if not self.within > 0:
            raise ValueError(f"within must be more than 0 seconds, not {self.within!r}")


class Restarts:
    """The restarts of one pool, counted."""

    def __init__(self, limit: Restart) -> None:
        self.limit = limit
        self._times: collections.deque[float] = collections.deque()

    def allows(self, now: float) -> bool:
        """Note one more; whether it is within the limit."""
        times = self._times
        while times and times[0] <= now - self.limit.within:
            times.popleft()
        times.append(now)
        return len(times) <= self.limit.max


@dataclass(frozen=True, slots=True)
class Rules:
    """What a pool asks of its workers."""

    hooks: Hooks
    start_timeout: float
    grace: float
    heartbeat: float | None
    memory_limit: int | None


class Slot:
    """The place of one worker in a pool, which one life after another fills."""

    def __init__(
        self,
        index: int,
        cpus: tuple[int, ...] | None,
        backend: Backend,
        rules: Rules,
        restarts: Restarts,
        changed: Callable[[], None],
        on_idle: Callable[[], None] = nothing,
    ) -> None:
        self.index = index
        self.cpus = cpus
        self.caller: Caller | None = None
        """Its calls, while it can take some."""
        self.life: Life | None = None
        self.restarted = 0
        self.tally = Tally()
        self.problems: list[BaseException] = []
        """What went wrong while it was being stopped."""
        self._backend = backend
        self._rules = rules
        self._restarts = restarts
        self._changed = changed  # tells the pool that it is up, or down
        self._on_idle = on_idle  # that it has next to nothing to do
        self._stopping = False
        self._asked: dict[int, asyncio.Future[Metrics | None]] = {}  # for the metrics of its loop
        self._questions = 0
        self._given_up = False  # killed by the pool, which knows why
        self._watch: Watch | None = None
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._keep(), name=f"pinloop worker {index}")

    # -------------------------------------------------------------- its lives --

    async def _keep(self) -> None:
        """Keep a worker alive. Raises what the first start raised, or WorkersFailed after that."""
        failed = 0  # starts, one after the other
        while True:
            life = await self._backend.start(self.index, self.cpus)
            try:
                await self._begin(life)
            except BaseException as error:
                life.kill()
                await _until_done(life.exited)
                failed += 1
                if isinstance(error, WorkerCrashed) and self.restarted and failed <= self._restarts.limit.max:
                    # It was killed or crashed, as it might have a moment later: that is counted, not final.
                    # But where it takes long to crash, and always does, the limit in time would never be met.
                    self._check_limit(error.exit)
                    self.restarted += 1
                    continue
                if self.restarted and isinstance(error, Exception):
                    raise WorkersFailed(f"worker {self.index} could not be restarted: {error}") from error
                raise
            failed = 0
            self.life = life
            hub = Hub(self._loop, life.link)
            self.caller = Caller(self._loop, life.link, self.index, hub, self.tally, self._on_idle)
            self._watch = Watch(self._loop, life, self._rules)
            self._changed()
            try:
                await asyncio.wait([life.exited])
            finally:
                self._watch.close()
                life.kill()
                try:
                    await _until_done(life.exited)
                finally:
                    self._down(life.exited.result())
            if self._stopping:
                return
            self._check_limit(life.exited.result())
            self.restarted += 1

    async def _begin(self, life: Life) -> None:
        """Wait until a new worker is ready for calls."""
        ready: AnyFuture = self._loop.create_future()
        link = life.link

        def on_ready(*_: Any) -> None:
            if not ready.done():
                ready.set_result(None)

        def on_failed(_: int, payload: Any) -> None:
            if not ready.done():
                ready.set_exception(received_error(link, payload))

        link.handlers |= {READY: on_ready, FAILED: on_failed, ENDED: self._on_ended}
        link.handlers[MEASURED] = self._on_measured
        link.begin()
        try:
            link.post(START, 0, self._rules.hooks)
        except Exception as error:
            raise Unpicklable(f"setup or teardown cannot be sent to a worker: {error}") from error
        try:
            waited, _ = await asyncio.wait(
                [ready, life.exited],
                timeout=self._rules.start_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:  # another worker could not start: that error is raised, not this one's
            if not ready.cancel():
                ready.exception()
            raise
        if ready.done():
            ready.result()
            link.on_lost = lambda: self._on_lost(life)
        elif waited:
            raise WorkerCrashed(self.index, f"{life.exited.result()} before it was ready")
        else:
            raise WorkerError(f"worker {self.index} was not ready within {self._rules.start_timeout:g} s")

    def _on_lost(self, life: Life) -> None:
        """It says nothing any more: it is about to end, or never will by itself."""
        self._loop.call_later(self._rules.grace, life.kill)

    def _on_ended(self, _: int, payload: Any) -> None:
        assert self.life is not None
        problem = received_error(self.life.link, payload)
        if problem is not None:
            self.problems.append(problem)

    def _down(self, exit: str) -> None:
        caller, self.caller, self.life = self.caller, None, None
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(None)
        if caller is not None:
            caller.lose(lambda name: WorkerCrashed(self.index, exit, name))
            caller.hub.close("the pool was closed" if self._stopping else f"worker {self.index} {exit}")
        if self._stopping and not self._given_up and exit != "exited with code 0":
            self.problems.append(WorkerCrashed(self.index, f"{exit} while it was being stopped"))
        self._changed()

    def _check_limit(self, exit: str) -> None:
        if not self._restarts.allows(self._loop.time()):
            limit = self._restarts.limit
            raise WorkersFailed(
                f"worker {self.index} {exit}; that is more than {limit.max} restarts in {limit.within:g} s"
            )

    # --------------------------------------------------------------- its metrics --

    async def measure(self, timeout: float) -> WorkerMetrics:
        """What it has done, with the metrics of its loop if it tells them in time."""
        metrics: Metrics | None = None
        if self.life is not None:
            self._questions += 1
            number = self._questions
            asked = self._asked[number] = self._loop.create_future()
            try:
                self.life.link.post(MEASURE, number)
                self.life.link.flush()
                await asyncio.wait([asked], timeout=timeout)
            finally:
                del self._asked[number]
            metrics = asked.result() if asked.done() else None
        return self.counts(metrics)

    @property
    def pid(self) -> int | None:
        """The process that the worker is; None if there is none now."""
        life = self.life  # one that has exited is still there until its end has been seen to
        return None if life is None or life.exited.done() else life.pid

    def counts(self, metrics: Metrics | None = None) -> WorkerMetrics:
        """What it has done, as far as is known here."""
        caller, tally = self.caller, self.tally
        in_flight, channels = (
            (0, (0, 0, 0, 0)) if caller is None else (len(caller.calls), caller.hub.counts())
        )
        return WorkerMetrics(
            self.index,
            self.pid,
            in_flight,
            tally.done,
            tally.failed,
            tally.cancelled,
            self.restarted,
            *channels,
            loop=metrics,
        )

    def _on_measured(self, number: int, payload: Any) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.done() and self.life is not None:
            asked.set_result(self.life.link.load(payload))

    # --------------------------------------------------------------- its end --

    async def stop(self) -> None:
        """Have the worker end, by itself if it does so in time; return once it has."""
        self._stopping = True
        if self.life is None:
            self.task.cancel()
        else:
            if self._watch is not None:
                self._watch.stop_listening()
            self.life.link.post(STOP, 0)
            await asyncio.wait([self.task], timeout=self._rules.grace)
            if self.life is not None:
                self.life.kill(f"did not stop within {self._rules.grace:g} s and was killed")
        await asyncio.wait([self.task])

    def kill(self, why: str | None = None) -> None:
        """End it now: it has no more time to end by itself."""
        self._given_up = True
        if self.life is not None:
            self.life.kill(why)


class Watch:
    """Looks after one life from time to time: whether it answers, and how large it has become."""

    def __init__(self, loop: asyncio.AbstractEventLoop, life: Life, rules: Rules) -> None:
        self._loop = loop
        self._life = life
        self._heartbeat = rules.heartbeat
        self._limit = rules.memory_limit
        self._missed = 0
        self._received = life.link.received
        self._handle: asyncio.Handle | None = None
        life.link.handlers[PONG] = nothing
        # A beat is a quarter of the time that a worker has: it is the parent's loop that may be late, too.
        self._interval = min(TICK if self._limit else math.inf, (self._heartbeat or math.inf) / 4)
        if self._interval < math.inf:
            self._handle = loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        life = self._life
        life.link.take()
        if life.exited.done():
            return
        self._handle = self._loop.call_later(self._interval, self._look)
        if self._limit is not None:
            used = life.memory()
            if used is not None and used > self._limit:
                life.kill(f"used {used} bytes of memory, more than {self._limit}, and was killed")
                return
        if self._heartbeat is not None:
            self._listen(self._heartbeat)

    def _listen(self, heartbeat: float) -> None:
        link = self._life.link
        if link.received != self._received:
            self._received = link.received
            self._missed = 0
        elif self._missed * self._interval >= heartbeat:
            self._life.kill(f"did not answer for {heartbeat:g} s and was killed")
            return
        self._missed += 1
        link.post(PING, 0)
        link.flush()

    def stop_listening(self) -> None:
        """It has been told to stop: how long it may take for that is known without heartbeats."""
        self._heartbeat = None

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


def received_error(link: Link, payload: Any) -> Any:
    """The exception in a message of a worker, with its traceback there as its cause; None if it has none."""
    try:
        content = link.load(payload)
    except Exception as failure:
        error: BaseException = WorkerError(f"an exception of a worker cannot be unpickled: {failure}")
        error.__cause__ = failure
        return error
    if content is None:
        return None
    error, text = content
    if text is not None:
        error.__cause__ = RemoteTraceback(text)
    return error


async def _until_done(future: AnyFuture) -> None:
    """Wait for what will happen soon, whoever cancels; and be cancelled then."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
