"""A service in its parent process, its workers and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from ..scopes import scope
from ..workers.ending import conclude, uninterrupted
from ..workers.errors import WorkersClosed, WorkersFailed
from ..workers.supervise import Backend, Restart, Restarts, Rules
from .acceptor import Acceptor
from .apps import ASGI
from .binding import ACCEPTOR, Address, Listeners, distinct, url_of
from .host import Plan
from .occupant import Occupant, Seat

logger = logging.getLogger("pinloop.serve")

NEW, STARTING, SERVING, DRAINING, CLOSED = range(5)
STATES = ("not entered", "starting", "serving", "draining", "closed")


@dataclass(frozen=True, slots=True)
class ServingWorker:
    """One worker of a service, at one moment."""

    index: int
    """Its place, from 0."""
    pid: int | None
    """The process that it is; None while it is being restarted."""
    cpus: tuple[int, ...] | None
    """The CPUs that it is pinned to; None if it is not."""
    restarts: int
    """How often it ended and was restarted, since the last reload."""


class Service:
    """An app that is served by several workers. Made by `serve`; see there."""

    def __init__(
        self,
        plan: Plan,
        binding: Callable[[], Listeners],
        places: list[tuple[int, ...] | None],
        backend: Backend,
        rules: Rules,
        restart: Restart,
        balance: str,
    ) -> None:
        self._plan = plan
        self._binding = binding
        self._places = places
        self._backend = backend
        self._rules = rules
        self._restarts = Restarts(restart)
        self._balance = balance
        self._state = NEW
        self._listeners = Listeners()
        self._acceptor: Acceptor | None = None
        self._seats: list[Seat] = []
        self._occupants: set[Occupant] = set()  # also those that are starting, or on their way out
        self._problems: list[BaseException] = []
        self._failure: WorkersFailed | None = None
        self._scope = scope()
        self._draining: asyncio.Task[None] | None = None
        self._stop_asked: asyncio.Event | None = None
        self._reloads: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        where = " ".join(self.urls) or "nowhere yet"
        return f"<Service {STATES[self._state]} at {where} workers={len(self._places)}>"

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens: (host, port) for TCP, the path for a Unix socket. Empty before and after."""
        return self._listeners.addresses if self._state in (STARTING, SERVING, DRAINING) else ()

    @property
    def urls(self) -> tuple[str, ...]:
        """The same as URLs: tcp://127.0.0.1:8000, http://… and https://… for ASGI apps, unix:/path."""
        secure = self._plan.tls is not None
        scheme = ("https" if secure else "http") if self._plan.kind == ASGI else ("tls" if secure else "tcp")
        return tuple(url_of(address, scheme) for address in self.addresses)

    @property
    def balance(self) -> str:
        """Who decides which worker gets a connection: "reuseport", "shared" or "acceptor"."""
        return self._balance

    @property
    def workers(self) -> tuple[ServingWorker, ...]:
        """The workers that serve now, by their index."""
        return tuple(
            ServingWorker(seat.index, slot.pid, slot.cpus, slot.restarted)
            for seat in self._seats
            for slot in (seat.occupant.slot,)
        )

    # --------------------------------------------------------- entering and leaving --

    async def __aenter__(self) -> Self:
        if self._state != NEW:
            raise RuntimeError(f"{self!r} has been entered already: a service is entered once")
        self._state = STARTING
        self._loop = asyncio.get_running_loop()
        self._reloading = asyncio.Lock()
        await self._scope.__aenter__()
        try:
            self._listeners = self._binding()
            if self._balance == ACCEPTOR:
                self._acceptor = Acceptor(distinct(self._listeners.of_worker))
            for index, cpus in enumerate(self._places):
                seat = Seat(index, cpus, self._listeners.of_worker[index])
                seat.occupant = self._occupy(seat)
                self._seats.append(seat)
            await self._started()
        except BaseException:
            for occupant in self._occupants:
                occupant.slot.kill()
            await uninterrupted(self._loop.create_task(self._shut()), self.cut)
            self._state = CLOSED
            await self._scope.__aexit__(*sys.exc_info())
            raise
        for seat in self._seats:
            self._watch(seat.occupant)
        self._state = SERVING
        return self

    async def _started(self) -> None:
        """Wait until all workers serve. Raises the error of one that does not."""
        occupants = [seat.occupant for seat in self._seats]
        while pending := [occupant.ready for occupant in occupants if not occupant.ready.done()]:
            await asyncio.wait(
                [*pending, *(occupant.task for occupant in occupants)], return_when=asyncio.FIRST_COMPLETED
            )
            for occupant in occupants:
                if occupant.task.done():
                    occupant.task.result()
        for occupant in occupants:
            occupant.ready.result()

    def _occupy(self, seat: Seat) -> Occupant:
        """A new worker for a seat."""
        occupant = Occupant(seat, self._backend, self._rules, self._restarts, self._acceptor)
        self._occupants.add(occupant)
        return occupant

    def _watch(self, occupant: Occupant) -> None:
        occupant.task.add_done_callback(functools.partial(self._ended, occupant))

    def _ended(self, occupant: Occupant, task: asyncio.Task[None]) -> None:
        """A worker will not be started again: unless that was asked for, the service has failed."""
        error = None if task.cancelled() else task.exception()
        if error is None or occupant.leaving or self._failure is not None:
            return
        if not isinstance(error, WorkersFailed):
            failure = WorkersFailed(f"worker {occupant.slot.index} cannot serve any more: {error}")
            failure.__cause__ = error
            error = failure
        self._failure = error
        if self._state == SERVING:
            self._scope.cancel("the service failed")

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._state not in (SERVING, DRAINING, CLOSED):
            raise RuntimeError(f"{self!r} cannot be left")
        cancelled = await uninterrupted(self._drain_once(), self.cut)
        end = cancelled or exc
        swallowed = await self._scope.__aexit__(
            type(end) if end else None, end, None if end is None else end.__traceback__
        )
        problems, self._problems = self._problems, []
        return conclude(exc, None if swallowed else end, self._failure, problems, self._report)

    def _report(self, problem: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a worker did not end well", "exception": problem, "service": self}
        )

    # ---------------------------------------------------------------- draining --

    async def drain(self) -> None:
        """Accept no more, let what is open end within `grace` seconds, and end the workers.

        Connections that have waited to be accepted are served. Returns once all has ended; cancelled, it goes
        on in the background, and the end of the block waits for it. Raises nothing: what went wrong with a
        worker is raised at the end of the block. Raises WorkersClosed if the service has not been entered.
        """
        if self._state in (NEW, STARTING):
            raise WorkersClosed(f"{self!r} cannot be drained")
        await asyncio.shield(self._drain_once())

    def _drain_once(self) -> asyncio.Task[None]:
        if self._draining is None:
            self._state = DRAINING
            if self._stop_asked is not None:
                self._stop_asked.set()
            self._draining = self._loop.create_task(self._shut(), name="pinloop serve: drain")
        return self._draining

    async def _shut(self) -> None:
        """End the listeners, then all workers."""
        if self._acceptor is not None:
            await self._acceptor.finish(self._plan.backlog, self._plan.grace)
        await asyncio.gather(*(occupant.stop_accepting() for occupant in self._occupants))
        self._listeners.close()  # from now on, who comes is refused, not left to wait
        while self._occupants:
            await asyncio.gather(*(self._dismiss(occupant) for occupant in list(self._occupants)))
        if self._acceptor is not None:
            self._acceptor.close()
        self._state = CLOSED

    async def _dismiss(self, occupant: Occupant) -> None:
        """End one worker, once it has drained."""
        await occupant.leave()
        if occupant in self._occupants:
            self._occupants.discard(occupant)
            self._problems += occupant.slot.problems

    def cut(self) -> None:
        """End now: workers are killed, and with them what they serve. For who does not want to wait."""
        for occupant in self._occupants:
            occupant.kill()

    # --------------------------------------------------------------- reloading --

    async def reload(self) -> None:
        """Replace each worker by a new one, one after the other, without a refused or cut connection.

        The new one has loaded the app anew, and accepts, before the old one stops; that one ends what it has
        within `grace` seconds. Returns when the last old one has ended. Several calls run one after the
        other.

        If a new worker cannot be started, its error is raised, and the old ones that are not replaced yet go
        on. Cancelled, it stops after the worker that it is at. Raises WorkersClosed while it does not serve.
        """
        self._check_serving()
        leaving: list[asyncio.Task[None]] = []
        async with self._reloading:
            try:
                for seat in self._seats:
                    self._check_serving()
                    await self._replace(seat, leaving)
            finally:
                if leaving:
                    await asyncio.wait(leaving)

    def _check_serving(self) -> None:
        if self._failure is not None:
            raise WorkersFailed(str(self._failure)) from self._failure
        if self._state != SERVING:
            raise WorkersClosed(f"{self!r} cannot be reloaded")

    async def _replace(self, seat: Seat, leaving: list[asyncio.Task[None]]) -> None:
        new = self._occupy(seat)
        try:
            await asyncio.wait([new.ready])
            new.ready.result()
            self._check_serving()
        except BaseException:
            new.kill()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dismiss(new)
            raise
        self._watch(new)
        old, seat.occupant = seat.occupant, new
        leaving.append(self._loop.create_task(self._retire(old), name=f"pinloop serve: retire {seat.index}"))

    async def _retire(self, occupant: Occupant) -> None:
        await occupant.leave()
        self._occupants.discard(occupant)
        for problem in occupant.slot.problems:
            self._report(problem)

    # ------------------------------------------------------------------ signals --

    async def serve_forever(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain: for a main task. SIGHUP reloads.

        A second SIGTERM or SIGINT cuts what is still open. A reload that fails is logged, to "pinloop.serve".
        Also returns when somebody else drains the service. Cancelled, it returns to the end of the block,
        which drains. Raises RuntimeError outside of the main thread, whose signals these are.
        """
        with self._signals() as asked:
            if self._state == SERVING:
                waiting = self._loop.create_task(asked.wait())
                try:
                    await asyncio.wait([waiting])
                finally:
                    waiting.cancel()
            await self.drain()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[asyncio.Event]:
        """Handle them, from now on; nested, it is the outer one's handlers."""
        if self._stop_asked is not None:
            yield self._stop_asked
            return
        loop = asyncio.get_running_loop()
        asked = self._stop_asked = asyncio.Event()
        numbers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_reload,
        }
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number, action in numbers.items():
                loop.add_signal_handler(number, action)
            yield asked
        finally:
            self._stop_asked = None
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                if handler is not None:
                    signal.signal(number, handler)

    def _on_stop(self) -> None:
        assert self._stop_asked is not None
        if self._stop_asked.is_set():
            logger.warning("asked once more to stop: what is open is cut")
            self.cut()
        else:
            logger.info("stopping: what is open has %g s to end", self._plan.grace)
            self._stop_asked.set()

    def _on_reload(self) -> None:
        if self._state != SERVING or len(self._reloads) > 1:  # one that has not begun does for both
            return
        task = self._loop.create_task(self._logged_reload(), name="pinloop serve: reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _logged_reload(self) -> None:
        logger.info("reloading %d workers", len(self._seats))
        try:
            await self.reload()
        except WorkersClosed:
            pass
        except Exception as error:
            logger.error("the reload failed; the workers that were not replaced go on", exc_info=error)
        else:
            logger.info("reloaded")

    def run(self, started: Callable[[Service], Any] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, on a loop of its own: for scripts. As `serve_forever`.

        `started` is called with the service once it accepts. Raises what entering the service and the end of
        its block raise, and RuntimeError where a loop is running.
        """
        from ..runner import run

        run(self._run(started))

    async def _run(self, started: Callable[[Service], Any] | None) -> None:
        with self._signals():
            async with self:
                if started is not None:
                    started(self)
                await self.serve_forever()
