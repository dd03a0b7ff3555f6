"""Workers: one pinned loop per core, and calls to them.

async with Workers() as pool:
    answer = await pool.run(fn, *args)      # in the worker that has least to do
    answer = await pool[0].run(fn, *args)   # in this one
"""

from __future__ import annotations

import asyncio
import operator
import os
import sys
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

from .._core import Receiver, Sender
from ..scopes import scope
from .backends import check_watch, make_backend
from .balance import balance
from .calls import Caller, Returned, name_of
from .counts import PoolMetrics, WorkerMetrics, add_pool, remove_pool
from .ending import conclude, uninterrupted
from .errors import WorkerCrashed, WorkersClosed, WorkersFailed
from .keys import owner
from .mapping import Mapped, mapped
from .member import Worker
from .placement import elsewhere, place
from .supervise import Restart, Restarts, Rules, Slot
from .worker import Hooks

if TYPE_CHECKING:
    from ..serving.pooled import PoolServer

T = TypeVar("T")
Function = Callable[..., Any]

NEW, STARTING, OPEN, CLOSING, CLOSED = range(5)
STATES = ("not entered", "starting", "open", "being left", "closed")


class Workers:
    """Workers, each an event loop on a core of its own, that run functions for this one.

    async with Workers() as pool:
        answer = await pool.run(fn, *args)

    It is entered once all workers are ready. Left by its end, it waits for the calls under way; left by an
    exception or a cancellation, it cancels them. Then the workers end, and nothing is left of them.

    `n` is how many (None: one for each CPU that this process may use, within its cgroup's quota). `backend`
    says what they are: "process", the default; "thread", the default where Python has no GIL; or "dask": a
    loop in each worker of a Dask cluster, which needs the extra `dask`. `address` is that of its scheduler,
    or a cluster object of Dask's, and then `n` may be None for all of its workers, which are found when the
    pool is entered; with None a cluster on this machine is made, and ends with the pool. `placement`
    says where they run: "spread" (apart from each other), "pack" (close together), a list with a CPU number
    or a set of them for each worker, or None: anywhere. On macOS no thread can be kept on a CPU, and
    placement is ignored.

    Threads share what they are given: arguments, results and items of channels are the very objects, not
    copies. With the GIL they take turns, so calls that compute gain nothing. What crashes one ends the whole
    process, and one that blocks cannot be ended: it is given up, and goes on.

    `setup()` is called in each worker before its first call, also in one that is restarted, and `teardown()`
    before it ends: coroutine functions, or plain ones. What `setup` returns is `current_worker().state`
    there, and context variables that it sets are seen by each call.

    A worker that ends, however that comes, fails its calls with `WorkerCrashed` and is restarted; more often
    than `restart` allows, and the pool fails: its block is cancelled, and WorkersFailed raised. With
    `memory_limit` one is killed that is found to use more bytes.

    With `heartbeat` a worker is killed whose loop does not answer for so many seconds. None, the default, is
    never: from outside, a call that computes for an hour, or that waits for something without letting the
    loop run, looks like one that will never end, and the pool must not kill the first. What is long enough
    only the program knows: more than its longest call may hold up its loop. Until then the calls of a worker
    that hangs wait with it; a deadline does not end them, for they are cancelled there. While a worker is
    being stopped, `grace` counts in its place.

    `grace` is how many seconds a worker has to end, or to end its calls, before it is killed, also where the
    process of the pool is killed itself; `start_timeout`, how many it has to start. `spin_us` is
    `new_event_loop`'s.

    Raises ValueError for numbers out of range, for more workers than CPUs, and for a CPU that is not allowed;
    also for what a backend cannot do: see docs/dask.md. Entered, it raises WorkerError if there are no such
    workers within `start_timeout`.
    """

    def __init__(
        self,
        n: int | None = None,
        backend: str | None = None,
        placement: str | Iterable[Any] | None = "spread",
        restart: Restart | None = None,
        *,
        address: Any = None,
        setup: Function | None = None,
        teardown: Function | None = None,
        heartbeat: float | None = None,
        memory_limit: int | None = None,
        grace: float = 5.0,
        start_timeout: float = 60.0,
        spin_us: float = 0,
    ) -> None:
        for name, seconds, least in (("grace", grace, 0.0), ("start_timeout", start_timeout, 0.0)):
            if not seconds >= least:
                raise ValueError(f"{name} must be 0 seconds or more, not {seconds!r}")
        self._backend = make_backend(backend, spin_us, grace, start_timeout, address)
        if address is None:
            self._places = place(n, placement)
        else:
            self._places = elsewhere(n, placement)
        check_watch(self._backend.name, heartbeat, memory_limit)
        self._rules = Rules(Hooks(setup, teardown), start_timeout, grace, heartbeat, memory_limit)
        self._restarts = Restarts(restart or Restart())
        self._state = NEW
        self._slots: list[Slot] = []
        self._workers: list[Worker] = []
        self._scope = scope()
        self._failure: WorkersFailed | None = None
        self._hurried = False
        self._active = 0
        self._submitted: set[asyncio.Task[Any]] = set()
        self._servers: set[PoolServer] = set()
        self._waiters: list[asyncio.Future[None]] = []  # for a worker to be up, or for the last call to end
        self._next = 0
        self._balancing = False  # `_balance` is scheduled

    def __repr__(self) -> str:
        return f"<Workers {STATES[self._state]} n={len(self._places)} backend={self._backend.name}>"

    @property
    def backend(self) -> str:
        """What the workers are: "process", "thread" or "dask"."""
        return self._backend.name

    # ------------------------------------------------------- entering and leaving --

    async def __aenter__(self) -> Self:
        if self._state != NEW:
            raise RuntimeError(f"{self!r} has been entered already: a pool is entered once")
        self._state = STARTING
        self._loop = asyncio.get_running_loop()
        await self._scope.__aenter__()
        try:
            self._places = await self._backend.open(self._places)
            self._slots = [
                Slot(
                    index, cpus, self._backend, self._rules, self._restarts, self._slot_changed, self._on_idle
                )
                for index, cpus in enumerate(self._places)
            ]
            await self._start()
        except BaseException:
            self._state = CLOSED
            await self._uninterrupted(self._loop.create_task(self._backend.close()))
            await self._scope.__aexit__(*sys.exc_info())
            raise
        for slot in self._slots:
            slot.task.add_done_callback(self._slot_ended)
        self._workers = [Worker(self, slot) for slot in self._slots]
        self._number = add_pool(self)
        self._state = OPEN
        return self

    async def _start(self) -> None:
        """Wait until all workers are up. Where one cannot be started, none is left."""
        tasks = [slot.task for slot in self._slots]
        try:
            while not all(slot.caller for slot in self._slots):
                for task in tasks:
                    if task.done():
                        task.result()
                await self._changed(tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await self._uninterrupted(asyncio.gather(*tasks, return_exceptions=True))
            raise

    async def _changed(self, tasks: Iterable[asyncio.Future[Any]] = ()) -> None:
        """Wait until a worker is up or down, or the last call has ended, or one of the tasks."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)

    def _slot_changed(self) -> None:
        """A worker is up, or down."""
        self._wake()
        self._on_idle()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        """A worker will not be started again."""
        error = None if task.cancelled() else task.exception()
        if error is None or self._failure is not None:
            return
        if not isinstance(error, WorkersFailed):
            failure = WorkersFailed(f"a worker could not be supervised: {error!r}")
            failure.__cause__ = error
            error = failure
        self._failure = error
        self._wake()
        if self._state == OPEN:
            self._scope.cancel("the pool of workers failed")

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._state != OPEN:
            raise RuntimeError(f"{self!r} cannot be left")
        self._state = CLOSING
        interrupted: BaseException | None = None
        try:
            while exc is None and self._failure is None and self._servers:
                await next(iter(self._servers)).close()
            while exc is None and self._failure is None and (self._active or self._submitted):
                await self._changed()
        except asyncio.CancelledError as error:
            interrupted = error
        hurried = exc is not None or interrupted is not None or self._failure is not None
        cancelled = await self._uninterrupted(self._loop.create_task(self._shut(hurried)))
        self._state = CLOSED
        remove_pool(self)
        end = cancelled or interrupted or exc
        swallowed = await self._scope.__aexit__(
            type(end) if end else None, end, None if end is None else end.__traceback__
        )
        problems = [problem for slot in self._slots for problem in slot.problems]
        return conclude(exc, None if swallowed else end, self._failure, problems, self._report)

    def _report(self, problem: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a worker did not end well", "exception": problem, "pool": self}
        )

    async def _uninterrupted(self, ending: asyncio.Future[Any]) -> BaseException | None:
        return await uninterrupted(ending, self._kill)

    def _kill(self) -> None:
        for slot in self._slots:
            slot.kill()

    async def _shut(self, hurried: bool) -> None:
        """End the calls, then the workers."""
        if hurried:
            self._hurried = True
            for server in self._servers:
                server.release()
            for task in self._submitted:
                task.cancel()
            for slot in self._slots:
                if slot.caller is not None:
                    slot.caller.abort()
            await self._wait_idle(self._rules.grace)
        await asyncio.gather(*(slot.stop() for slot in self._slots))
        await self._backend.close()
        self._wake()
        await self._wait_idle(None)

    async def _wait_idle(self, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                while self._active or self._submitted:
                    await self._changed()
        except TimeoutError:
            for slot in self._slots:
                if slot.caller is not None and slot.caller.calls:
                    slot.kill("did not end its calls in time and was killed")

    # --------------------------------------------------------------- calling --

    @overload
    async def run(
        self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any, idempotent: bool = False
    ) -> T: ...
    @overload
    async def run(self, fn: Callable[..., T], *args: Any, idempotent: bool = False) -> T: ...
    async def run(self, fn: Function, *args: Any, idempotent: bool = False) -> Any:
        """Call `fn(*args)` in the worker that has the fewest calls, and return its result.

        A call that has not begun there when another worker has next to nothing to do is made in that one.

        `fn` is a coroutine function, which runs beside the worker's other calls, or a plain function, which
        holds them up while it runs. It is sent by its name, so it must be one that can be imported, or of the
        main module; arguments and result are pickled. Context variables that a module holds go with it, as
        far as they can be pickled, and so does the deadline of the scopes around the call.

        Keywords go by `functools.partial`. Sockets may be arguments: a worker that is a process gets
        duplicates. Large bytes, and the buffers of what pickles out of band, go through shared memory.

        What it raises is raised here, with the traceback of the worker as its cause. Cancelled, this cancels
        the call in the worker, waits for it to end, and raises CancelledError, or what the call raised.

        Raises WorkerCrashed if the worker ends meanwhile; `idempotent` calls are then made again, as often as
        `restart` allows restarts. Raises Unpicklable for what cannot be pickled, WorkersClosed when the pool
        is not open, WorkersFailed when it has failed.
        """
        self._check_open()
        return await self._call(None, fn, args, idempotent)

    def submit(self, fn: Function, *args: Any, idempotent: bool = False) -> asyncio.Task[Any]:
        """Begin `run(fn, *args)` and go on; its task. To cancel the task cancels the call.

        The pool waits for it when it is left, and cancels it if that is by an exception. Its errors are the
        task's own. Raises WorkersClosed when the pool is not open.
        """
        return self._submit(None, fn, args, idempotent)

    def map(
        self,
        fn: Function,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        limit: int | None = None,
        chunk: int = 1,
        progress: bool = False,
        idempotent: bool = False,
    ) -> Mapped[Any]:
        """Call `fn` with each item of an iterable, or one of each, until the shortest ends; the results.

        async for result in pool.map(fn, items): ...    # as they come
        results = await pool.map(fn, items)             # all, in a list
        async with pool.map(fn, items) as results:      # and if it is left early, the rest is cancelled there
            async for result in results: ...

        The results are in the order of the items, or, with `ordered` false, in that in which they are ready.
        Up to `limit` calls (None: 32 for each worker) are under way or wait to be taken: so far is the source
        read ahead. `chunk` items go into one call, which does them one after the other: for functions so
        short that the way there and back counts. An iterable may be asynchronous, if it is the only one.

        With `progress` a bar of rich is on the terminal. The first error ends it; `idempotent` is `run`'s.
        Raises ValueError for a `limit` or `chunk` below 1, TypeError for what is no iterable, ImportError if
        rich is not installed, and WorkersClosed when the pool is not open.
        """
        self._check_open()

        def submit(fn: Function, args: tuple[Any, ...]) -> asyncio.Task[Any]:
            return self._submit(None, fn, args, idempotent)

        if limit is None:
            limit = 32 * len(self._slots)
        return mapped(submit, fn, iterables, ordered, limit, chunk, progress)

    def _check_open(self) -> None:
        if self._state != OPEN or self._failure is not None:
            self._refuse()

    def _refuse(self) -> NoReturn:
        if self._failure is not None:
            raise WorkersFailed(str(self._failure)) from self._failure
        raise WorkersClosed(f"{self!r} takes no calls")

    def _submit(
        self, slot: Slot | None, fn: Function, args: tuple[Any, ...], idempotent: bool
    ) -> asyncio.Task[Any]:
        self._check_open()
        task = self._loop.create_task(self._call(slot, fn, args, idempotent), name=name_of(fn))
        self._submitted.add(task)
        task.add_done_callback(self._submitted_done)
        return task

    def _submitted_done(self, task: asyncio.Task[Any]) -> None:
        self._submitted.discard(task)
        if self._state == CLOSING and not self._submitted:
            self._wake()

    async def _call(self, only: Slot | None, fn: Function, args: tuple[Any, ...], idempotent: bool) -> Any:
        tries = self._restarts.limit.max if idempotent else 0
        self._active += 1
        try:
            while True:
                if self._hurried:
                    self._refuse()
                slot = only or self._least_loaded()
                caller = slot.caller or await self._up(only)
                try:
                    return await caller.call(fn, args, anywhere=only is None)
                except Returned as back:
                    if back.content is not None:  # as they were when the call was made
                        fn, args = back.content[0] or fn, back.content[1]
                except WorkerCrashed:
                    if not caller.lost or tries <= 0:
                        raise
                    tries -= 1
        finally:
            self._active -= 1
            if self._active == 0 and self._state == CLOSING:
                self._wake()

    def _least_loaded(self) -> Slot:
        slots = self._slots
        count = len(slots)
        first = self._next = (self._next + 1) % count
        best = slots[first]
        least = len(best.caller.calls) if best.caller is not None else sys.maxsize
        for i in range(first + 1 - count, first):
            if least == 0:
                break
            caller = slots[i].caller
            if caller is not None and len(caller.calls) < least:
                best, least = slots[i], len(caller.calls)
        return best

    def _on_idle(self) -> None:
        """A worker has next to nothing to do."""
        if self._active > 2 and not self._balancing:
            self._balancing = True
            self._loop.call_soon(self._balance)  # once those whose calls have ended have made their next ones

    def _balance(self) -> None:
        callers = [slot.caller for slot in self._slots if slot.caller is not None]
        again = balance(callers, self._loop.time())
        self._balancing = again is not None
        if again is not None:
            self._loop.call_at(again, self._balance)

    async def _up(self, only: Slot | None) -> Caller:
        """Wait for a worker that is being restarted: this one, or any."""
        while True:
            if self._failure is not None or self._hurried:
                self._refuse()
            for slot in (only,) if only else self._slots:
                if slot.caller is not None:
                    return slot.caller
            if all(slot.task.done() for slot in self._slots):
                self._refuse()
            await self._changed()

    async def channel(self, index: int, capacity: float) -> tuple[Sender[Any], Receiver[Any]]:
        """A channel between this loop and a worker; its two ends, one of which is to be sent there.

        tx, rx = await pool.channel(0, 16)
        consumer = pool[0].submit(consume, rx)      # the end is an argument of a call in that worker
        await tx.send(item)

        What was sent away is closed here; the ends that are in use are as those of `pinloop.channel`. It
        holds up to `capacity` items, half of them on either side, beside those on their way to the worker's
        loop; with 0 a sender waits until a receiver waits too, with `math.inf` never. An item that cannot be
        pickled has its `send` raise Unpicklable. Items are pickled soon after they were sent, and are to be
        left alone until then.

        Where the worker ends, senders here get BrokenChannel, and so do receivers once they have what had
        come. Waits while the worker is being restarted. Raises as `pinloop.channel`, IndexError for a worker
        that there is not, and what `run` raises for a pool that is not open.
        """
        return await self[index].channel(capacity)

    async def serve(
        self,
        handler: Function,
        host: str | Sequence[str] | None = "127.0.0.1",
        port: int = 0,
        *,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        password: str | None = None,
        ssl: Any = None,
        grace: float = 10.0,
        backlog: int = 2048,
        limit: int = 64 * 1024,
    ) -> PoolServer:
        """Serve connections in all workers, beside their calls; returns once all listen.

        server = await pool.serve(handler, port=8000)
        print(server.addresses)
        await server.close()                        # or by the end of the pool's block

        `handler` is an `async def handler(reader, writer)` that a worker can import; its connection is closed
        when it returns. `current_worker().state` is there what the pool's `setup` returned. Each worker has a
        listener of its own, among which the kernel spreads the connections; where it cannot, all accept from
        one. A worker that is restarted serves again. What waits to be accepted meanwhile waits for it.

        Closed, it accepts no more, and what is open has `grace` seconds to end before it is cut. A pool that
        is left by its end closes it; one that is left by an error cuts it at once, as it cancels its calls.

        The arguments are those of `pinloop.serve`, which has workers of its own, serves ASGI apps, replaces
        its workers without a refused request, and handles signals. Raises OSError that names the address
        which cannot be listened at, ValueError for numbers out of range, Unpicklable for a handler that
        cannot be sent (with Dask: for the sockets), and what `run` raises for a pool that is not open.
        Cancelled, it is closed.
        """
        from ..serving.pooled import serve_by

        self._check_open()
        tls = {"certfile": certfile, "keyfile": keyfile, "password": password, "ssl": ssl}
        return await serve_by(self, handler, host, port, tls, grace, backlog, limit)

    async def metrics(self, timeout: float = 1.0) -> PoolMetrics:
        """What has been done: how the calls of each worker ended, its restarts, channels and loop's metrics.

        The loops are asked, by a message that is no call. One that does not answer within `timeout` seconds,
        because something blocks it, or that is being restarted, has None in place of its loop's metrics.

        Raises ValueError for a `timeout` below 0, and what `run` raises for a pool that is not open.
        """
        if not timeout >= 0:
            raise ValueError(f"timeout must be 0 seconds or more, not {timeout!r}")
        self._check_open()
        found = await asyncio.gather(*(slot.measure(timeout) for slot in self._slots))
        return self._metrics_of(found)

    def _counts(self) -> PoolMetrics:
        """The same without asking the workers. May be called from any thread."""
        return self._metrics_of([slot.counts() for slot in self._slots])

    def _metrics_of(self, workers: list[WorkerMetrics]) -> PoolMetrics:
        waiting = self._active - sum(worker.in_flight for worker in workers)
        return PoolMetrics(tuple(workers), max(waiting, 0))

    # ------------------------------------------------------------ the workers --

    def __getitem__(self, index: int) -> Worker:
        """The worker of this index, from 0. Raises IndexError, and TypeError for what is no index."""
        try:
            return self._workers[operator.index(index)]
        except IndexError:
            if self._state in (NEW, STARTING):
                self._check_open()
            raise IndexError(f"there is no worker {index}: the pool has {len(self._places)}") from None

    def for_key(self, key: Any) -> Worker:
        """The worker to which a key belongs: the same one each time, and in each run with as many workers.

        A key is a str, bytes, an int, float, bool or None, or a tuple of keys; equal ones belong to the same
        worker. With another number of workers as few keys as possible change theirs. Raises TypeError for
        other keys, WorkersClosed for a pool that was not entered.
        """
        if not self._workers:
            self._check_open()
        return self._workers[owner(key, len(self._workers))]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)
