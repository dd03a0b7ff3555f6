"""What runs in a worker, whatever it is made of: it serves the calls that come over the link."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .callee import Callee, as_coroutine
from .channel import Hub
from .context import this_worker
from .errors import Unpicklable, can_be_raised, text_of, traceback_of
from .link import Link
from .wire import ENDED, FAILED, MEASURE, MEASURED, PING, PONG, READY, START, STOP, dumps, loads, protocol


@dataclass(frozen=True, slots=True)
class CurrentWorker:
    """The worker in which the code runs that asks."""

    index: int
    """Its index in the pool."""
    cpus: tuple[int, ...] | None
    """The CPUs that it was pinned to; None if it was not."""
    backend: str
    """What it is: "process", "thread" or "dask"."""
    state: Any = None
    """What the pool's `setup` returned here."""


def current_worker() -> CurrentWorker | None:
    """The worker of a pool in which this code runs; None if it runs in none."""
    worker: CurrentWorker | None = this_worker.get()
    return worker


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a pool is told to do in each worker besides calls."""

    setup: Callable[..., Any] | None = None
    teardown: Callable[..., Any] | None = None


async def work(link: Link, worker: CurrentWorker, failure: BaseException | None = None) -> None:
    """Serve calls until told to stop, or until the link is lost; `failure` is why it cannot be done."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[Hooks] = loop.create_future()
    ended: asyncio.Future[None] = loop.create_future()

    def on_start(_: int, payload: Any) -> None:
        try:
            started.set_result(link.load(payload))
        except Exception as error:
            problem = Unpicklable(f"setup or teardown cannot be unpickled in a worker: {error}")
            problem.__cause__ = error
            started.set_exception(problem)

    def on_stop(*_: Any) -> None:
        if not ended.done():
            ended.set_result(None)

    def on_lost() -> None:
        on_stop()
        started.cancel()

    def on_ping(number: int, _: Any) -> None:
        link.post(PONG, number)

    def on_measure(number: int, _: Any) -> None:
        metrics = getattr(loop, "metrics", None)
        link.post(MEASURED, number, None if metrics is None else metrics())

    link.on_lost = on_lost
    link.handlers |= {START: on_start, STOP: on_stop, PING: on_ping, MEASURE: on_measure}
    link.begin()
    try:
        hooks = await started
        if failure is not None:
            raise failure
        context = contextvars.copy_context()
        state = await _run_hook(hooks.setup, context)
    except asyncio.CancelledError:
        return
    except Exception as error:
        link.post(FAILED, 0, portable(error))
        await link.sent()
        return
    context.run(this_worker.set, CurrentWorker(worker.index, worker.cpus, worker.backend, state))
    hub = Hub(loop, link)
    callee = Callee(loop, link, worker.index, context, hub)
    link.post(READY, 0)
    await ended
    await callee.cancel_all()
    hub.close("the pool was closed")
    problem: Any = None
    try:
        await _run_hook(hooks.teardown, context)
    except Exception as error:
        problem = portable(error)
    link.post(ENDED, 0, problem)
    await link.sent()


async def _run_hook(hook: Callable[..., Any] | None, context: contextvars.Context) -> Any:
    """Run one in the context whose variables all calls see."""
    if hook is None:
        return None
    result = context.run(hook)
    coro = as_coroutine(result, hook)
    if coro is None:
        return result
    return await asyncio.get_running_loop().create_task(coro, context=context)


def portable(error: BaseException, dump: Callable[..., bytes] = dumps) -> tuple[BaseException, str]:
    """An exception that can be pickled, and its traceback as text."""
    text = traceback_of(error)
    try:
        copied = loads(dump(error, protocol))
        if not can_be_raised(copied):
            raise TypeError(f"it becomes an object of {type(copied).__qualname__}")
    except Exception as cause:
        error = Unpicklable(
            f"{type(error).__qualname__}: {text_of(error)}"
            f" (it cannot be pickled and unpickled: {text_of(cause)})"
        )
    return error, text
