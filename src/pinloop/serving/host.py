"""What serves in a worker: it accepts from its listeners or from the acceptor, and drains before it ends.

It is made by the worker's setup, gets its sockets by a call, and ends by the worker's teardown.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .apps import ASGI, kind_of, load
from .sites import AsgiSite, HandlerSite, Site
from .tls import Tls

logger = logging.getLogger("pinloop.serve")

LINGER = 1.0
"""Seconds that a connection on which nothing is under way has for one more request, when the worker ends."""
LAST = 1.0
"""Seconds that what was cut has to end."""

LOOK = 0.05
"""Seconds between two looks at what does not tell of its end: tasks of an ASGI app without a connection."""

HANDED = 64  # sockets that come at once
REPORT = struct.Struct("<II")
"""What a worker tells its acceptor: how many sockets it has taken, and how many connections are open."""

_host: contextvars.ContextVar[Host] = contextvars.ContextVar("pinloop_serve_host")


@dataclass(frozen=True, slots=True)
class Plan:
    """What each worker of a service is told."""

    app: Any
    kind: str | None
    factory: bool
    tls: Tls | None
    grace: float
    backlog: int
    limit: int
    processes: bool
    setup: Callable[..., Any] | None
    teardown: Callable[..., Any] | None
    uvicorn: dict[str, Any]


async def prepare(plan: Plan) -> Any:
    """The setup of a worker: have the app ready. Returns what the user's setup returned."""
    if plan.processes and threading.current_thread() is threading.main_thread():
        # Sent to the whole group, as a terminal does that is closed: it is the parent that reloads.
        signal.signal(signal.SIGHUP, _leave_it_to_the_parent)
    app = load(plan.app, plan.factory)
    kind = plan.kind or kind_of(app)
    state = await _run(plan.setup)
    host = Host(plan)
    try:
        if kind == ASGI:
            asgi = AsgiSite(app, plan.uvicorn, host.changed)
            await asgi.start()
            host.site = asgi
        else:
            host.site = HandlerSite(app, plan.limit, host.changed)
        if plan.tls is not None:
            host.ssl = plan.tls.load(host.site.alpn)
    except BaseException:
        await _run(plan.teardown)
        raise
    _host.set(host)
    return state


async def finish(plan: Plan) -> None:
    """The teardown of a worker: end the connections, then the app."""
    try:
        await _host.get().drain(plan.grace)
    finally:
        await _run(plan.teardown)


async def listen(*sockets: socket.socket) -> None:
    """Accept from these. Called in a worker by the service."""
    await _host.get().listen(sockets)


async def receive(handoff: socket.socket) -> None:
    """Take the sockets that come by this one. Called in a worker by the service."""
    _host.get().receive(handoff)


async def stop_accepting() -> None:
    """Accept what has waited until now, then no more. Called in a worker when the whole service drains."""
    _host.get().stop_listening()


async def _run(hook: Callable[..., Any] | None) -> Any:
    if hook is None:
        return None
    result = hook()
    return await result if hasattr(result, "__await__") else result


def _leave_it_to_the_parent(*_: Any) -> None:
    pass


class Host:
    """The connections of one worker."""

    site: Site
    ssl: ssl.SSLContext | None = None

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.AbstractServer] = []
        self._listeners: list[socket.socket] = []
        self._adopting: set[asyncio.Task[None]] = set()
        self._handoff: socket.socket | None = None
        self._taken = 0
        self._reporting = False
        self._waiter: asyncio.Future[None] | None = None

    def changed(self) -> None:
        """A connection began or ended."""
        if self._handoff is not None and not self._reporting:
            self._reporting = True
            self._loop.call_soon(self._report)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------- listening --

    async def listen(self, sockets: tuple[socket.socket, ...]) -> None:
        """Accept from each. The server's descriptor and the one for the last connections are duplicates."""
        for sock in sockets:
            self._listeners.append(sock.dup())
            own = sock.dup()
            if self._plan.processes:
                sock.close()
            try:
                server = await self._loop.create_server(
                    self.site.protocol, sock=own, ssl=self.ssl, backlog=self._plan.backlog
                )
            except BaseException:
                own.close()
                raise
            self._servers.append(server)

    def stop_listening(self) -> None:
        """Accept no more, after those that have waited until now."""
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            try:
                for _ in range(self._plan.backlog):  # as many as can have waited: more may be coming
                    self._adopt(listener.accept()[0])
            except OSError:  # there is no more, in most cases
                pass
            listener.close()
        self._servers.clear()
        self._listeners.clear()

    # --------------------------------------------------------- from the acceptor --

    def receive(self, handoff: socket.socket) -> None:
        """Take what the acceptor sends."""
        handoff.setblocking(False)
        self._handoff = handoff
        self._loop.add_reader(handoff, self._receive)

    def _receive(self) -> bool:
        """Take some; whether there may be more."""
        assert self._handoff is not None
        try:
            data, fds, _, _ = socket.recv_fds(self._handoff, HANDED, HANDED)
        except BlockingIOError:
            return False
        except OSError:
            data, fds = b"", []
        for fd in fds:
            os.set_inheritable(fd, False)
            self._taken += 1
            self._adopt(socket.socket(fileno=fd))
        if not data:  # the parent sends no more
            self._stop_receiving()
            return False
        self.changed()
        return True

    def _stop_receiving(self) -> None:
        if self._handoff is not None:
            self._loop.remove_reader(self._handoff)
            self._handoff.close()
            self._handoff = None

    def _report(self) -> None:
        self._reporting = False
        if self._handoff is None:
            return
        try:
            self._handoff.send(REPORT.pack(self._taken & 0xFFFFFFFF, self.site.open + len(self._adopting)))
        except BlockingIOError:  # the parent is busy: later, for the last count must arrive
            self._reporting = True
            self._loop.call_later(0.05, self._report)
        except OSError:
            pass

    def _adopt(self, sock: socket.socket) -> None:
        task = self._loop.create_task(self._connect(sock))
        self._adopting.add(task)
        task.add_done_callback(self._adopted)

    async def _connect(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self.site.protocol, sock, ssl=self.ssl)
        except (OSError, ssl.SSLError):  # the peer's fault, as where a server accepts
            sock.close()
        except BaseException:
            sock.close()
            raise

    def _adopted(self, task: asyncio.Task[None]) -> None:
        self._adopting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "a connection could not be served", "exception": error, "task": task}
            )
        self.changed()

    # ----------------------------------------------------------------- its end --

    async def drain(self, grace: float) -> None:
        """Accept no more, let what is open end within `grace` seconds, cut the rest, end the app."""
        until = self._loop.time() + grace
        self.stop_listening()
        while self._handoff is not None and self._receive():
            pass
        self._stop_receiving()
        site = self.site
        site.wind_down()
        if not await self._idle(min(LINGER, grace)):
            site.nudge()
            if not await self._idle(until - self._loop.time()):
                logger.warning("%d connections were cut: they had not ended after %g s", site.open, grace)
                for task in list(self._adopting):
                    task.cancel()
                site.cut()
                await self._idle(LAST)
        await site.close()

    async def _idle(self, patience: float) -> bool:
        """Wait until no connection is left; whether that is so."""
        try:
            async with asyncio.timeout(max(patience, 0)):
                while self.site.busy or self._adopting:
                    self._waiter = self._loop.create_future()
                    again = self._loop.call_later(LOOK, self.changed)
                    try:
                        await self._waiter
                    finally:
                        again.cancel()
        except TimeoutError:
            pass
        return not (self.site.busy or self._adopting)
