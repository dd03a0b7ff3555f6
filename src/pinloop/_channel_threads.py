"""Ends of a channel for plain threads: they block there what is awaited here."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ._core import Receiver, Sender
from .errors import ClosedChannel, EndOfChannel

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds after which a thread that waits looks whether the loop is still there."""


class _ThreadEnd(Generic[T]):
    """An end whose operations are done by a task of the loop, for which the thread waits."""

    __slots__ = ("_closed", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closed = False

    def _end(self) -> Sender[T] | Receiver[T]:
        raise NotImplementedError

    def _do(self, operation: Callable[[], Coroutine[Any, Any, Any]], timeout: float | None) -> Any:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("this end is for threads: it would block the event loop that runs here")
        if self._closed:
            raise ClosedChannel("this end is closed")
        box: concurrent.futures.Future[Any] = concurrent.futures.Future()
        started: list[asyncio.Task[None]] = []

        async def perform() -> None:
            # The result is told by the task itself: what has been done counts, cancelled or not.
            try:
                box.set_result(await operation())
            except asyncio.CancelledError:
                box.cancel()
                raise
            except BaseException as error:
                box.set_exception(error)

        def start() -> None:
            started.append(self._loop.create_task(perform()))
            started[0].add_done_callback(lambda task: box.cancel())

        def cancel() -> None:
            started[0].cancel()

        self._call(start)
        try:
            return self._wait(box, timeout)
        except concurrent.futures.TimeoutError:
            # Perhaps it has been done just now: the task knows.
            self._call(cancel)
            try:
                return self._wait(box, None)
            except concurrent.futures.CancelledError:
                raise TimeoutError(f"the other side did not come within {timeout} s") from None
        except concurrent.futures.CancelledError:
            raise ClosedChannel("the event loop ended") from None
        except BaseException:  # KeyboardInterrupt
            self._call(cancel)
            raise

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            raise ClosedChannel("the event loop of this channel is closed") from None

    def _wait(self, box: concurrent.futures.Future[Any], timeout: float | None) -> Any:
        while True:
            try:
                return box.result(PATIENCE if timeout is None else timeout)
            except concurrent.futures.TimeoutError:
                if timeout is not None or box.done():
                    raise
                if self._loop.is_closed():
                    raise ClosedChannel("the event loop of this channel is closed") from None

    def close(self) -> None:
        """Close this end, as `close` of the end that it stands for. From any thread; without effect after."""
        if self._closed:
            return
        self._closed = True
        if asyncio._get_running_loop() is self._loop or self._loop.is_closed():
            self._end().close()
        else:
            self._call(self._end().close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ThreadSender(_ThreadEnd[T]):
    """A sender for other threads, made by `from_thread`."""

    __slots__ = ("_tx",)

    def __init__(self, tx: Sender[T], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._tx = tx

    def _end(self) -> Sender[T]:
        return self._tx

    def send(self, item: T, timeout: float | None = None) -> None:
        """Send an item, blocking this thread until a receiver takes it or there is room.

        Raises TimeoutError after `timeout` seconds, and then the item was not sent; ClosedChannel if this end
        is closed or the event loop ended; BrokenChannel once all receivers are closed; RuntimeError in a
        thread where an event loop runs.
        """

        async def send() -> None:
            await self._tx.send(item)

        self._do(send, timeout)


class ThreadReceiver(_ThreadEnd[T]):
    """A receiver for other threads, made by `to_thread`. `for` takes the items one by one."""

    __slots__ = ("_rx",)

    def __init__(self, rx: Receiver[T], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._rx = rx

    def _end(self) -> Receiver[T]:
        return self._rx

    def recv(self, timeout: float | None = None) -> T:
        """The next item, blocking this thread until there is one.

        Raises TimeoutError after `timeout` seconds, and then no item was taken; EndOfChannel once all senders
        are closed and nothing is left; ClosedChannel if this end is closed or the event loop ended;
        RuntimeError in a thread where an event loop runs.
        """

        async def recv() -> T:
            return await self._rx.recv()

        item: T = self._do(recv, timeout)
        return item

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self.recv()
        except EndOfChannel:
            raise StopIteration from None


def from_thread(tx: Sender[T]) -> ThreadSender[T]:
    """A sender for plain threads: `send` blocks there until what it sends is taken here.

    It takes the place of `tx`, which is not to be used any more. Called where the event loop runs.
    """
    return ThreadSender(tx, asyncio.get_running_loop())


def to_thread(rx: Receiver[T]) -> ThreadReceiver[T]:
    """A receiver for plain threads: `recv` blocks there until something is sent here.

    It takes the place of `rx`, which is not to be used any more. Called where the event loop runs.
    """
    return ThreadReceiver(rx, asyncio.get_running_loop())
