# select: exactly one of several operations, whichever can be first.
#
# What is ready is done at once, one of it, drawn at random.  Else the call joins the queues of all its
# operations, and whichever gets to it first claims it, which takes it out of all the others: no task is
# made, and those that lose have neither taken nor changed anything.

from random import getrandbits
from select import POLLIN, POLLOUT, poll as new_poll

cdef enum ArmKind:
    ARM_OFF
    ARM_RECV
    ARM_SEND
    ARM_FUTURE
    ARM_EVENT
    ARM_TIMER
    ARM_FD


@cython.final
cdef class After:
    """What `after` gives: an operation for select."""

    def __repr__(self):
        return f"<after {self.delay} s>"


@cython.final
cdef class FdReady:
    """What `readable` and `writable` give: an operation for select."""

    def __repr__(self):
        return f"<{'writable' if self.writing else 'readable'} {self.fd}>"

    cdef bint is_ready(self) except -1:
        poll = new_poll()
        poll.register(self.fd, POLLOUT if self.writing else POLLIN)
        return bool(poll.poll(0))


@cython.final
@cython.internal
cdef class ArmWake:
    """A callback that claims a select for one of its operations."""

    def __call__(self, *args):
        cdef SelectCall call = self.call
        if call.state == CALL_WAITING and call.claim == NULL and is_pending(call.future):
            claim_for(&call.arms[self.index], None, None)


@cython.final
@cython.no_gc_clear          # as ChannelCall
cdef class SelectCall(ClaimCall):
    """A call of `select`."""

    def __dealloc__(self):
        warn_unawaited(self)
        if self.state == CALL_WAITING:
            self.finish()
        PyMem_RawFree(self.arms)

    cdef str qualified_name(self):
        return "select"

    # -------------------------------------------------------------------- at once --

    cdef object begin(self):
        self.find_loop()
        self.check_loops()
        check_scopes(self.native_loop)
        return WOULD_BLOCK if budget_spent(self.native_loop) else self.attempt()

    cdef object proceed(self):
        if self.future is None:
            return self.attempt()             # it gave way, and has not begun
        if self.failure is not None and self.claim != NULL and isinstance(self.failure, ChannelError):
            self.failure.arm = self.claim - self.arms
        return ClaimCall.proceed(self)

    cdef object attempt(self):
        cdef Py_ssize_t chosen = self.choose()
        if chosen >= 0:
            return self.take(chosen)
        self.park()
        return WOULD_BLOCK

    cdef int find_loop(self) except -1:
        """The running loop: that of the first operation, most often."""
        cdef Channel channel
        if self.arms[0].end != NULL:
            channel = (<ChannelEnd>self.arms[0].end).channel
            if channel.native_loop is not None and channel.native_loop.thread_id == pl_this_thread():
                self.loop = self.native_loop = channel.native_loop
                return 0
        self.loop = asyncio.get_running_loop()
        self.native_loop = self.loop if isinstance(self.loop, Loop) else None
        return 0

    cdef int check_loops(self) except -1:
        """All that it waits for is of the running loop."""
        cdef Py_ssize_t i
        cdef PyObject* channel
        cdef PyObject* loop = <PyObject*>self.native_loop
        for i in range(PyTuple_GET_SIZE(self.ops)):
            if self.arms[i].end != NULL:
                channel = <PyObject*>(<ChannelEnd>self.arms[i].end).channel
                if <PyObject*>(<Channel>channel).native_loop != loop or loop == <PyObject*>None:
                    (<Channel>channel).bind()
            elif self.arms[i].kind == ARM_EVENT:
                (<Flag>self.ops[i]).bind()
            elif self.arms[i].kind == ARM_FUTURE and futures._get_loop(self.ops[i]) is not self.loop:
                raise RuntimeError(f"select() was given {self.ops[i]!r}, which is of another event loop")
        return 0

    cdef Py_ssize_t choose(self) except -2:
        """An operation that can be done now, or -1: any of them, or the first if it is biased."""
        cdef Py_ssize_t i, ready = 0, chosen = -1
        for i in range(PyTuple_GET_SIZE(self.ops)):
            if is_ready(<object>PyTuple_GET_ITEM(self.ops, i), self.arms[i].kind):
                if self.biased:
                    return i
                ready += 1
                if ready == 1 or self.draw() % <uint64_t>ready == 0:
                    chosen = i
        return chosen

    cdef uint64_t draw(self) except? 0:
        """A random number; on a loop of ours the same ones each time it is run."""
        cdef uint64_t x
        if self.native_loop is None:
            return <uint64_t>getrandbits(32)
        x = self.native_loop.draws or 0x9E3779B97F4A7C15ULL
        x ^= x >> 12
        x ^= x << 25
        x ^= x >> 27
        self.native_loop.draws = x
        return (x * 0x2545F4914F6CDD1DULL) >> 32

    cdef object take(self, Py_ssize_t i):
        """Do an operation that can be done."""
        op = self.ops[i]
        cdef int kind = self.arms[i].kind
        cdef Channel channel
        value = None
        try:
            if kind == ARM_RECV:
                channel = (<Receiver>op).channel
                value = unwrapped(channel, channel.receive(<Receiver>op, False))
            elif kind == ARM_SEND:
                channel = (<Sending>op).end.channel
                channel.check_send((<Sending>op).end)
                channel.deliver((<Sending>op).item)
            else:
                value = value_of(op, kind)
        except ChannelError as error:
            error.arm = i
            raise
        return (i, value)

    # -------------------------------------------------------------------- waiting --

    cdef int park(self) except -1:
        """Join the queues of all operations."""
        cdef Py_ssize_t i, count = PyTuple_GET_SIZE(self.ops)
        cdef Waiter* arm
        cdef PyObject* channel
        cdef bint permits_wait = False
        self.future = self.loop.create_future() if self.native_loop is None else make_future(self.native_loop)
        self.parked = True
        for i in range(count):
            arm = &self.arms[i]
            arm.call = <PyObject*>self
            if arm.kind == ARM_RECV:
                channel = <PyObject*>(<ChannelEnd>arm.end).channel
                if (<Channel>channel).single:
                    (<Channel>channel).check_single()
                waiter_join(&(<Channel>channel).receivers, arm)
                permits_wait |= (<Channel>channel).senders.first != NULL
            elif arm.kind == ARM_SEND:
                waiter_join(&(<ChannelEnd>arm.end).channel.senders, arm)
            elif arm.kind == ARM_EVENT:
                waiter_join(&(<Flag>self.ops[i]).watchers, arm)
            elif arm.kind != ARM_OFF:
                self.hook(i, self.ops[i], arm.kind)
        if permits_wait:
            self.admit_permits()
        return 0

    cdef int admit_permits(self) except -1:
        """Who wants a permit has been waiting for a receiver."""
        for op in self.ops:
            if type(op) is Receiver and (<Receiver>op).channel.senders.first != NULL:
                (<Receiver>op).channel.admit()
        return 0

    cdef int hook(self, Py_ssize_t i, object op, int kind) except -1:
        """Have a callback claim it for an operation that has no queue of ours."""
        cdef ArmWake wake = ArmWake.__new__(ArmWake)
        wake.call = self
        wake.index = i
        if self.hooks is None:
            self.hooks = [None] * len(self.ops)
        if kind == ARM_FUTURE:
            op.add_done_callback(wake)
            self.hooks[i] = wake
        elif kind == ARM_TIMER:
            self.hooks[i] = self.loop.call_later((<After>op).delay, wake)
        else:
            # By a number of its own: whoever else watches this one, and an end that is closed, do not matter.
            fd = os.dup((<FdReady>op).fd)
            try:
                (self.loop.add_writer if (<FdReady>op).writing else self.loop.add_reader)(fd, wake)
            except BaseException:
                os.close(fd)
                raise
            self.hooks[i] = fd
        return 0

    cdef int withdraw(self) except -1:
        cdef Py_ssize_t i
        if not self.parked:
            return 0
        self.parked = False
        for i in range(PyTuple_GET_SIZE(self.ops)):
            if self.arms[i].queue != NULL:
                waiter_leave(&self.arms[i])
        if self.hooks is not None:
            hooks, self.hooks = self.hooks, None
            for op, hook in zip(self.ops, hooks):
                if hook is not None:
                    self.unhook(op, hook)
        return 0

    cdef int unhook(self, object op, object hook) except -1:
        if type(op) is After:
            hook.cancel()
        elif type(op) is FdReady:
            try:
                if not self.loop.is_closed():
                    (self.loop.remove_writer if (<FdReady>op).writing else self.loop.remove_reader)(hook)
            finally:
                os.close(hook)
        else:
            op.remove_done_callback(hook)
        return 0

    cdef bint undo(self) except -1:
        op = self.ops[self.claim - self.arms]
        if type(op) is Receiver:
            (<Receiver>op).channel.give_back(self.outcome, self.claim.serial)
        elif type(op) is Sending and not (<Sending>op).end.channel.take_back((<Sending>op).item):
            return False
        self.claim = NULL
        return True

    cdef object collect(self):
        cdef Py_ssize_t i = self.claim - self.arms
        cdef object index = i
        self.claim = NULL
        if self.arms[i].kind == ARM_RECV:
            return (index, unwrapped((<ChannelEnd>self.arms[i].end).channel, self.outcome))
        return (index, value_of(self.ops[i], self.arms[i].kind))


cdef PyObject* step_select(PyObject* self) except? NULL:
    """tp_iternext."""
    cdef PyObject* result
    if (<Call>self).advance(&result) == PYGEN_NEXT:
        return result
    stop_with((<SelectCall>self).native_loop, result)
    return NULL


cdef inline bint is_ready(object op, int kind) except -1:
    """Whether an operation can be done, or fails, without waiting."""
    cdef PyObject* channel
    cdef ChannelEnd end
    if kind == ARM_RECV:
        channel = <PyObject*>(<ChannelEnd>op).channel
        if (<Channel>channel).senders.first == NULL and (<Channel>channel).open_senders:
            return (<ChannelEnd>op).closed or (<Channel>channel).held() != 0
        return (<ChannelEnd>op).closed or (<Channel>channel).has_item() or (<Channel>channel).is_over()
    if kind == ARM_SEND:
        end = (<Sending>op).end
        return end.closed or end.channel.open_receivers == 0 or end.channel.may_send()
    if kind == ARM_FUTURE:
        return op.done()
    if kind == ARM_EVENT:
        return (<Flag>op).flag
    if kind == ARM_TIMER:
        return (<After>op).delay <= 0
    return kind == ARM_FD and (<FdReady>op).is_ready()


cdef object value_of(object op, int kind):
    """What select gives for an operation that has been done, other than receiving."""
    if kind == ARM_FUTURE:
        return op.result()
    if kind == ARM_EVENT:
        return True
    if kind == ARM_FD:
        return (<FdReady>op).fd
    return None


cdef int kind_of(object op) except -1:
    kind = type(op)
    if kind is Receiver:
        return ARM_RECV
    if kind is Sending:
        return ARM_SEND
    if op is None:
        return ARM_OFF
    if kind is After:
        return ARM_TIMER
    if kind is FdReady:
        return ARM_FD
    if isinstance(op, Flag):
        return ARM_EVENT
    if kind is Future or kind is Task or futures.isfuture(op):
        return ARM_FUTURE
    refuse_operation(op)
    return ARM_OFF


cdef int refuse_operation(object op) except -1:
    """Raise TypeError, and say what would do."""
    if isinstance(op, ChannelCall):
        advice = ("the receiver itself", "tx.sending(item)")[(<ChannelCall>op).end.sends]
    elif isinstance(op, Sender):
        advice = "tx.sending(item)"
    elif isinstance(op, asyncio.Event):
        advice = "a pinloop.Event"
    elif asyncio.iscoroutine(op):
        advice = "race() for coroutines, or a task"
    else:
        advice = ("a receiver, tx.sending(item), a task or future, a pinloop.Event, after(), readable() "
                  "or writable()")
    if asyncio.iscoroutine(op):
        op.close()
    raise TypeError(f"select() does not take {op!r}; use {advice}")


cdef SelectCall new_select(tuple ops, bint biased):
    cdef SelectCall call = SelectCall.__new__(SelectCall)
    cdef Py_ssize_t i, count = PyTuple_GET_SIZE(ops)
    cdef Waiter* arm
    cdef bint any_on = False
    call.ops = ops
    call.biased = biased
    call.arms = <Waiter*>PyMem_RawMalloc(count * sizeof(Waiter))
    if call.arms == NULL:
        raise MemoryError()
    memset(call.arms, 0, count * sizeof(Waiter))
    for i in range(count):
        op = <object>PyTuple_GET_ITEM(ops, i)
        arm = &call.arms[i]
        arm.kind = kind_of(op)
        any_on |= arm.kind != ARM_OFF
        if arm.kind == ARM_RECV:
            arm.operation = CHANNEL_RECV
            arm.end = <PyObject*>op
        elif arm.kind == ARM_SEND:
            arm.operation = CHANNEL_SEND
            arm.end = <PyObject*>(<Sending>op).end
            arm.item = <PyObject*>(<Sending>op).item
    if not any_on:
        raise ValueError("select() needs at least one operation that is not None")
    return call


def select(*ops, bint biased=False):
    """Wait until one of the operations can be done, and do it, and no other: its position, and its result.

    An operation is a receiver (the result is the item), `tx.sending(item)` (None), a task or future (its
    result; it is observed, and never cancelled), a `pinloop.Event` (True), `after(seconds)` (None),
    `readable(fd)` or `writable(fd)` (the fd).  None is one that is off.

    Of several that can be done any is chosen, each with the same probability; with `biased` the first.

    What the operation raises is raised; errors of channels tell in `arm` which it was.  Cancelled while it
    waits, it has done nothing.  Raises TypeError for what is no operation, coroutines above all, ValueError
    if there is none, RuntimeError for what is of another loop.
    """
    cdef SelectCall call = new_select(ops, biased)
    call.state = CALL_NEW
    return call


def select_nowait(*ops, bint biased=False):
    """The same without waiting: raises WouldBlock if none of the operations can be done."""
    cdef SelectCall call = new_select(ops, biased)
    cdef Py_ssize_t chosen
    running = asyncio._get_running_loop()
    call.native_loop = running if isinstance(running, Loop) else None
    for op in ops:
        if type(op) is Receiver:
            (<Receiver>op).channel.check_thread()
        elif type(op) is Sending:
            (<Sending>op).end.channel.check_thread()
    chosen = call.choose()
    if chosen < 0:
        raise WouldBlock("none of the operations can be done now")
    return call.take(chosen)


def after(delay):
    """An operation for select: `delay` seconds pass, from when the select begins to wait.

    Raises ValueError for a negative delay and NaN, TypeError for what is no number.
    """
    cdef After op = After.__new__(After)
    op.delay = delay
    if not op.delay >= 0:
        raise ValueError(f"delay must be 0 or more, not {delay!r}")
    return op


def readable(fd):
    """An operation for select: there is something to read from a file descriptor or what has a `fileno()`.

    Nothing is read, and others may watch it too.
    """
    return new_fd_ready(fd, False)


def writable(fd):
    """An operation for select: a file descriptor, or what has a `fileno()`, can be written to."""
    return new_fd_ready(fd, True)


cdef object new_fd_ready(object fd, bint writing):
    cdef FdReady op = FdReady.__new__(FdReady)
    op.fd = fd if isinstance(fd, int) else fd.fileno()
    op.writing = writing
    if op.fd < 0:
        raise ValueError(f"Invalid file descriptor: {op.fd}")
    return op
