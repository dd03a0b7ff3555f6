"""The Python half of the loop: what runs once per loop, per connection or per program.

What runs once per callback, task or packet is native, in `pinloop._core`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import os
import sys
import threading
import traceback
import warnings
import weakref
from asyncio.log import logger
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from . import _core
from ._endpoints import Endpoints
from ._registry import add_loop
from ._signals import Signals, check_not_coroutine
from .metrics import Metrics, of_counts

T = TypeVar("T")
ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_LONGEST_SPIN = 1_000_000  # us
_ORIGIN_DEPTH = 10  # frames kept of where a coroutine was made, in debug mode


def _debug_by_default() -> bool:
    return sys.flags.dev_mode or (
        not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
    )


def _check_spin(spin_us: object) -> None:
    if not isinstance(spin_us, int | float):
        raise TypeError(f"spin_us must be a number of microseconds, not {type(spin_us).__name__!r}")
    if not 0 <= spin_us <= _LONGEST_SPIN:
        raise ValueError(f"spin_us must be from 0 to {_LONGEST_SPIN} microseconds, not {spin_us!r}")


class Loop(Endpoints):
    """An asyncio event loop.  Made by `pinloop.new_event_loop()`.

    A loop belongs to the thread that runs it; only `call_soon_threadsafe` and what is
    built on it may be called from another.  A forked child cannot use its parent's loop:
    every call says so, except `close`, which gives up the child's copies of the fds.
    """

    def __init__(
        self, poller: _core.Poller | None = None, *, tasks: str = "pinloop", spin_us: float = 0
    ) -> None:
        if tasks not in ("pinloop", "asyncio"):
            raise ValueError(f'tasks must be "pinloop" or "asyncio", not {tasks!r}')
        _check_spin(spin_us)
        super().__init__(poller)
        self._set_spin(spin_us)
        self._has_stock_tasks = tasks == "asyncio"
        self._set_stock_tasks(self._has_stock_tasks)
        self._number: int  # of the loops of this process
        add_loop(self)
        self._exception_handler: ExceptionHandler | None = None
        self._default_executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._executor_is_shut = False
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_are_shut = False
        self._signals = Signals(self)
        self._set_debug(_debug_by_default())
        if os.environ.get("PINLOOP_WATCH"):
            from .watching import publish_if_asked

            publish_if_asked()

    def __del__(self) -> None:
        if hasattr(self, "_signals") and not self.is_closed() and not self.is_running():
            warnings.warn(f"unclosed event loop {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    @property
    def _closed(self) -> bool:
        """The same as `is_closed`.  asyncio's loops have it, and programs look at it."""
        return self.is_closed()

    # ---------------------------------------------------------------- running --

    def run_forever(self) -> None:
        """Run until `stop`.

        Raises RuntimeError if the loop is closed, runs already, or if another runs in this
        thread.  KeyboardInterrupt and SystemExit out of a callback come out of here; the
        loop can be run again.
        """
        self._check_runnable()
        with self._as_running_loop():
            self._run()

    def _check_runnable(self) -> None:
        self._check_closed()
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    @contextmanager
    def _as_running_loop(self) -> Iterator[None]:
        hooks = sys.get_asyncgen_hooks()
        origin_depth = sys.get_coroutine_origin_tracking_depth()
        if self.get_debug():
            sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_begun, finalizer=self._asyncgen_dropped)
        self._signals.enter()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)
            self._signals.leave()
            sys.set_asyncgen_hooks(*hooks)
            sys.set_coroutine_origin_tracking_depth(origin_depth)

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until `future` (a coroutine becomes a task) is done; its result, or raise its exception.

        Raises RuntimeError if the loop is stopped before.
        """
        self._check_runnable()
        made_here = not asyncio.isfuture(future)
        task: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        if made_here:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.add_done_callback(_stop_loop_of)
        try:
            self.run_forever()
        except BaseException:
            if made_here and task.done() and not task.cancelled():
                task.exception()  # it is the one on its way out: not also "never retrieved"
            raise
        finally:
            task.remove_done_callback(_stop_loop_of)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return task.result()

    def close(self) -> None:
        """Drop what is scheduled and give all descriptors back.  May be called twice.

        Raises RuntimeError while the loop runs.
        """
        if self.is_closed():
            return
        if self.is_running() and os.getpid() == self._owner_pid:
            raise RuntimeError("Cannot close a running event loop")
        self._signals.close()
        self._close()
        self._executor_is_shut = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    # ---------------------------------------------------------------- metrics --

    def metrics(self) -> Metrics:
        """What the loop has done so far, and what it has before it: see `pinloop.metrics.Metrics`.

        May be called from any thread, on a closed loop too; the loop is neither woken nor stopped. While it
        runs in another thread, the numbers are those of that moment, which may be in the middle of a turn.
        """
        metrics = of_counts(self._counted())
        if self._has_stock_tasks:
            metrics = dataclasses.replace(metrics, tasks=len(asyncio.all_tasks(self)))
        return metrics

    # ------------------------------------------------------------------ debug --

    def set_debug(self, enabled: bool) -> None:
        """Turn debug mode on or off: see asyncio's "Debug Mode"."""
        self._set_debug(enabled)
        if self.is_running():
            depth = _ORIGIN_DEPTH if enabled else 0
            self.call_soon_threadsafe(sys.set_coroutine_origin_tracking_depth, depth)

    # ------------------------------------------------------------- exceptions --

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Call `handler(loop, context)` for errors that nobody awaits; None for the default handler."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        """The handler set, or None."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log `context["message"]`, its exception's traceback, and every other entry by name."""
        exc = context.get("exception")
        exc_info = False if exc is None else (type(exc), exc, exc.__traceback__)
        handle = self._current_handle
        if "source_traceback" not in context and handle is not None and handle._source_traceback:
            context["handle_traceback"] = handle._source_traceback
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context):
            value = context[key]
            if key in ("message", "exception"):
                continue
            if key in ("source_traceback", "handle_traceback"):
                title = "Object" if key == "source_traceback" else "Handle"
                stack = "".join(traceback.format_list(value)).rstrip()
                lines.append(f"{title} created at (most recent call last):\n{stack}")
            else:
                lines.append(f"{key}: {value!r}")
        logger.error("\n".join(lines), exc_info=exc_info)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an error that nobody awaits.  A handler that fails is itself reported."""
        handler = self._exception_handler
        if handler is None:
            self._report_by_default(context)
            return
        # As asyncio since 3.12: in the context of the task or handle that failed.
        culprit = context.get("task") or context.get("future") or context.get("handle")
        get_context = getattr(culprit, "get_context", None)
        run_in = get_context() if get_context is not None else None
        try:
            if run_in is not None:
                run_in.run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self._report_by_default(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": failure,
                    "context": context,
                },
                " while handling an unexpected error in custom exception handler",
            )

    def _report_by_default(self, context: dict[str, Any], when: str = "") -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # Somebody's repr or logging handler: reporting must not take the loop down.
            logger.error("Exception in default exception handler" + when, exc_info=True)

    # ------------------------------------------------- asynchronous generators --

    def _asyncgen_begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_are_shut:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(generator)

    def _asyncgen_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(generator)
        if not self.is_closed():
            # The collector may run in any thread.
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close every asynchronous generator that was begun on this loop; errors are reported."""
        self._asyncgens_are_shut = True
        generators = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(*(g.aclose() for g in generators), return_exceptions=True)
        for generator, result in zip(generators, results, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )

    # -------------------------------------------------------------- executors --

    def run_in_executor(  # type: ignore[override]
        self, executor: concurrent.futures.Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func(*args)` in `executor` (None: the default thread pool); a future of its result."""
        self._check_closed()
        if self.get_debug():
            check_not_coroutine(func, "run_in_executor")
        if executor is None:
            if self._executor_is_shut:
                raise RuntimeError("Executor shutdown has been called")
            if self._default_executor is None:
                self._default_executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
            executor = self._default_executor
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def set_default_executor(self, executor: concurrent.futures.Executor) -> None:
        """Use `executor` for `run_in_executor(None, ...)`.  Raises TypeError unless it is a thread pool."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait, for up to `timeout` seconds, until the default executor's threads are done."""
        self._executor_is_shut = True
        executor = self._default_executor
        if executor is None:
            return
        done = self.create_future()
        thread = threading.Thread(target=self._shut_executor, args=(executor, done))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _shut_executor(self, executor: concurrent.futures.Executor, done: asyncio.Future[None]) -> None:
        failure: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as exc:
            failure = exc
        try:
            self.call_soon_threadsafe(_settle, done, failure)
        except RuntimeError:
            pass  # closed meanwhile: nobody waits any more

    # ---------------------------------------------------------------- signals --

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call `callback(*args)` as a callback of the loop whenever signal `sig` arrives.

        Raises ValueError or TypeError for what is no signal, RuntimeError for one that
        cannot be caught or outside the main thread.
        """
        check_not_coroutine(callback, "add_signal_handler")
        self._check_closed()
        self._signals.add(sig, callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Give signal `sig` its default handling back; False if no handler was set."""
        return self._signals.remove(sig)


def _stop_loop_of(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # the loop is on its way out with it
    future.get_loop().stop()


def _settle(future: asyncio.Future[None], failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
