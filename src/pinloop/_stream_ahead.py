"""The steps of a stream that run ahead of who pulls, as far as they were asked to.

Each has a task of its own, the pump, from the first pull on. It alone pulls from the step before, and closes
it: a source that keeps a timeout or a group open while it yields is entered and left by one task. The pump
hosts the step's scope, and what else runs for the step is a child in it. So the step ends as a scope does,
and whoever closes it has to wait for nothing but its pump.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import deque
from collections.abc import Coroutine
from typing import Any

from ._scope_parts import AnyTask, link, unlink
from ._scope_tree import current
from ._stream_steps import AnyFunction, Step, close_all
from .scopes import Scope

pumps: set[AnyTask] = set()
"""The pumps that run: a loop itself keeps no hold of a task that waits."""

WAITS: Any = object()
"""In the place of a value that is not there yet."""


class Crew(Scope):
    """The scope of a step: what its children return and raise goes to the step."""

    __slots__ = ("_step",)

    def __init__(self, step: Ahead) -> None:
        super().__init__()
        self._step = step

    def call(self, coro: Coroutine[Any, Any, Any], place: Any) -> None:
        """Start a child whose result belongs to `place`: what `spawn` does, with less to look after."""
        if current.get() is not self:  # the source has another scope open
            self._children[self._begin(coro, None)] = place
            return
        self._starting = coro
        task = self._create_task(coro)
        self._starting = None
        self._had_children = True
        self._children[task] = place
        if link is not None:
            link(task, self._host)
        task.add_done_callback(self._on_done)
        if self._aborted:
            task.cancel(self._reason)

    def _done(self, task: AnyTask) -> None:
        place: Any = self._children.pop(task)
        if unlink is not None:
            unlink(task, self._host)
        if not self._children and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        try:
            error = task.exception()
        except CancelledError:
            if not self._aborted:
                self._failed(CancelledError("a task of the stream was cancelled"))
            return
        if error is not None:
            self._failed(error)
        elif place is not None:
            self._step._arrived(place, task.result())

    def _failed(self, error: BaseException) -> None:
        self._step._errors.append(error)
        if self._step._leaving:
            self._spread("something else in the stream failed")
        else:
            self._cancel("something else in the stream failed")

    def _outcome(
        self, exc: BaseException | None, cancellation: BaseException | None, outside: bool
    ) -> BaseException | None:
        if outside:
            return cancellation
        if exc is not None and not (isinstance(exc, CancelledError) and self._cancelled):
            self._step._errors.append(exc)
        return None


class Ahead:
    """A step with a pump: an async iterator over the values that are in its queue.

    `_limit` is how many items may be ahead, those that are being worked on included.
    """

    __slots__ = (
        "_ahead",
        "_closing",
        "_crew",
        "_errors",
        "_leaving",  # it pulls no longer: it is not to be disturbed as it closes what it pulled from
        "_limit",
        "_loop",
        "_over",
        "_pump",
        "_queue",
        "_room",
        "_ups",
        "_waiter",
    )

    def __init__(self, ups: tuple[Step, ...], limit: int) -> None:
        self._ups = ups
        self._limit = limit
        self._ahead = 0
        self._queue: deque[Any] = deque()
        self._errors: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: AnyTask | None = None
        self._crew: Crew | None = None
        self._waiter: asyncio.Future[None] | None = None  # of who pulls
        self._room: asyncio.Future[None] | None = None  # of the pump
        self._closing = self._leaving = self._over = False

    def __aiter__(self) -> Ahead:
        return self

    # ---------------------------------------------------- the side of the puller --

    async def __anext__(self) -> Any:
        queue = self._queue
        while not queue:
            self._look()
            if queue:
                break
            if self._over:
                raise self._end()
            if self._loop is None:
                self._start()
                continue  # with eager tasks there may be something by now
            if self._waiter is not None:
                raise RuntimeError("another task is waiting for the next item of this stream already")
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            except CancelledError:
                self._waiter = None
                await self.aclose()
                raise
            finally:
                self._waiter = None
        self._taken()
        return queue.popleft()

    def _start(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        pump = self._pump = loop.create_task(self._run())
        pumps.add(pump)
        pump.add_done_callback(pumps.discard)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _taken(self) -> None:
        """An item leaves the queue: there is room for another."""
        self._ahead -= 1
        room = self._room
        if room is not None and not room.done():
            room.set_result(None)

    def _look(self) -> None:
        """The queue is empty; a last chance to fill it."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come, and nothing is left to be closed."""
        return self._over and not self._queue and not self._errors

    def _end(self) -> BaseException:
        """What ends the iteration."""
        errors, self._errors = self._errors, []
        return one_of(errors) if errors else StopAsyncIteration()

    async def aclose(self) -> None:
        """Cancel what runs ahead, wait for it, and raise what went wrong with that.

        An error that was under way to the consumer, who does not want to know it any longer, goes to the
        loop's exception handler.
        """
        pump = self._pump
        if pump is None:
            self._over = True
            return
        unseen, self._errors = self._errors, []
        self._report(unseen)
        crew = self._crew
        task = asyncio.current_task()
        if crew is not None and task is not None and (task is pump or task in crew._children):
            raise RuntimeError("a stream cannot be closed by what runs in it, which would wait for itself")
        stops = self._closing or (crew is not None and crew.cancel_called)
        self._closing = True
        if crew is not None:
            crew._spread(None)  # also where the source takes the pump's cancellation for itself
        try:
            if not pump.done():
                await join(pump, stops)
        finally:
            self._queue.clear()
        errors, self._errors = self._errors, []
        if errors:
            raise one_of(errors)

    def _report(self, errors: list[BaseException]) -> None:
        assert self._loop is not None
        for error in errors:
            self._loop.call_exception_handler(
                {
                    "message": "an error of a stream was never raised: the stream was closed",
                    "exception": error,
                }
            )

    # ------------------------------------------------------ the side of the pump --

    async def _run(self) -> None:
        try:
            crew = self._crew = Crew(self)
            async with crew:
                await self._pull(crew)
        except CancelledError as error:
            if not self._closing:
                self._errors.append(error)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        try:
            await self._close_ups()  # it may not have come to that
        finally:
            self._crew = None
            self._over = True
            self._wake()

    async def _close_ups(self) -> None:
        try:
            await close_all(self._ups)
        except Exception as error:
            self._errors.append(error)

    async def _pull(self, crew: Crew) -> None:
        """Pull until the step before has ended. What that raises is raised after all that came before it."""
        limit, loop = self._limit, self._loop
        assert loop is not None
        try:
            async for item in self._ups[0].it:
                self._ahead += 1
                if crew._aborted or not self._begin(crew, item):
                    return
                while self._ahead >= limit:
                    self._room = loop.create_future()
                    try:
                        await self._room
                    finally:
                        self._room = None
        except Exception as error:
            self._errors.append(error)
        except CancelledError:
            crew._spread(None)  # it may be from outside: the calls need not wait until the source is closed
            raise
        finally:
            self._leaving = True
            # In the scope: the source may have one open, which is in this one.
            await self._close_ups()

    def _begin(self, crew: Crew, item: Any) -> bool:
        """An item has come; whether to go on."""
        self._queue.append(item)
        self._wake()
        return True

    def _arrived(self, place: Any, value: Any) -> None:
        """A child has a result."""
        self._queue.append(value)
        self._wake()


class Calls(Ahead):
    """`map` with concurrency: the values in the order in which they are there."""

    __slots__ = ("_function",)

    def __init__(self, ups: tuple[Step, ...], limit: int, function: AnyFunction) -> None:
        super().__init__(ups, limit)
        self._function = function

    def _begin(self, crew: Crew, item: Any) -> bool:
        try:
            value = self._function(item)
        except BaseException as error:
            self._leaving = True
            crew._failed(error)
            return False
        place = self._place()
        if not hasattr(value, "__await__"):
            self._arrived(place, value)
        elif asyncio.iscoroutine(value):
            crew.call(value, place)
        else:
            crew.call(wait_for(value), place)
        return True

    def _place(self) -> Any:
        return self


class OrderedCalls(Calls):
    """`map` with concurrency: the values in the order of the items they belong to."""

    __slots__ = ("_places",)

    def __init__(self, ups: tuple[Step, ...], limit: int, function: AnyFunction) -> None:
        super().__init__(ups, limit, function)
        self._places: deque[list[Any]] = deque()

    def _place(self) -> Any:
        place = [WAITS]
        self._places.append(place)
        return place

    def _arrived(self, place: Any, value: Any) -> None:
        place[0] = value
        places = self._places
        if places[0] is not place:
            return
        queue = self._queue
        while places and places[0][0] is not WAITS:
            queue.append(places.popleft()[0])
        self._wake()


class Chunks(Ahead):
    """`chunks` with a time: a chunk is due when it is full, or that long after its first item has come."""

    __slots__ = ("_chunk", "_due", "_timer", "_within")

    def __init__(self, ups: tuple[Step, ...], limit: int, within: float) -> None:
        super().__init__(ups, limit)
        self._within = within
        self._chunk: list[Any] = []
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def _begin(self, crew: Crew, item: Any) -> bool:
        assert self._loop is not None
        self._chunk.append(item)
        if len(self._chunk) == self._limit:
            self._ripe()
        elif len(self._chunk) == 1:
            self._timer = self._loop.call_later(self._within, self._ripe)
        return True

    def _ripe(self) -> None:
        """It may be taken, but not sooner than somebody comes for it: until then it grows."""
        self._due = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _look(self) -> None:
        if self._chunk and (self._due or self._over) and not self._closing:
            self._queue.append(self._chunk)
            self._chunk, self._due = [], False

    def _taken(self) -> None:
        self._ahead -= len(self._queue[0]) - 1
        super()._taken()

    @property
    def finished(self) -> bool:
        return super().finished and (self._closing or not self._chunk)

    async def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await super()._leave()


class Merge(Ahead):
    """`merge`: each source has a task, and one item in the queue at most."""

    __slots__ = ("_gates",)

    def __init__(self, ups: tuple[Step, ...]) -> None:
        super().__init__(ups, len(ups))
        self._gates: deque[asyncio.Future[None]] = deque()

    async def _pull(self, crew: Crew) -> None:
        for up in self._ups:
            crew.call(self._pull_one(crew, up), None)

    async def _pull_one(self, crew: Crew, up: Step) -> None:
        assert self._loop is not None
        try:
            async for item in up.it:
                if crew._aborted:
                    return
                gate = self._loop.create_future()
                self._gates.append(gate)
                self._queue.append(item)
                self._wake()
                await gate
        finally:
            await up.close()

    def _taken(self) -> None:
        gate = self._gates.popleft()
        if not gate.done():
            gate.set_result(None)


async def wait_for(value: Any) -> Any:
    """A coroutine for what can be awaited and is none."""
    return await value


async def join(task: AnyTask, stops: bool) -> None:
    """Cancel a task, unless it stops, and wait for it; a cancellation meanwhile is passed on, then raised."""
    cancellation: CancelledError | None = None
    if not stops:
        task.cancel()
    while not task.done():
        try:
            await asyncio.wait([task])
        except CancelledError as error:
            cancellation = error
            task.cancel()
    if cancellation is not None:
        raise cancellation


def one_of(errors: list[BaseException]) -> BaseException:
    """What is raised for some errors: a single one as itself."""
    if len(errors) > 1:
        return BaseExceptionGroup("errors in a stream", errors)
    if isinstance(errors[0], StopAsyncIteration):
        error = RuntimeError("a function of a stream raised StopAsyncIteration")
        error.__cause__ = errors[0]
        return error
    return errors[0]
