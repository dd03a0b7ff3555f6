# The ends of a channel: Sender and Receiver.

@cython.no_gc_clear          # as that of calls
cdef class ChannelEnd:
    """A sender or a receiver."""

    def __dealloc__(self):
        cdef PyObject* spare = self.spare
        self.spare = NULL
        Py_XDECREF(spare)

    def __del__(self):
        # Nobody can use it any more: who waits at the other side would wait for ever.
        cdef Channel channel = self.channel
        cdef bint last
        if self.closed or channel is None:
            return
        if not channel.is_here():
            self.closed = True
            channel.loop.call_soon_threadsafe(copy_of(self).close)
            return
        last = (channel.open_senders if self.sends else channel.open_receivers) == 1
        try:
            if last and not is_closed(channel) and (
                    channel.receivers if self.sends else channel.senders).count:
                warnings.warn(
                    f"{self!r} was dropped without being closed, while the other side waits", ResourceWarning)
        finally:
            self.closed = True
            channel.end_left(self.sends)

    def clone(self):
        """Another end of the same kind.  The channel's side is closed once all its ends are.

        Raises ClosedChannel if this end is closed, RuntimeError for that of a oneshot.
        """
        cdef Channel channel = self.channel
        channel.check_thread()
        if self.closed:
            raise ClosedChannel("a closed end cannot be cloned")
        if channel.single:
            raise RuntimeError("a oneshot has one receiver, which cannot be cloned")
        if self.sends:
            channel.open_senders += 1
        else:
            channel.open_receivers += 1
        return copy_of(self)

    def close(self):
        """Close this end.  Without effect if it is closed.

        Who waits by way of this very end gets ClosedChannel.  Once the last sender is closed the receivers
        get what is still in the channel and EndOfChannel then; once the last receiver is, senders get
        BrokenChannel, and what is in the channel is dropped.
        """
        cdef Channel channel = self.channel
        if self.closed:
            return
        channel.check_thread()
        self.closed = True
        channel.fail_all(
            &channel.senders if self.sends else &channel.receivers, <PyObject*>self,
            ClosedChannel if channel.failure is None else BrokenChannel,
            channel.failure or "this end was closed while it waited")
        channel.end_left(self.sends)

    def _check_thread(self):
        """Raise RuntimeError in another thread than that of its event loop."""
        self.channel.check_thread()

    def _break(self, str why):
        """Close this end, the last of its side, because what was behind it is lost.

        The other side is told `why`, by BrokenChannel; receivers once they have what is still there. So is
        whoever uses this end, or waits by way of it.
        """
        self.channel.failure = why
        self.close()

    def _check_items(self, check):
        """Have `check(item)` called for what is sent from now on, in place of a check before; None for none.

        What it raises the `send` raises.  Numbers, str, bytes and None are not asked about.
        """
        self.channel.check = check
        self.channel.wraps = check is not None or self.channel.heap is not None

    @property
    def closed(self):
        """Whether this end is closed."""
        return self.closed

    def statistics(self):
        """Numbers about the channel at this moment: a named tuple.

        `capacity`, and how much of it is `buffered` and `reserved`; how many `senders` and `receivers` are
        open, and how many calls wait: `waiting_senders`, `waiting_receivers`.
        """
        cdef Channel channel = self.channel
        cdef object capacity = channel.capacity
        if channel.capacity == PY_SSIZE_T_MAX:
            capacity = float("inf")
        return ChannelStatistics(
            capacity, channel.held(), channel.reserved, channel.open_senders, channel.open_receivers,
            channel.senders.count, channel.receivers.count)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __aenter__(self):
        return ready_call(self)

    def __aexit__(self, *exc_info):
        self.close()
        return DONE

    def __repr__(self):
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {state} of {self.channel!r}>"

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)


cdef inline object new_call(ChannelEnd end, int operation, object item):
    """A call of a method of an end: the one that it keeps, if that is not in use."""
    cdef ChannelCall call
    if end.spare != NULL:
        call = <ChannelCall>pl_give(end.spare)
        end.spare = NULL
    else:
        call = ChannelCall.__new__(ChannelCall)
    call.end = end
    call.waiter.operation = operation
    call.item = item
    call.state = CALL_NEW
    return call


@cython.final
cdef class Sender(ChannelEnd):
    """The end of a channel that items are sent into.  Made by `channel`."""

    def send(self, item):
        """Send an item, waiting until a receiver takes it or there is room.

        Raises BrokenChannel once all receivers are closed, ClosedChannel if this end is, before or while it
        waits.  Cancelled while it waits, it has sent nothing.
        """
        return new_call(self, CHANNEL_SEND, self.channel.wrap(item) if self.channel.wraps else item)

    def send_nowait(self, item):
        """Send an item now.  Raises WouldBlock if it would have to wait, and what `send` does."""
        cdef Channel channel = self.channel
        channel.check_thread()
        channel.check_send(self)
        if not channel.may_send():
            raise WouldBlock("the channel is full")
        channel.deliver(channel.wrap(item))

    def reserve(self):
        """Wait for a place, and keep it: a Permit, whose `send` need not wait.

        What is to be sent need not be there, or be computed, before there is room.  Raises as `send`.
        Cancelled while it waits, it keeps no place.
        """
        return new_call(self, CHANNEL_RESERVE, None)

    def reserve_nowait(self):
        """Keep a place now: a Permit.  Raises WouldBlock if there is none, and what `send` does."""
        cdef Channel channel = self.channel
        channel.check_thread()
        channel.check_send(self)
        if not channel.may_send():
            raise WouldBlock("the channel is full")
        channel.reserved += 1
        return new_permit(channel)

    def sending(self, item):
        """The operation of sending an item, for `select`.  Nothing is sent unless it is chosen."""
        cdef Sending sending = Sending.__new__(Sending)
        sending.end = self
        sending.item = self.channel.wrap(item)
        return sending


@cython.final
cdef class Receiver(ChannelEnd):
    """The end of a channel that items come out of.  Made by `channel`.  `async for` takes them one by one."""

    def recv(self):
        """The next item, waiting until there is one.

        Raises EndOfChannel once all senders are closed and nothing is left, ClosedChannel if this end is
        closed, before or while it waits.  Cancelled while it waits, it has taken nothing: an item that was
        on its way goes to the next receiver, or back to the head.
        """
        return new_call(self, CHANNEL_RECV, None)

    def recv_nowait(self):
        """The next item, now.  Raises WouldBlock if there is none, and what `recv` does."""
        cdef Channel channel = self.channel
        channel.check_thread()
        stored = channel.receive(self, False)
        if stored is WOULD_BLOCK:
            raise WouldBlock("the channel is empty")
        return unwrapped(channel, stored)

    def recv_many(self, n):
        """A list of up to `n` items: waits for the first, and takes what else is there.

        Raises ValueError for `n` below 1, and what `recv` does; cancelled, it is as `recv`.
        """
        cdef ChannelCall call
        cdef Py_ssize_t most = PyNumber_AsSsize_t(operator.index(n), NULL)
        if most < 1:
            raise ValueError(f"n must be 1 or more, not {n!r}")
        call = new_call(self, CHANNEL_MANY, None)
        call.most = most
        return call

    def __aiter__(self):
        return self

    def __anext__(self):
        return new_call(self, CHANNEL_NEXT, None)


@cython.final
cdef class Sending:
    """What `Sender.sending` gives: an operation for select."""

    def __repr__(self):
        return f"<sending {unwrapped(self.end.channel, self.item)!r} into {self.end.channel!r}>"


cdef object copy_of(ChannelEnd end):
    """Another object for the same end, that counts as it."""
    cdef ChannelEnd copy = Sender.__new__(Sender) if end.sends else Receiver.__new__(Receiver)
    copy.channel = end.channel
    copy.sends = end.sends
    return copy


def open_channel(Py_ssize_t capacity, bint priority=False, key=None, bint single=False):
    """The two ends of a new channel; a capacity of -1 is none.  A single one is a oneshot's."""
    cdef Channel channel = Channel.__new__(Channel)
    cdef Sender sender = Sender.__new__(Sender)
    cdef Receiver receiver = Receiver.__new__(Receiver)
    channel.capacity = PY_SSIZE_T_MAX if capacity < 0 else capacity
    if priority:
        channel.heap = []
        channel.wraps = True
        channel.key = key
        channel.number = 0
    channel.single = single
    channel.open_senders = channel.open_receivers = 1
    sender.channel = receiver.channel = channel
    sender.sends = True
    return sender, receiver
