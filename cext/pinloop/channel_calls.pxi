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
        cdef WaitQueue* waiting
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
        if self.waiter.queue != NULL:
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
