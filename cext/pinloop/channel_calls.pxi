# What the methods of a channel's ends return to be awaited.
#
# What is ready is done without a frame, a future or a turn of the loop; an end keeps the call it made last,
# to use it again.

cdef tuple CHANNEL_OPERATION_NAMES = (
    "Sender.send", "Sender.reserve", "Receiver.recv", "Receiver.__anext__", "Receiver.recv_many",
)


@cython.final
@cython.no_gc_clear          # a waiter's queue is in the channel, which stays until the waiter is gone
cdef class ChannelCall(ClaimCall):
    """A call of a method of a channel's end."""

    def __dealloc__(self):
        warn_unawaited(self)
        if self.state == CALL_WAITING:
            self.finish()

    cdef str qualified_name(self):
        return CHANNEL_OPERATION_NAMES[self.waiter.operation]

    cdef object begin(self):
        cdef Channel channel = self.end.channel
        channel.enter()
        if budget_spent(channel.native_loop):
            return WOULD_BLOCK
        return self.attempt()

    cdef object proceed(self):
        if self.future is None:
            return self.attempt()             # it gave way, and has not begun
        if self.waiter.operation == CHANNEL_NEXT and isinstance(self.failure, EndOfChannel):
            raise StopAsyncIteration
        return ClaimCall.proceed(self)

    cdef object attempt(self):
        """The result, or WOULD_BLOCK with a place in the queue."""
        cdef ChannelEnd end = self.end
        cdef Channel channel = end.channel
        cdef WaiterList* waiting
        if end.sends:
            channel.check_send(end)
            if channel.may_send():
                if self.waiter.operation == CHANNEL_RESERVE:
                    channel.reserved += 1
                    return new_permit(channel)
                channel.deliver(self.item)
                return None
            waiting = &channel.senders
        else:
            stored = channel.receive(end, self.waiter.operation == CHANNEL_NEXT)
            if stored is not WOULD_BLOCK:
                return self.handed(channel, stored)
            waiting = &channel.receivers
            channel.check_single()
        self.future = channel.new_future()
        self.waiter.call = <PyObject*>self
        self.waiter.end = <PyObject*>end
        self.waiter.item = <PyObject*>self.item
        waiter_join(waiting, &self.waiter)
        if not end.sends and channel.senders.first != NULL:
            channel.admit()                   # it is as good as a place for who wants a permit
        return WOULD_BLOCK

    cdef object handed(self, Channel channel, object stored):
        """What the caller gets of it."""
        if channel.heap is not None:
            stored = (<tuple>stored)[2]
        if self.waiter.operation == CHANNEL_MANY:
            return channel.receive_more([stored], self.most)
        return stored

    cdef int withdraw(self) except -1:
        if self.waiter.list != NULL:
            waiter_leave(&self.waiter)
        return 0

    cdef int finish(self) except -1:
        if self.state == CALL_WAITING or self.future is not None:
            ClaimCall.finish(self)
        self.state = CALL_DONE
        self.item = None
        return 0

    cdef bint undo(self) except -1:
        cdef Channel channel = self.end.channel
        if self.waiter.operation == CHANNEL_SEND:
            if not channel.take_back(self.item):
                return False
        elif self.waiter.operation == CHANNEL_RESERVE:
            channel.unreserve()
        else:
            channel.give_back(self.outcome, self.waiter.serial)
        self.claim = NULL
        return True

    cdef object collect(self):
        self.claim = NULL
        if self.waiter.operation == CHANNEL_SEND:
            return None
        if self.waiter.operation == CHANNEL_RESERVE:
            return new_permit(self.end.channel)
        return self.handed(self.end.channel, self.outcome)


cdef inline bint at_once(PyObject* self, PyObject** result) except -1:
    """The usual case: a new call that only has to put an item in or take one out.  False: it is another."""
    cdef PyObject* end = <PyObject*>(<ChannelCall>self).end
    cdef PyObject* channel = <PyObject*>(<ChannelEnd>end).channel
    cdef PyObject* loop = <PyObject*>(<Channel>channel).native_loop
    cdef Ring* items = &(<Channel>channel).items
    if ((<ChannelCall>self).state != CALL_NEW or loop == <PyObject*>None or (<ChannelEnd>end).closed
            or (<Channel>channel).senders.first != NULL or (<Channel>channel).heap is not None
            or (<Loop>loop).cancelled_scopes or (<Loop>loop).budget_used >= BUDGET
            or (<Loop>loop).thread_id != PyThread_get_thread_ident()):
        return False
    if (<ChannelCall>self).waiter.operation == CHANNEL_SEND:
        if (<Channel>channel).receivers.first != NULL or (<Channel>channel).open_receivers == 0:
            return False
        if <Py_ssize_t>ring_count(items) + (<Channel>channel).reserved >= (<Channel>channel).capacity:
            return False
        ring_push(items, (<ChannelCall>self).item)
        (<ChannelCall>self).item = None
        Py_INCREF(None)
        result[0] = <PyObject*>None
    elif (<ChannelCall>self).waiter.operation not in (CHANNEL_RECV, CHANNEL_NEXT) or ring_count(items) == 0:
        return False
    else:
        result[0] = ring_pop(items)
        if (<Channel>channel).returned is not None:
            (<Channel>channel).forget_returned(0)
        if items.head == items.tail and items.mask >= KEPT_ROOM:
            ring_shrink(items, LEAST_ROOM)
    budget_spent(<Loop>loop)
    (<ChannelCall>self).state = CALL_DONE
    return True


cdef PyObject* step_channel_call(PyObject* self) except? NULL:
    """tp_iternext: what an `await` calls before 3.15."""
    cdef PyObject* result = NULL
    if not at_once(self, &result) and (<ChannelCall>self).advance(&result) == PYGEN_NEXT:
        return result
    stop_with((<ChannelCall>self).end.channel.native_loop, result)
    return NULL


cdef int resume_channel_call(PyObject* self, PyObject* value, PyObject** result) except -1:
    """am_send: what a task and, from 3.15 on, an `await` call."""
    if value == <PyObject*>None and at_once(self, result):
        return PYGEN_RETURN
    return resume_call(self, value, result)


cdef Dealloc destroy_channel_call = <Dealloc><void*>(<PyTypeObject*>ChannelCall).tp_dealloc


cdef void release_channel_call(PyObject* self) noexcept:
    """Its deallocator: the end keeps one that is done, with one reference."""
    cdef PyObject* end = <PyObject*>(<ChannelCall>self).end
    if ((<ChannelCall>self).state == CALL_DONE and end != <PyObject*>None
            and (<ChannelEnd>end).spare == NULL and not (<ChannelEnd>end).closed):
        pl_set_references(self, 1)
        (<ChannelEnd>end).spare = self
        (<ChannelCall>self).end = None        # with which the end may go, and this
    else:
        destroy_channel_call(self)


@cython.final
cdef class Permit:
    """A place in a channel, kept for one item.  What `Sender.reserve` gives.

    As a context manager it gives the place back if it was not used; so does dropping it.
    """

    def send(self, item):
        """Send an item, without waiting, and use the permit up.

        Raises BrokenChannel if all receivers are closed, RuntimeError if the permit was used or released.
        """
        cdef Channel channel = self.channel
        if channel is None:
            raise RuntimeError("the permit has been used or released")
        channel.check_thread()
        stored = channel.wrap(item)
        if channel.open_receivers == 0:
            self.give_up()
            raise BrokenChannel("all receivers are closed")
        self.channel = None
        try:
            channel.deliver(stored)
        finally:
            channel.unreserve()

    def release(self):
        """Give the place back.  Without effect if the permit was used or released."""
        if self.channel is not None:
            self.channel.check_thread()
            self.give_up()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.release()

    def __del__(self):
        cdef Channel channel = self.channel
        if channel is None:
            return
        if channel.is_here():
            self.give_up()
        else:
            self.channel = None
            channel.loop.call_soon_threadsafe(new_permit(channel).release)

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)

    def __repr__(self):
        state = "used up" if self.channel is None else f"for {self.channel!r}"
        return f"<Permit {state}>"

    cdef int give_up(self) except -1:
        channel, self.channel = self.channel, None
        return (<Channel>channel).unreserve()


cdef object new_permit(Channel channel):
    cdef Permit permit = Permit.__new__(Permit)
    permit.channel = channel
    return permit
