"""Running a test under many orders, and saying under which it fails."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from ._loops import (
    IO_PATIENCE,
    JOB_PATIENCE,
    SECONDS,
    STEPS,
    USUAL,
    AsyncioVirtualLoop,
    Options,
    VirtualLoop,
    check_seed,
)
from ._reports import Leftovers, count, describe_generators, describe_tasks

P = ParamSpec("P")
T = TypeVar("T")

ENVIRONMENT = "PINLOOP_SEED"


class _Reports:
    """What the loops' exception handlers were told, and by the run of which seed."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, Any]]] = []

    def handler(self, seed: int) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
        return lambda loop, context: self.told.append((seed, context))

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        told, self.told = self.told, []
        return told

    def failure(self) -> BaseException | None:
        """The first of them as an exception to raise, which names its seed; None if there is none."""
        told = self.take()
        if not told:
            return None
        seed, context = told[0]
        message = context.get("message", "reported to the loop's exception handler")
        failure: BaseException | None = context.get("exception")
        if failure is None:
            failure = Leftovers(f"{message}: {context.get('task') or context.get('future') or context!r}")
        else:
            failure.add_note(f"The loop's exception handler was told: {message}")
        if len(told) > 1:
            failure.add_note(f"The first of {len(told)} reports.")
        _note_seed(failure, seed)
        return failure


def _note_seed(failure: BaseException, seed: int) -> None:
    order = "the usual order" if seed == USUAL else f"seed {seed}"
    failure.add_note(f"pinloop.testing: under {order}. Again with {ENVIRONMENT}={seed}, or seed={seed}.")


# ----------------------------------------------------------------------------- one run --


class _Trial:
    """One run of a test, on a loop of its own."""

    def __init__(self, seed: int, strict: bool, reports: _Reports, options: Options) -> None:
        self.seed = seed
        self.strict = strict
        self.reports = reports
        self.loop: VirtualLoop | AsyncioVirtualLoop = options.make_loop(seed)
        self.loop.set_exception_handler(reports.handler(seed))

    def run(self, main: Awaitable[T]) -> T:
        """Run `main` to its end; its result.  Raises what it raises, and Leftovers."""
        try:
            result = self.loop.run_until_complete(main)
            self.check()
        except BaseException as failure:
            self.wind_down(failure)
            for _, context in self.reports.take():
                failure.add_note(f"The loop's exception handler was told: {_brief(context)}")
            _note_seed(failure, self.seed)
            raise
        self.wind_down(None)
        return result

    def check(self) -> None:
        """Raise Leftovers if something of the test goes on after it."""
        if not self.strict:
            return
        tasks = self.tasks()
        if tasks:
            what = count(len(tasks), "task")
            raise Leftovers(f"the test ended before {what}, which nobody awaited:\n{describe_tasks(tasks)}")
        generators = self.generators()
        if generators:
            what = count(len(generators), "asynchronous generator")
            where = describe_generators(generators)
            raise Leftovers(f"the test ended without closing {what}, as by contextlib.aclosing:\n{where}")

    def tasks(self) -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks(self.loop)

    def generators(self) -> list[AsyncGenerator[Any, Any]]:
        return [each for each in self.loop._asyncgens if getattr(each, "ag_frame", None) is not None]

    def wind_down(self, failure: BaseException | None) -> None:
        """Cancel what is left, close generators and the loop.  A note of `failure` tells of errors."""
        loop = self.loop
        try:
            loop._renew_limits()
            tasks = self.tasks()
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(_ended(tasks))
            if loop._asyncgens:
                loop.run_until_complete(loop.shutdown_asyncgens())
            if loop._default_executor is not None:
                loop.run_until_complete(loop.shutdown_default_executor())
        except Exception as further:
            if failure is None:
                _note_seed(further, self.seed)
                raise
            failure.add_note(f"Then, while the tasks were cancelled: {type(further).__name__}: {further}")
        finally:
            loop.close()


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for cancelled `tasks`; a failure of one of them is reported, as asyncio.run does."""
    loop = asyncio.get_running_loop()
    for task in tasks:
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()) is not None:
            message = f"{task.get_name()} failed when it was cancelled at the end"
            loop.call_exception_handler({"message": message, "exception": failure, "task": task})


def _brief(context: dict[str, Any]) -> str:
    exception = context.get("exception")
    message = str(context.get("message"))
    return message if exception is None else f"{message}: {type(exception).__name__}: {exception}"


def _check_outside() -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("pinloop.testing runs a loop of its own, not from within a running event loop")


def run(
    main: Coroutine[Any, Any, T],
    *,
    seed: int = USUAL,
    strict: bool = True,
    loop: str = "pinloop",
    timeout: float = SECONDS,
    max_steps: int = STEPS,
    io_patience: float = IO_PATIENCE,
    job_patience: float = JOB_PATIENCE,
) -> T:
    """Run a coroutine to its end in virtual time and return its result: once, under the order of one `seed`.

    With `strict` it raises Leftovers if tasks are not done when `main` is, or asynchronous generators are
    open, and what was reported to the loop's exception handler, an exception that nobody retrieved for one.
    Without, these are cancelled and closed, as by `asyncio.run`. The other keywords are `new_event_loop`'s,
    and so are Deadlock and Livelock. Raises RuntimeError where a loop is running already.
    """
    _check_outside()
    check_seed(seed)
    options = Options(loop, timeout, max_steps, io_patience, job_patience)
    reports = _Reports()
    result = _Trial(seed, strict, reports, options).run(main)
    _finish(reports, strict)
    return result


def _finish(reports: _Reports, strict: bool) -> None:
    if strict:
        # A failed task that is part of a cycle tells only when the collector finds it.
        gc.collect()
        if failure := reports.failure():
            raise failure


# ------------------------------------------------------------------------------- many --


@overload
def explore(
    fn: Callable[[], Awaitable[object]],
    /,
    *,
    seeds: int | Iterable[int] | None = None,
    seed: int | None = None,
    strict: bool = True,
    loop: str = "pinloop",
    timeout: float = SECONDS,
    max_steps: int = STEPS,
    io_patience: float = IO_PATIENCE,
    job_patience: float = JOB_PATIENCE,
) -> None: ...
@overload
def explore(
    *,
    seeds: int | Iterable[int] | None = None,
    seed: int | None = None,
    strict: bool = True,
    loop: str = "pinloop",
    timeout: float = SECONDS,
    max_steps: int = STEPS,
    io_patience: float = IO_PATIENCE,
    job_patience: float = JOB_PATIENCE,
) -> Callable[[Callable[P, Awaitable[object]]], Callable[P, None]]: ...
def explore(
    fn: Callable[..., Awaitable[object]] | None = None,
    /,
    *,
    seeds: int | Iterable[int] | None = None,
    seed: int | None = None,
    strict: bool = True,
    loop: str = "pinloop",
    timeout: float = SECONDS,
    max_steps: int = STEPS,
    io_patience: float = IO_PATIENCE,
    job_patience: float = JOB_PATIENCE,
) -> Any:
    """Run the async function `fn` under many orders of its tasks, each on a fresh loop in virtual time.

    `seeds` says how many (1000: the seeds 0 to 999, of which 0 is the usual order), or which; `seed` is one
    alone. The first that fails ends it: its exception comes out, with a note that names the seed. The
    environment variable PINLOOP_SEED, if it is set, stands for both: the test runs under that seed only.

    Without `fn` it gives a decorator, for pytest and its like: what it makes is a plain function with the
    parameters of the one decorated. With hypothesis, `@given` stands above it.

    The other keywords are `run`'s, and a failure is also what `run` raises beside the test's own exceptions.
    Raises TypeError without `seeds` or `seed`, with both, and for what is no function that gives an
    awaitable; RuntimeError where a loop is running already.
    """
    chosen = _seeds(seeds, seed)
    options = Options(loop, timeout, max_steps, io_patience, job_patience)
    if fn is not None:
        _explore(fn, chosen, strict, options)
        return None

    def decorate(function: Callable[..., Awaitable[object]]) -> Callable[..., None]:
        @functools.wraps(function)
        def explored(*args: Any, **kwargs: Any) -> None:
            _explore(functools.partial(function, *args, **kwargs), chosen, strict, options)

        return explored

    return decorate


def _seeds(seeds: int | Iterable[int] | None, seed: int | None) -> range | list[int]:
    if (seeds is None) == (seed is None):
        raise TypeError(
            "explore() takes either seeds, as in explore(fn, seeds=100) and @explore(seeds=100), or seed"
        )
    if isinstance(seeds, bool) or not (seeds is None or isinstance(seeds, int | Iterable)):
        raise TypeError(f"seeds must be an int or an iterable of ints, not {type(seeds).__name__!r}")
    if isinstance(seeds, int):
        if seeds < 1:
            raise ValueError(f"seeds must be 1 or more, not {seeds}")
        return range(seeds)
    chosen = [seed] if seeds is None else list(seeds)
    for each in chosen:
        check_seed(each)
    if not chosen:
        raise ValueError("seeds must not be empty")
    return chosen  # type: ignore[return-value]


def _explore(
    fn: Callable[[], Awaitable[object]], seeds: range | list[int], strict: bool, options: Options
) -> None:
    _check_outside()
    if (text := os.environ.get(ENVIRONMENT)) is not None:
        try:
            seeds = [int(text)]
            check_seed(seeds[0])
        except ValueError:
            raise ValueError(
                f"{ENVIRONMENT} must be a seed, an int from 0 to 2 ** 64 - 1, not {text!r}"
            ) from None
    reports = _Reports()
    for seed in seeds:
        awaitable = fn()
        if not isinstance(awaitable, Awaitable):
            raise TypeError(f"{fn!r} should give an awaitable, as an async function does, not {awaitable!r}")
        _Trial(seed, strict, reports, options).run(awaitable)
        if not strict:
            reports.take()
        elif reports.told and (failure := reports.failure()):
            raise failure
    _finish(reports, strict)
