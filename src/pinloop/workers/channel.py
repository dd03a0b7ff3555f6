"""Channels between the pool and a worker: a local channel on either side, and credits between them.

The side with the sender has an `Outlet`: it receives there, as far as it has credits, and posts what it got.
The side with the receiver has an `Inlet`: a credit is a place that it has reserved in the channel there, so
what comes always has one. Thus both ends are ends of local channels, with all that these can do.
"""

from __future__ import annotations

import asyncio
import collections
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

from .._core import Permit, Receiver, Sender, open_channel
from ..errors import BrokenChannel, ChannelError, EndOfChannel, WouldBlock
from .errors import Unpicklable
from .link import Link
from .wire import CREDIT, ITEMS, RECEIVERS_GONE, SENDERS_GONE, lightened

BATCH = 256  # items in one message,
BATCH_BYTES = 128 * 1024  # as long as these are not more than so many bytes, as far as one can know
UNBOUNDED = -1

End = Sender[Any] | Receiver[Any]


def check_item(dump: Callable[..., bytes], item: Any) -> None:
    """Raise Unpicklable if an item cannot be pickled: in its `send`, not when its turn has come."""
    try:
        dump(item, buffer_callback=_leave_out)
    except Exception as error:
        raise Unpicklable(f"an item of a channel between a pool and its worker: {error}") from error


def _leave_out(_: object) -> None:
    pass


class Offer(NamedTuple):
    """An end that may be sent away: the capacity of the channel there, and the end that then stays."""

    capacity: int
    other: weakref.ref[End]


class Shipped:
    """What goes to a worker in place of an end."""

    __slots__ = ("capacity", "number", "sends")

    def __init__(self, sends: bool, number: int, capacity: int) -> None:
        self.sends = sends
        self.number = number
        self.capacity = capacity

    def __reduce__(self) -> Any:
        return Shipped, (self.sends, self.number, self.capacity)


class Hub:
    """The channels of one link, at one of its ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: Link) -> None:
        self.loop = loop
        self.link = link
        self.ends: weakref.WeakKeyDictionary[End, Offer] = weakref.WeakKeyDictionary()
        """The ends that may be sent to the worker: both of a channel, until one of them is."""
        self.offers = False  # whether there has been such an end: asking the dictionary takes longer
        self.lost: str | None = None
        self._check = partial(check_item, link.dumps) if link.pickles else None
        self._outlets: dict[int, Outlet] = {}
        self._inlets: dict[int, Inlet] = {}
        self._number = 0
        link.handlers |= {
            ITEMS: self._on_items,
            CREDIT: self._on_credit,
            SENDERS_GONE: self._on_senders_gone,
            RECEIVERS_GONE: self._on_receivers_gone,
        }

    def open(self, capacity: int) -> tuple[Sender[Any], Receiver[Any]]:
        """A channel, one end of which is to be sent to the worker. Each side holds half of its capacity."""
        here = UNBOUNDED if capacity == UNBOUNDED else (capacity + 1) // 2
        self.offers = True
        tx, rx = open_channel(here)
        tx._check_items(self._check)
        there = UNBOUNDED if capacity == UNBOUNDED else capacity - here
        self.ends[tx] = Offer(there, weakref.ref(rx))
        self.ends[rx] = Offer(there, weakref.ref(tx))
        return tx, rx

    # ------------------------------------------------------------------ travel --

    def pack(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[tuple[Shipped, End]]]:
        """The arguments of a call with the ends among them replaced, and what is to be `ship`ped then."""
        packed = list(args)
        shipments: list[tuple[Shipped, End]] = []
        for i, arg in enumerate(args):
            if type(arg) not in (Sender, Receiver):
                continue
            if arg not in self.ends or any(arg in (end, self.ends[end].other()) for _, end in shipments):
                raise Unpicklable(
                    f"{arg!r} cannot be sent: only an end that pool.channel() gave for this worker can,"
                    " and once"
                )
            self._number += 1
            packed[i] = Shipped(type(arg) is Sender, self._number, self.ends[arg].capacity)
            shipments.append((packed[i], arg))
        return tuple(packed), shipments

    def ship(self, shipments: list[tuple[Shipped, End]]) -> None:
        """The call is on its way: serve the other ends from here on."""
        for shipped, end in shipments:
            other = self.ends.pop(end).other()
            if other is not None:
                self.ends.pop(other, None)
            own = end.clone()
            end.close()
            if isinstance(own, Sender):
                own._check_items(None)  # what comes from there has been checked there
                self._inlets[shipped.number] = Inlet(self, shipped.number, own)
            else:
                self._outlets[shipped.number] = Outlet(
                    self, shipped.number, own, shipped.capacity == UNBOUNDED
                )

    def unpack(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a call that came, with the ends among them."""
        if not any(type(arg) is Shipped for arg in args):
            return args
        return tuple(self._arrived(arg) if type(arg) is Shipped else arg for arg in args)

    def _arrived(self, shipped: Shipped) -> End:
        tx, rx = open_channel(shipped.capacity)
        if shipped.sends:
            tx._check_items(self._check)
            self._outlets[shipped.number] = Outlet(self, shipped.number, rx, shipped.capacity == UNBOUNDED)
            return tx
        self._inlets[shipped.number] = Inlet(self, shipped.number, tx)
        return rx

    # ---------------------------------------------------------------- messages --

    def _on_items(self, number: int, payload: Any) -> None:
        inlet = self._inlets.get(number)
        if inlet is not None:  # else its receivers are closed: what was under way is dropped
            try:
                inlet.deliver(self.link.load(payload))
            except Exception as error:
                self.report("items of a channel cannot be unpickled", error)
                self.post(RECEIVERS_GONE, number, f"items could not be unpickled: {error}")
                inlet.end(f"items came that could not be unpickled: {error}")

    def _on_credit(self, number: int, payload: Any) -> None:
        outlet = self._outlets.get(number)
        if outlet is not None:
            outlet.grant(self.link.load(payload))

    def _on_senders_gone(self, number: int, payload: Any) -> None:
        inlet = self._inlets.get(number)
        if inlet is not None:
            inlet.end(self.link.load(payload))

    def _on_receivers_gone(self, number: int, payload: Any) -> None:
        outlet = self._outlets.get(number)
        if outlet is not None:
            outlet.end(self.link.load(payload))

    def post(self, kind: int, number: int, obj: Any) -> None:
        if self.lost is None:
            self.link.post(kind, number, obj)

    def report(self, message: str, error: BaseException) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error})

    def counts(self) -> tuple[int, int, int, int]:
        """How many sides of channels are here; credits that these have, and gave; items that wait."""
        outlets, inlets = list(self._outlets.values()), list(self._inlets.values())
        return (
            len(outlets) + len(inlets),
            sum(outlet.credits for outlet in outlets),
            sum(len(inlet.permits) for inlet in inlets),
            sum(outlet.rx.statistics().buffered for outlet in outlets),
        )

    # --------------------------------------------------------------------- end --

    def forget(self, number: int) -> None:
        self._outlets.pop(number, None)
        self._inlets.pop(number, None)

    def close(self, why: str) -> None:
        """The link is lost: all its channels are broken."""
        self.lost = why
        for port in (*self._outlets.values(), *self._inlets.values()):
            port.end(why)
        for end in list(self.ends):  # of channels with no end in the worker yet: there will be none
            end._break(why)
        self.ends.clear()


class _Port:
    """One side of a channel; a task serves it."""

    def __init__(self, hub: Hub, number: int) -> None:
        self.hub = hub
        self.number = number
        self.ended = False

    def start(self, serve: Coroutine[Any, Any, None], name: str) -> None:
        self.task = self.hub.loop.create_task(serve, name=f"pinloop channel {self.number} {name}")

    def end(self, why: str | None) -> None:
        """The other side is closed; `why` is what this one is told if that is a fault."""
        raise NotImplementedError

    def stop(self) -> bool:
        """Stop serving it; False if it has been."""
        if self.ended:
            return False
        self.ended = True
        self.hub.forget(self.number)
        if self.task is not asyncio.current_task():
            self.task.cancel()
        return True


class Outlet(_Port):
    """The side with the sender."""

    def __init__(self, hub: Hub, number: int, rx: Receiver[Any], unbounded: bool) -> None:
        super().__init__(hub, number)
        self.rx = rx
        self.credits = 0
        self._unbounded = unbounded
        self._most = 1
        self._waiter: asyncio.Future[None] | None = None
        self.start(self._serve(), "out")

    def grant(self, credits: int) -> None:
        self.credits += credits
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _serve(self) -> None:
        link = self.hub.link
        try:
            while True:
                while link.congested:
                    await link.drained()
                if self._unbounded:
                    await self._send(self._most)
                elif self.credits > 0:
                    count = await self._send(min(self.credits, self._most))
                    self.credits -= count  # not in one statement: more have been granted meanwhile
                else:
                    self._waiter = self.hub.loop.create_future()
                    await self._waiter
        except EndOfChannel:
            self.hub.post(SENDERS_GONE, self.number, None)
            self.end(None)
        except ChannelError:  # closed by `end`
            pass

    async def _send(self, most: int) -> int:
        items = await self.rx.recv_many(most)
        count = len(items)
        link = self.hub.link
        before = link.posted
        try:
            self.hub.post(ITEMS, self.number, lightened(tuple(items)) if link.pickles else items)
        except Exception:
            self._send_singly(items)
        if (link.posted - before) * 2 > BATCH_BYTES:
            self._most = max(1, count // 2)
        elif count == self._most < BATCH:
            self._most *= 2
        return count

    def _send_singly(self, items: list[Any]) -> None:
        """One of these cannot be pickled, though it could when it was sent: that breaks the channel.

        What was sent before it arrives.
        """
        for item in items:
            try:
                self.hub.post(ITEMS, self.number, [item])
            except Exception as error:
                why = f"an item could not be sent: {error}"
                problem = Unpicklable(f"an item of a channel between a pool and its worker: {error}")
                problem.__cause__ = error
                self.hub.report("the channel is broken", problem)
                self.hub.post(SENDERS_GONE, self.number, why)
                self.end(why)
                raise BrokenChannel(why) from error

    def end(self, why: str | None) -> None:
        """Nobody receives any more."""
        if self.stop():
            if why is None:
                self.rx.close()
            else:
                self.rx._break(why)


class Inlet(_Port):
    """The side with the receiver."""

    def __init__(self, hub: Hub, number: int, tx: Sender[Any]) -> None:
        super().__init__(hub, number)
        self._tx = tx
        self.permits: collections.deque[Permit[Any]] = collections.deque()
        self._unbounded = tx.statistics().capacity == float("inf")
        self.start(self._serve(), "in")

    async def _serve(self) -> None:
        """Reserve places, and tell the other side of them."""
        if self._unbounded:
            return
        tx, permits = self._tx, self.permits
        try:
            while True:
                permits.append(await tx.reserve())
                count = 1
                try:
                    while True:
                        permits.append(tx.reserve_nowait())
                        count += 1
                except WouldBlock:
                    pass
                self.hub.post(CREDIT, self.number, count)
        except BrokenChannel:
            self.hub.post(RECEIVERS_GONE, self.number, None)
            self.end(None)
        except ChannelError:  # closed by `end`
            pass

    def deliver(self, items: Sequence[Any]) -> None:
        try:
            if self._unbounded:
                for item in items:
                    self._tx.send_nowait(item)
            else:
                take = self.permits.popleft
                for item in items:
                    take().send(item)
        except BrokenChannel:
            self.hub.post(RECEIVERS_GONE, self.number, None)
            self.end(None)

    def end(self, why: str | None) -> None:
        """Nothing more will come."""
        if self.stop():
            permits, self.permits = self.permits, collections.deque()
            if why is not None:
                self._tx._break(why)
            for permit in permits:
                permit.release()
            self._tx.close()
