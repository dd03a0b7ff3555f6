# timeout: asyncio.timeout in all that user code can see, without a coroutine to enter and leave it.

cdef enum TimeoutState:
    TIMEOUT_CREATED
    TIMEOUT_ENTERED
    TIMEOUT_EXPIRING         # its time is up, and the task has yet to leave it
    TIMEOUT_EXPIRED
    TIMEOUT_EXITED

# As asyncio's messages and repr call them.
cdef tuple TIMEOUT_STATES = ("created", "active", "expiring", "expired", "finished")

cdef object current_task = asyncio.current_task
cdef object get_running_loop = asyncio.get_running_loop


@cython.freelist(16)
cdef class Timeout:
    """An asynchronous context manager that cancels what runs in it when its time is up; made by `timeout`."""

    def __init__(self, when):
        if when is not None:
            check_deadline(when)
        self.deadline = when

    def __dealloc__(self):
        Py_CLEAR(self.attributes)

    def when(self):
        """The time at which it expires, in seconds on the loop's clock; None: never."""
        return self.deadline

    def reschedule(self, when):
        """Have it expire at `when` on the loop's clock; None: never.

        Raises RuntimeError unless it was entered, or once it has expired or was left.
        """
        if self.state == TIMEOUT_CREATED:
            raise RuntimeError("Timeout has not been entered")
        if self.state != TIMEOUT_ENTERED:
            raise RuntimeError(f"Cannot change state of {TIMEOUT_STATES[<int>self.state]} Timeout")
        if when is not None:
            check_deadline(when)
        self.deadline = when
        self.disarm()
        if when is not None:
            self.arm(when <= self.loop.time())

    def expired(self):
        """Whether its time was up before it was left."""
        return self.state == TIMEOUT_EXPIRING or self.state == TIMEOUT_EXPIRED

    def __aenter__(self):
        cdef TimeoutEntry entry = TimeoutEntry.__new__(TimeoutEntry)
        entry.entered = self
        return entry

    def __aexit__(self, exc_type, exc_val, exc_tb):
        if self.state != TIMEOUT_ENTERED and self.state != TIMEOUT_EXPIRING:
            raise RuntimeError(f"Cannot leave a {TIMEOUT_STATES[<int>self.state]} Timeout")
        self.disarm()
        if self.state == TIMEOUT_ENTERED:
            self.state = TIMEOUT_EXITED
        else:
            self.state = TIMEOUT_EXPIRED
            # Cancelled by nobody else meanwhile: the CancelledError is this timeout's.
            if self.task.uncancel() <= self.cancelling and exc_type is not None:
                if issubclass(exc_type, CancelledError):
                    raise TimeoutError from exc_val
                if exc_val is not None:
                    tell_of_timeout(exc_val)
        return DONE

    def __repr__(self):
        when = ""
        if self.state == TIMEOUT_ENTERED:
            when = f" when={None if self.deadline is None else round(self.deadline, 3)}"
        return f"<Timeout [{TIMEOUT_STATES[<int>self.state]}]{when}>"

    cdef int enter(self) except -1:
        if self.state != TIMEOUT_CREATED:
            raise RuntimeError("Timeout has already been entered")
        task = current_task()
        if task is None:
            raise RuntimeError("Timeout should be used inside a task")
        self.loop = (<Task>task).loop if type(task) is Task else get_running_loop()
        self.task = task
        self.state = TIMEOUT_ENTERED
        self.cancelling = (<Task>task).cancel_requests if type(task) is Task else task.cancelling()
        if self.deadline is not None:
            self.arm(self.due_at_once or self.deadline <= self.loop.time())
        return 0

    cdef int arm(self, bint at_once) except -1:
        cdef PyObject* argument = <PyObject*>self
        if isinstance(self.loop, Loop):
            if at_once:
                (<Loop>self.loop).check_call(expire, "call_soon", False)
                self.handle = (<Loop>self.loop).make_handle(<PyObject*>expire, &argument, 1, NULL)
                ring_push(&(<Loop>self.loop).ready, self.handle)
            else:
                self.handle = (<Loop>self.loop).make_timer(
                    self.deadline, <PyObject*>expire, &argument, 1, NULL)
        elif at_once:
            self.handle = self.loop.call_soon(expire, self)
        else:
            self.handle = self.loop.call_at(self.deadline, expire, self)
        return 0

    cdef int disarm(self) except -1:
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.cancel()
        return 0


@cython.final
@cython.internal
@cython.freelist(16)
cdef class TimeoutEntry:
    """What `async with` awaits to enter a timeout."""
    cdef Timeout entered

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        self.entered.enter()
        raise StopIteration(self.entered)


cdef int send_entry(PyObject* self, PyObject* value, PyObject** result) except -1:
    """am_send."""
    cdef Timeout entered = (<TimeoutEntry>self).entered
    entered.enter()
    Py_INCREF(entered)
    result[0] = <PyObject*>entered
    return PYGEN_RETURN


cdef PyObject* step_entry(PyObject* self) except? NULL:
    """tp_iternext."""
    (<TimeoutEntry>self).entered.enter()
    pl_stop_iteration(<PyObject*>(<TimeoutEntry>self).entered)
    return NULL


cdef object expire_timeout(PyObject* self, PyObject* timeout):
    """Its time is up."""
    cdef Timeout expiring = <Timeout>timeout
    expiring.handle = None
    expiring.state = TIMEOUT_EXPIRING
    expiring.task.cancel()
    return None


cdef PyMethodDef expire_method
expire_method.ml_name = b"expire_timeout"
expire_method.ml_meth = <void*>expire_timeout
expire_method.ml_flags = METH_O
cdef object expire = PyCFunction_New(&expire_method, None)


cdef int check_deadline(object when) except -1:
    if when != when:
        raise ValueError("the deadline of a timeout is NaN")
    return 0


cdef int tell_of_timeout(object exception) except -1:
    """The block was left by another exception, which came of the cancellation: say where that came from."""
    put_timeout_before(exception)
    if isinstance(exception, BaseExceptionGroup):
        for each in exception.exceptions:
            put_timeout_before(each)
    return 0


cdef int put_timeout_before(object exception) except -1:
    """Where a CancelledError is the context of an exception, make it a TimeoutError's."""
    while exception.__context__ is not None:
        cancelled = exception.__context__
        if isinstance(cancelled, CancelledError):
            error = TimeoutError()
            error.__context__ = error.__cause__ = cancelled
            exception.__context__ = error
            return 0
        exception = cancelled
    return 0


def timeout(delay):
    """A `Timeout` that expires `delay` seconds from now; None: never, unless it is rescheduled.

    What runs in `async with pinloop.timeout(delay):` is cancelled then, and the block raises TimeoutError.
    If the task is cancelled by somebody else as well, CancelledError goes on.
    """
    cdef Timeout made = Timeout.__new__(Timeout)
    loop = get_running_loop()
    if delay is not None:
        check_deadline(delay)
        made.deadline = loop.time() + delay
        made.due_at_once = delay <= 0
    return made


def timeout_at(when):
    """The same, for a time on the loop's clock: `loop.time()`."""
    return Timeout(when)
