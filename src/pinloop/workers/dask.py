"""Workers that are Dask's: a loop in each of its workers, and a link to it over a connection of Dask's.

A Dask worker takes connections on one port, and a message on them names what is to handle it. The pool has
Dask run `install` there, which adds one such name; then it connects, says that name, and the connection is
the link. So there is no port and no secret besides Dask's own, and what encrypts Dask's connections encrypts
this one. The scheduler is asked for a worker when one starts, and not for a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar

from .comm import CommLink, Pump
from .errors import WorkerError
from .placement import CPUs

try:
    import distributed
    from distributed.comm import connect
    from distributed.core import clean_exception, send_recv
    from distributed.protocol.pickle import dumps
except ImportError as error:
    raise ImportError("backend='dask' needs Dask's distributed: pip install 'pinloop[dask]'") from error

T = TypeVar("T")

LOOK = 0.05  # seconds between two looks at which Dask workers there are
SHUN = 5.0  # seconds for which one that was lost or could not be reached is not tried again
CONNECT = 5.0  # seconds to connect to one
PATIENCE = 10.0  # seconds that something of Dask's has to end after it is not wanted any more


class DaskLife:
    """One life of a worker, in the pool: its link to a Dask worker, from its beginning to its end."""

    def __init__(self, comm: Any, address: str, pid: int) -> None:
        loop = asyncio.get_running_loop()
        self._pump = Pump(comm)
        self.link = CommLink(loop, self._pump)
        self.exited: asyncio.Future[str] = loop.create_future()
        """How it ended, in words, once it has."""
        self.pid = pid
        self.lost = False
        """Whether the connection ended before the worker did."""
        self._address = address
        self.task = loop.create_task(self._pump.run(self.link), name=f"pinloop link to {address}")
        self.task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[str | None]) -> None:
        if task.cancelled() or task.exception() is not None:
            how = f"was lost: {'cancelled' if task.cancelled() else task.exception()}"
        else:
            how = task.result() or "was lost"
            self.lost = task.result() is None
        if how != "exited with code 0":
            how = f"({self._address}, pid {self.pid}) {how}"
        self._exit(how)

    def _exit(self, how: str) -> None:
        if not self.exited.done():
            self.link.close()
            self.exited.set_result(how)

    def kill(self, why: str | None = None) -> None:
        """Break with it. Its calls are cancelled there, if it can still do that; the Dask worker goes on."""
        self._pump.abort()
        if not self.exited.done():
            self.lost = True
            how = (why or "was given up").replace("was killed", "was given up")
            self._exit(f"({self._address}, pid {self.pid}) {how}")

    def memory(self) -> int | None:
        return None


class DaskBackend:
    """Finds Dask workers, in a cluster of others' or in one of the pool's own."""

    name = "dask"

    def __init__(self, address: Any, spin_us: float, timeout: float) -> None:
        if address is not None and not isinstance(address, str) and not hasattr(address, "scheduler_address"):
            raise TypeError(
                f"address must be a scheduler's, as text, or a cluster of Dask's, not {address!r}"
            )
        self._address = address
        self._spin_us = spin_us
        self._timeout = timeout
        self._cluster: Any = None  # of the pool's own
        self._client: Any = None
        self._lives: dict[int, DaskLife] = {}
        self._links: set[asyncio.Task[Any]] = set()
        self._taken: dict[int, str] = {}  # the address of the Dask worker that each has
        self._names: dict[int, Any] = {}  # and the name of the one that each has or had
        self._shunned: dict[str, float] = {}

    # ------------------------------------------------------------- the cluster --

    async def open(self, places: list[CPUs | None]) -> list[CPUs | None]:
        try:
            async with asyncio.timeout(self._timeout):
                await unbroken(self._connect(len(places)))
                count = len(places) or 1
                await self._client.wait_for_workers(count)
                found = await self._running()
        except TimeoutError as error:
            raise WorkerError(
                f"no Dask cluster with {len(places) or 1} workers was found within {self._timeout:g} s"
                f" at {self._where()}"
            ) from error
        except OSError as error:
            raise WorkerError(f"the Dask cluster at {self._where()} cannot be reached: {error}") from error
        return places or [None] * len(found)

    async def _connect(self, count: int) -> None:
        address = self._address
        if address is None:
            address = self._cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # what listens there even so shall not have a port of others
                scheduler_kwargs={"dashboard": False},
                asynchronous=True,
            )
            await self._cluster
        security = None
        if not isinstance(address, str):
            address, security = address.scheduler_address, address.security
        self._client = distributed.Client(
            address,
            timeout=self._timeout,
            set_as_default=False,
            asynchronous=True,
            security=security,
            name="pinloop",
        )
        await self._client

    def _where(self) -> str:
        given = self._address
        return "127.0.0.1" if given is None else given if isinstance(given, str) else given.scheduler_address

    async def _running(self) -> dict[str, Any]:
        """The Dask workers that there are, by address, and what their names are."""
        workers = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        return {address: one["name"] for address, one in workers.items() if one["status"] == "running"}

    async def close(self) -> None:
        if self._links:
            await asyncio.wait(self._links)
        for what in (self._client, self._cluster):
            if what is not None:
                await what.close()

    # -------------------------------------------------------------- one worker --

    async def start(self, index: int, cpus: CPUs | None) -> DaskLife:
        """Find a Dask worker for worker `index`, and link to it."""
        life: DaskLife | None = None
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(self._timeout):
                while life is None:
                    with contextlib.suppress(OSError):
                        found = await self._running()
                    address = self._choose(index, found)
                    if address is not None:
                        life = await unbroken(self._link_to(address, index, cpus))
                    if life is None:
                        await asyncio.sleep(LOOK)
        except TimeoutError:
            raise WorkerError(
                f"no Dask worker was free for worker {index} within {self._timeout:g} s:"
                f" the cluster has {len(found)}"
            ) from None
        except asyncio.CancelledError:
            if index in self._lives:
                self._lives[index].kill()
            raise
        return life

    def _choose(self, index: int, found: dict[str, Any]) -> str | None:
        """A Dask worker that the pool does not use: the one that this was before, if it is there again."""
        now = monotonic()
        taken = self._taken.values()
        free = [
            (name != self._names.get(index), str(name), address)
            for address, name in found.items()
            if address not in taken and self._shunned.get(address, 0) <= now
        ]
        if not free:
            return None
        address = min(free)[2]
        self._taken[index] = address
        self._names[index] = found[address]
        return address

    async def _link_to(self, address: str, index: int, cpus: CPUs | None) -> DaskLife | None:
        """Connect to a Dask worker, and make the connection a link; None if it has just ended."""
        from .dask_worker import OPERATION, kind

        try:
            timeout = min(CONNECT, self._timeout)
            comm = await connect(address, timeout=timeout, **self._client.connection_args)
            try:
                async with asyncio.timeout(timeout):
                    theirs, pid = await _installed(comm)
                if theirs != kind():
                    raise WorkerError(
                        f"the Dask worker at {address} has {theirs} for pinloop, Python and byte order,"
                        f" and the pool {kind()}"
                    )
                await comm.write(
                    {"op": OPERATION, "reply": False, "index": index, "cpus": cpus, "spin_us": self._spin_us}
                )
                life = DaskLife(comm, address, pid)
            except BaseException:
                comm.abort()
                raise
        except ImportError as error:
            raise WorkerError(f"the Dask worker at {address} cannot import pinloop: {error}") from error
        except OSError:  # the scheduler will know soon
            self._leave(index, address)
            return None
        self._lives[index] = life
        self._links.add(life.task)
        life.task.add_done_callback(self._links.discard)
        life.exited.add_done_callback(lambda _: self._leave(index, address if life.lost else None))
        return life

    def _leave(self, index: int, unreachable: str | None) -> None:
        self._taken.pop(index, None)
        if unreachable is not None:
            self._shunned[unreachable] = monotonic() + SHUN


async def _installed(comm: Any) -> Any:
    """Have a Dask worker run `install`, as `Client.run` does, but over this connection; what it returned."""
    from .dask_worker import install

    response = await send_recv(comm, op="run", function=dumps(install))
    if response["status"] != "OK":
        _, error, _ = clean_exception(**response)
        raise error
    return response["result"]


async def unbroken(coro: Coroutine[Any, Any, T]) -> T:
    """Await something of Dask's, which leaves sockets or processes behind when it is cancelled half way.

    Cancelled, this lets it end first, as long as that does not take too long.
    """
    task = asyncio.get_running_loop().create_task(coro)
    until = math.inf
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task], timeout=None if until == math.inf else max(0, until - monotonic()))
        except asyncio.CancelledError as request:
            cancelled = request
            until = min(until, monotonic() + PATIENCE)
        if monotonic() >= until:
            task.cancel()
            until = math.inf
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # seen
    raise cancelled
