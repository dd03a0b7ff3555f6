"""`Workers.serve`: a handler in the workers of a pool, beside their calls.

In each worker a call serves until it is told to stop, by the end of a channel, or is cancelled. By another
channel it says how far it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._core import Receiver, Sender
from ..errors import BrokenChannel, ChannelError
from ..workers.errors import WorkerCrashed, WorkersClosed, WorkersFailed
from .apps import HANDLER, load, travelling
from .binding import REUSEPORT, SHARED, Address, Listeners, open_listeners, reuseport_option
from .entry import check_least, check_port
from .host import Host, Plan
from .occupant import PATIENCE
from .sites import HandlerSite
from .tls import tls_of

if TYPE_CHECKING:
    import socket

    from ..workers.member import Worker
    from ..workers.pool import Workers

LISTENING, STOPPED = "listening", "stopped"
"""What is said by the channel of news."""


async def serve_here(
    plan: Plan, orders: Receiver[None], news: Sender[str], *listeners: socket.socket
) -> None:
    """Serve in this worker until the orders end, then drain. Cancelled, cut what is open."""
    async with orders, news:
        host = Host(plan)
        host.site = HandlerSite(load(plan.app, factory=False), plan.limit, host.changed)
        if plan.tls is not None:
            host.ssl = plan.tls.load(host.site.alpn)
        grace = 0.0  # if it is cancelled
        try:
            await host.listen(listeners)
            await news.send(LISTENING)
            with contextlib.suppress(ChannelError):  # the end of the orders
                await orders.recv()
            grace = plan.grace
        finally:
            host.stop_listening()
            with contextlib.suppress(ChannelError):
                news.send_nowait(STOPPED)
            await host.drain(grace)


class Stand:
    """One worker's part of it, whoever the worker is at the time."""

    def __init__(self, worker: Worker, plan: Plan, listeners: list[socket.socket]) -> None:
        self._worker = worker
        self._plan = plan
        self._listeners = listeners
        self._leaving = False
        self._orders: Sender[None] | None = None
        loop = asyncio.get_running_loop()
        self.listening: asyncio.Future[None] = loop.create_future()
        self.stopped: asyncio.Future[None] = loop.create_future()
        self.task = loop.create_task(self._keep(), name=f"pinloop: serving in worker {worker.index}")

    async def _keep(self) -> None:
        """Have each life of the worker serve. Raises what keeps it from that."""
        try:
            while not self._leaving:
                try:
                    await self._serve()
                except WorkerCrashed:
                    continue
        except (WorkersClosed, WorkersFailed):  # that is told where the pool is left
            pass
        finally:
            for future in (self.listening, self.stopped):
                if not future.done():
                    future.set_result(None)

    async def _serve(self) -> None:
        self._orders, orders = await self._worker.channel(0)
        news_tx, news = await self._worker.channel(2)
        call = self._worker.submit(serve_here, self._plan, orders, news_tx, *self._listeners)
        call.add_done_callback(lambda _: news_tx.close())  # which is ours, if it was never sent
        if self._leaving:
            self._orders.close()
        try:
            with contextlib.suppress(BrokenChannel):
                async for word in news:
                    future = self.listening if word == LISTENING else self.stopped
                    if not future.done():
                        future.set_result(None)
            await asyncio.wait([call])
            if not call.cancelled():  # else the pool is being left in a hurry
                call.result()
            self._leaving = True
        finally:
            call.cancel()
            for end in (self._orders, orders, news):
                end.close()

    def stop(self) -> None:
        """Have it accept no more, and drain."""
        self._leaving = True
        if self._orders is not None:
            self._orders.close()


class PoolServer:
    """A handler that the workers of a pool serve. Made by `Workers.serve`; see there."""

    def __init__(self, pool: Workers, plan: Plan, listeners: Listeners) -> None:
        self._pool = pool
        self._listeners = listeners
        self._addresses = listeners.addresses
        self._loop = asyncio.get_running_loop()
        self._stands = [Stand(worker, plan, listeners.of_worker[worker.index]) for worker in pool]
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closing is not None else "serving"
        return f"<PoolServer {state} at {self._addresses} workers={len(self._stands)}>"

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens: (host, port) of each address. Empty once it is closed."""
        return () if self._closing is not None else self._addresses

    async def started(self) -> None:
        """Wait until all workers listen. Raises the error of one that cannot."""
        waiting = [stand.listening for stand in self._stands]
        await asyncio.wait(waiting)
        for stand in self._stands:
            if stand.task.done():
                stand.task.result()
        for stand in self._stands:
            stand.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A worker does not serve any more: told, unless that was asked for."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "a worker cannot serve any more", "exception": error, "server": self}
            )

    async def close(self) -> None:
        """Accept no more, and let what is open end in time; then cut the rest. Returns once it has ended.

        Cancelled, it goes on in the background. Calling it again waits for the same end.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="pinloop: closing a server of a pool")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for stand in self._stands:
            stand.stop()
        await asyncio.wait([stand.stopped for stand in self._stands], timeout=PATIENCE)
        self.release()  # from now on, who comes is refused, not left to wait
        tasks = [stand.task for stand in self._stands]
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # it was raised by `started`, or told by `_ended`
        self._pool._servers.discard(self)

    def release(self) -> None:
        """Close the listeners here: those of the workers are duplicates."""
        self._listeners.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def serve_by(
    pool: Workers,
    handler: Callable[..., Any],
    host: str | Sequence[str] | None,
    port: int,
    tls: dict[str, Any],
    grace: float,
    backlog: int,
    limit: int,
) -> PoolServer:
    """What `Workers.serve` does."""
    check_port(port)
    check_least(0, grace=grace)
    check_least(1, backlog=backlog, limit=limit)
    processes = pool.backend == "process"
    own = tls_of(tls["certfile"], tls["keyfile"], tls["password"], tls["ssl"], processes)
    plan = Plan(
        *(travelling(handler), HANDLER, False, own, grace, backlog, limit, processes),
        *(None, None, {}),
    )
    balance = REUSEPORT if reuseport_option() is not None and len(pool) > 1 else SHARED
    listeners = open_listeners(host, port, None, len(pool), balance, backlog)
    server = PoolServer(pool, plan, listeners)
    pool._servers.add(server)
    try:
        await server.started()
    except BaseException:
        await server.close()
        raise
    return server
