# Channel: what its ends share, and the rules.
#
# Whoever sends hands the item to who waits for one, else puts it where there is room, else waits.  A receiver
# that makes room has the first sender's item moved in there and then: nobody who comes later can be first.
#
# Permits hold a place each.  One that is promised to a permit is not free, and a receiver that waits is as
# good as a place; so on a rendezvous channel a permit is to be had while somebody waits to receive.

from pinloop._channel_parts import ChannelStatistics
from pinloop.errors import BrokenChannel, ChannelError, ClosedChannel, EndOfChannel, WouldBlock

cdef str NO_SENDERS = "all senders are closed"
cdef str NO_RECEIVERS = "all receivers are closed"

cdef enum ChannelOperation:
    CHANNEL_SEND
    CHANNEL_RESERVE
    CHANNEL_RECV
    CHANNEL_NEXT             # recv, of `async for`
    CHANNEL_MANY

from heapq import heapify, heappop, heappush


@cython.final
cdef class Channel(Waitable):
    """What the ends of a channel share."""

    def __cinit__(self):
        ring_init(&self.items, LEAST_ROOM)

    def __dealloc__(self):
        ring_free(&self.items)

    # -------------------------------------------------------------------- items --

    cdef Py_ssize_t held(self) noexcept:
        """How many items are in it."""
        return ring_count(&self.items) if self.heap is None else len(self.heap)

    cdef bint has_room(self) except -1:
        """Whether one more item finds a place or somebody who takes it."""
        cdef Waiter* waiter
        cdef Py_ssize_t held = self.held()
        if self.reserved:
            return held + self.reserved - self.receivers.count < self.capacity
        if held < self.capacity:
            return True
        if self.receivers.first == NULL:
            return False
        first_waiting(&self.receivers, &waiter)
        return waiter != NULL

    cdef object wrap(self, object item):
        """The item as it is stored: it keeps its place among its equals."""
        if self.check is not None and not is_atom(item):
            self.check(item)
        if self.heap is None:
            return item
        rank = item if self.key is None else self.key(item)
        self.number += 1
        return (rank, self.number, item)

    cdef int store(self, object stored) except -1:
        if self.heap is None:
            return ring_push(&self.items, stored)
        try:
            heappush(self.heap, stored)
        except BaseException:
            # It cannot be compared, and is somewhere in there.
            self.heap[:] = [one for one in self.heap if one is not stored]
            heapify(self.heap)
            raise
        return 0

    cdef object take_stored(self):
        if self.heap is not None:
            return heappop(self.heap)
        stored = pl_give(ring_pop(&self.items))
        if self.returned is not None:
            self.forget_returned(0)
        if self.items.head == self.items.tail and self.items.mask >= KEPT_ROOM:
            ring_shrink(&self.items, LEAST_ROOM)
        return stored

    cdef int deliver(self, object stored) except -1:
        """To who waits for one, else into the channel."""
        cdef Waiter* waiter
        if self.receivers.first != NULL:
            first_waiting(&self.receivers, &waiter)
            if waiter != NULL:
                self.handed += 1
                waiter.serial = self.handed
                return claim_for(waiter, stored, None)
        return self.store(stored)

    cdef int admit(self) except -1:
        """There may be room: let those in that wait for it."""
        cdef Waiter* waiter
        while True:
            first_waiting(&self.senders, &waiter)
            if waiter == NULL or not self.has_room():
                return 0
            if waiter.operation == CHANNEL_RESERVE:
                self.reserved += 1
                claim_for(waiter, None, None)
                continue
            if self.receivers.first != NULL and self.receivers.first.call == waiter.call:
                return 0                      # a select does not hand to itself
            stored = <object>waiter.item
            try:
                self.deliver(stored)
            except Exception as error:        # priorities that cannot be compared: the sender's affair
                claim_for(waiter, None, error)
            else:
                claim_for(waiter, None, None)

    cdef int give_back(self, object stored, uint64_t serial) except -1:
        """Who was to have it gave up: to the next, or back to the head, in the order of what comes back."""
        cdef Waiter* waiter
        cdef Ring* ring = &self.items
        cdef size_t at
        cdef Py_ssize_t i = 0
        first_waiting(&self.receivers, &waiter)
        if waiter != NULL:
            waiter.serial = serial
            return claim_for(waiter, stored, None)
        if self.open_receivers == 0:
            return 0
        if self.heap is not None:
            return self.store(stored)
        if self.returned is None:
            self.returned = []
        ring_push_front(ring, stored)
        at = ring.head
        while i < len(self.returned) and self.returned[i] < serial:
            ring.slots[at & ring.mask] = ring.slots[(at + 1) & ring.mask]
            at += 1
            i += 1
        ring.slots[at & ring.mask] = <PyObject*>stored
        self.returned.insert(i, serial)
        return 0

    cdef int forget_returned(self, Py_ssize_t i) except -1:
        del self.returned[i]
        if not self.returned:
            self.returned = None
        return 0

    cdef bint take_back(self, object stored) except -1:
        """Its sender gave up after it was put in: False if it is not there any more."""
        cdef size_t at, first
        cdef Ring* ring = &self.items
        cdef PyObject* entry
        if self.heap is not None:
            kept = [one for one in self.heap if one is not stored]
            if len(kept) == len(self.heap):
                return False
            self.heap[:] = kept
            heapify(self.heap)
            self.admit()
            return True
        first = ring.head
        if self.returned is not None:
            first += len(self.returned)       # these were sent before, and by others
        at = ring.tail
        while at != first:
            at -= 1
            entry = ring.slots[at & ring.mask]
            if entry == <PyObject*>stored:
                while at + 1 != ring.tail:
                    ring.slots[at & ring.mask] = ring.slots[(at + 1) & ring.mask]
                    at += 1
                ring.tail -= 1
                Py_DECREF(<object>entry)      # not the last: `stored` is another
                self.admit()
                return True
        return False

    cdef bint is_over(self) noexcept:
        """Whether nothing will be sent any more."""
        return self.open_senders == 0 and self.reserved == 0

    cdef object the_end(self):
        """What receivers get when nothing will be sent any more."""
        return EndOfChannel if self.failure is None else BrokenChannel

    cdef object closed_error(self, str text):
        """What is raised by way of an end that is closed: it may have been for what `_break` says."""
        return ClosedChannel(text) if self.failure is None else BrokenChannel(self.failure)

    cdef int unreserve(self) except -1:
        """A permit is gone, with what it was for or without."""
        self.reserved -= 1
        if self.senders.first != NULL:
            self.admit()
        if self.is_over() and self.held() == 0:
            self.fail_all(&self.receivers, NULL, self.the_end(), self.failure or NO_SENDERS)
        return 0

    # ------------------------------------------------------------------- the rules --

    cdef int check_send(self, ChannelEnd end) except -1:
        if end.closed:
            raise self.closed_error("this sender is closed")
        if self.open_receivers == 0:
            raise BrokenChannel(self.failure or NO_RECEIVERS)
        return 0

    cdef bint may_send(self) except -1:
        """Whether a sender that comes now need not wait."""
        cdef Waiter* waiter
        if not self.has_room():
            return False
        if self.senders.first == NULL:
            return True
        first_waiting(&self.senders, &waiter)
        # A select at both ends does not send to itself, and keeps nobody else from it.
        return waiter == NULL or self.receivers.first != NULL and waiter.call == self.receivers.first.call

    cdef bint has_item(self) except -1:
        """Whether a receiver that comes now need not wait."""
        cdef Waiter* sender
        cdef Waiter* receiver
        if self.held():
            return True
        if self.senders.first == NULL or self.reserved > self.capacity:
            return False
        first_waiting(&self.senders, &sender)
        if sender == NULL or sender.operation != CHANNEL_SEND:
            return False
        first_waiting(&self.receivers, &receiver)
        return receiver == NULL or receiver.call == sender.call

    cdef int check_single(self) except -1:
        """A receiver is about to wait: that of a oneshot does so once at a time."""
        if self.single and self.receivers.count:
            raise RuntimeError("another task waits for this oneshot already")
        return 0

    cdef object receive(self, ChannelEnd end, bint iterates):
        """The next item, as it is stored; WOULD_BLOCK if there is none.  At its end `async for` stops."""
        cdef Waiter* waiter
        if end.closed:
            raise self.closed_error("this receiver is closed")
        if self.held():
            stored = self.take_stored()
            if self.senders.first != NULL:
                self.admit()
            return stored
        if self.senders.first != NULL and self.has_item():
            waiter = self.senders.first
            stored = <object>waiter.item
            claim_for(waiter, None, None)
            return stored
        if self.is_over():
            if iterates and self.failure is None:
                raise StopAsyncIteration
            raise self.the_end()(self.failure or NO_SENDERS)
        return WOULD_BLOCK

    cdef list receive_more(self, list items, Py_ssize_t most):
        """Add what else can be had without waiting, up to `most`."""
        while len(items) < most and self.has_item():
            if self.held():
                stored = self.take_stored()
                if self.senders.first != NULL:
                    self.admit()
            else:
                stored = <object>self.senders.first.item
                claim_for(self.senders.first, None, None)
            items.append(unwrapped(self, stored))
        return items

    # ----------------------------------------------------------------------- ends --

    cdef int end_left(self, bint sends) except -1:
        """One end more is closed."""
        if sends:
            self.open_senders -= 1
            if self.is_over():
                self.fail_all(&self.receivers, NULL, self.the_end(), self.failure or NO_SENDERS)
            return 0
        self.open_receivers -= 1
        if self.open_receivers == 0:
            self.fail_all(&self.senders, NULL, BrokenChannel, self.failure or NO_RECEIVERS)
            if self.heap is not None:
                self.heap.clear()
            self.returned = None
            ring_clear(&self.items)
        return 0

    cdef int fail_all(self, WaitQueue* waiting, PyObject* end, object kind, str why) except -1:
        """Raise in all who wait, or in those who do by way of `end`."""
        cdef Waiter* waiter = waiting.first
        cdef Waiter* after
        if waiter == NULL or is_closed(self):
            return 0
        while waiter != NULL:
            after = waiter.next
            if end == NULL or waiter.end == end:
                if is_pending((<ClaimCall>waiter.call).future):
                    claim_for(waiter, None, kind(why))
                else:
                    waiter_leave(waiter)
                if after != NULL and after.queue != waiting:
                    after = waiting.first     # of the same select, and gone with it
            waiter = after
        return 0

    cdef int enter(self) except -1:
        """A call begins: it is this loop's, and its scope is not cancelled."""
        if (self.native_loop is None
                or self.native_loop.thread_id != pl_this_thread()):
            self.bind()
        return check_scopes(self.native_loop)

    cdef object new_future(self):
        return self.loop.create_future() if self.native_loop is None else make_future(self.native_loop)

    def __repr__(self):
        capacity = "unbounded" if self.capacity == PY_SSIZE_T_MAX else f"capacity={self.capacity}"
        return f"<channel at {<size_t><PyObject*>self:#x} {capacity} held={self.held()}>"


cdef bint is_closed(Waitable owner) except -1:
    """Whether the loop of those who wait is closed: they will not go on."""
    if owner.native_loop is not None:
        return owner.native_loop.closed
    return owner.loop is not None and owner.loop.is_closed()


cdef inline bint is_atom(object item) noexcept:
    """Whether it is of a type that can always be copied."""
    cdef object kind = type(item)
    return kind is int or kind is str or kind is bytes or kind is float or kind is bool or item is None


cdef inline object unwrapped(Channel channel, object stored):
    return stored if channel.heap is None else (<tuple>stored)[2]
