"""Channels of other kinds, made of plain ones: oneshot, watch, broadcast."""

from __future__ import annotations

import weakref
from collections.abc import Coroutine, Iterable
from typing import Any, Generic, Self, TypeVar

from ._core import Permit, Receiver, Sender, open_channel
from .errors import BrokenChannel, ClosedChannel, EndOfChannel, Lagged, WouldBlock

T = TypeVar("T")


class _End:
    """An end that is closed by hand or by a `with`."""

    __slots__ = ("__weakref__",)

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()


class _Receiving(_End, Generic[T]):
    """A receiver: `async for` takes what comes, to the end."""

    __slots__ = ()

    def _next(self) -> Coroutine[Any, Any, T]:
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._next()
        except EndOfChannel:
            raise StopAsyncIteration from None


def _check_thread(ends: Iterable[Sender[Any]]) -> None:
    """Raise RuntimeError in another thread than that of their event loop, before anything is changed."""
    for end in ends:
        end._check_thread()


class OneshotSender(_End, Generic[T]):
    """What sends the value of a oneshot."""

    __slots__ = ("_tx",)

    def __init__(self, tx: Sender[T]) -> None:
        self._tx = tx

    def send(self, value: T) -> None:
        """Send the value. Does not wait.

        Raises BrokenChannel if the receiver is closed, ClosedChannel if a value was sent or this is closed.
        """
        if self._tx.closed:
            raise ClosedChannel("a oneshot takes one value, and this one is closed")
        self._tx.send_nowait(value)
        self._tx.close()

    def close(self) -> None:
        """Send no value: the receiver gets EndOfChannel. Without effect once a value was sent."""
        self._tx.close()

    def __repr__(self) -> str:
        return f"<OneshotSender {'closed' if self._tx.closed else 'open'}>"


# ------------------------------------------------------------------------------------------ watch --


class _Watched(Generic[T]):
    """The value, and whom to tell when there is another."""

    __slots__ = ("closed", "signals", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.closed = False
        self.signals: list[Sender[None]] = []

    def tell(self) -> None:
        gone = False
        for signal in self.signals:
            try:
                signal.send_nowait(None)
            except WouldBlock:  # it has not looked since the last time
                continue
            except BrokenChannel:
                gone = True
        if gone:
            self.signals = [one for one in self.signals if one.statistics().receivers]


class WatchSender(_End, Generic[T]):
    """What changes the value of a watch. Any number of tasks may use it."""

    __slots__ = ("_watched",)

    def __init__(self, watched: _Watched[T]) -> None:
        self._watched = watched

    @property
    def value(self) -> T:
        """The latest value."""
        return self._watched.value

    def send(self, value: T) -> None:
        """Change the value, and let all receivers know. Does not wait. Raises ClosedChannel after `close`."""
        if self._watched.closed:
            raise ClosedChannel("this sender is closed")
        self._watched.tell()  # who waits goes on later; first, since it raises in another thread
        self._watched.value = value

    def subscribe(self) -> WatchReceiver[T]:
        """Another receiver, which has seen the value that is."""
        _check_thread(self._watched.signals)
        return WatchReceiver(self._watched)

    def close(self) -> None:
        """The value is the last: receivers that have seen it get EndOfChannel."""
        _check_thread(self._watched.signals)
        self._watched.closed = True
        signals, self._watched.signals = self._watched.signals, []
        for signal in signals:
            signal.close()

    def __del__(self) -> None:
        if self._watched.closed:
            return
        try:
            self.close()
        except RuntimeError:  # this is another thread: as they are dropped, they are closed in theirs
            self._watched.closed = True
            self._watched.signals = []

    def __repr__(self) -> str:
        return f"<WatchSender {'closed' if self._watched.closed else 'open'} value={self.value!r}>"


class WatchReceiver(_Receiving[T]):
    """What sees the value of a watch, and waits for a later one. For one task; others have a `clone`."""

    __slots__ = ("_changes", "_watched")

    def __init__(self, watched: _Watched[T]) -> None:
        self._watched = watched
        signal, self._changes = open_channel(1)
        if watched.closed:
            signal.close()
        else:
            watched.signals.append(signal)

    @property
    def value(self) -> T:
        """The latest value."""
        return self._watched.value

    @property
    def changes(self) -> Receiver[None]:
        """For `select`: receives None once there is a value that this receiver has not seen."""
        return self._changes

    async def changed(self) -> T:
        """Wait until there is a value that this receiver has not seen; the latest.

        Raises EndOfChannel once the sender is closed and its last value seen, ClosedChannel if this is
        closed. Cancelled while it waits, it has seen nothing.
        """
        await self._changes.recv()
        return self._watched.value

    def _next(self) -> Coroutine[Any, Any, T]:
        return self.changed()

    def clone(self) -> WatchReceiver[T]:
        """Another receiver, which has seen the value that is."""
        _check_thread(self._watched.signals)
        return WatchReceiver(self._watched)

    def close(self) -> None:
        """Wait no more: who does gets ClosedChannel."""
        self._changes.close()

    def __repr__(self) -> str:
        return f"<WatchReceiver {'closed' if self._changes.closed else 'open'} value={self.value!r}>"


def new_watch(value: T) -> tuple[WatchSender[T], WatchReceiver[T]]:
    watched = _Watched(value)
    return WatchSender(watched), WatchReceiver(watched)


# -------------------------------------------------------------------------------------- broadcast --


class BroadcastSender(_End, Generic[T]):
    """What sends to all receivers of a broadcast. Any number of tasks may use it."""

    __slots__ = ("_capacity", "_closed", "_lags", "_queues")

    def __init__(self, capacity: int, lags: bool) -> None:
        self._capacity = capacity
        self._lags = lags
        self._closed = False
        self._queues: dict[Sender[T], weakref.ref[BroadcastReceiver[T]]] = {}

    def subscribe(self) -> BroadcastReceiver[T]:
        """Another receiver, which gets what is sent from now on. Raises ClosedChannel after `close`."""
        self._check_open()
        _check_thread(self._queues)
        tx, rx = open_channel(self._capacity)
        receiver = BroadcastReceiver(self, rx)
        self._queues[tx] = weakref.ref(receiver)
        return receiver

    async def send(self, item: T) -> int:
        """Send an item to all receivers; how many there are.

        With "block" it waits until each has room, and then all get it at once: all receivers see the items
        of all senders in the same order. Cancelled while it waits, it has sent to nobody. Raises
        ClosedChannel after `close`.
        """
        self._check_open()
        if self._lags:
            return self._send_now(item)
        permits: list[Permit[T]] = []
        try:
            for tx in list(self._queues):
                try:
                    permits.append(await tx.reserve())
                except BrokenChannel:
                    self._queues.pop(tx, None)
            return self._use(permits, item)
        finally:
            for permit in permits:
                permit.release()

    def send_nowait(self, item: T) -> int:
        """Send an item to all receivers now. Raises WouldBlock, with "block", if one of them has no room."""
        self._check_open()
        if self._lags:
            return self._send_now(item)
        permits: list[Permit[T]] = []
        try:
            for tx in list(self._queues):
                try:
                    permits.append(tx.reserve_nowait())
                except BrokenChannel:
                    del self._queues[tx]
            return self._use(permits, item)
        finally:
            for permit in permits:
                permit.release()

    @staticmethod
    def _use(permits: list[Permit[T]], item: T) -> int:
        sent = 0
        for permit in permits:
            try:
                permit.send(item)
            except BrokenChannel:  # closed while others were waited for
                continue
            sent += 1
        return sent

    def _send_now(self, item: T) -> int:
        """To all, in place of the oldest item where there is no room."""
        for tx, reference in list(self._queues.items()):
            receiver = reference()
            if receiver is None or receiver.closed:
                del self._queues[tx]
                continue
            try:
                tx.send_nowait(item)
            except WouldBlock:
                receiver._drop_oldest()
                tx.send_nowait(item)
        return len(self._queues)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedChannel("this sender is closed")

    @property
    def receivers(self) -> int:
        """How many receivers there are."""
        return sum(tx.statistics().receivers for tx in self._queues)

    def close(self) -> None:
        """Send no more: receivers get what they have not received yet, and EndOfChannel then."""
        _check_thread(self._queues)
        self._closed = True
        queues, self._queues = self._queues, {}
        for tx in queues:
            tx.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<BroadcastSender {state} capacity={self._capacity} receivers={len(self._queues)}>"


class BroadcastReceiver(_Receiving[T]):
    """What gets each item of a broadcast from when it was made. `async for` takes them one by one."""

    __slots__ = ("_missed", "_rx", "_sender")

    def __init__(self, sender: BroadcastSender[T], rx: Receiver[T]) -> None:
        self._sender = weakref.ref(sender)
        self._rx = rx
        self._missed = 0

    def _drop_oldest(self) -> None:
        self._rx.recv_nowait()
        self._missed += 1

    def _check_missed(self) -> None:
        if self._missed:
            missed, self._missed = self._missed, 0
            raise Lagged(missed)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._rx.closed

    @property
    def items(self) -> Receiver[T]:
        """For `select`: receives the items. It does not tell of those that were dropped."""
        return self._rx

    async def recv(self) -> T:
        """The next item, waiting until there is one.

        Raises Lagged, with "lag", if items were dropped before it, and goes on with it then; EndOfChannel
        once the sender is closed and nothing is left; ClosedChannel if this is closed. Cancelled while it
        waits, it has taken nothing.
        """
        self._check_missed()
        return await self._rx.recv()

    def _next(self) -> Coroutine[Any, Any, T]:
        return self.recv()

    def recv_nowait(self) -> T:
        """The next item, now. Raises WouldBlock if there is none, and what `recv` does."""
        self._check_missed()
        return self._rx.recv_nowait()

    def clone(self) -> BroadcastReceiver[T]:
        """Another receiver, which gets what is sent from now on.

        Raises ClosedChannel once the sender is closed.
        """
        sender = self._sender()
        if sender is None:
            raise ClosedChannel("the sender is closed")
        return sender.subscribe()

    def close(self) -> None:
        """Receive no more. What it has not received is dropped, and no sender waits for it."""
        self._rx.close()

    def __repr__(self) -> str:
        return f"<BroadcastReceiver {'closed' if self.closed else 'open'}>"


def new_broadcast(capacity: int, lags: bool) -> tuple[BroadcastSender[Any], BroadcastReceiver[Any]]:
    sender: BroadcastSender[Any] = BroadcastSender(capacity, lags)
    return sender, sender.subscribe()
