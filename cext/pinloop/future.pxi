# Future: a result that is not there yet, as asyncio.Future in all that user code can see.
#
# A task that awaits one of our futures stands among its waiters itself: completing pushes it onto the
# ready ring, with no callback, handle or wrapper between.  `await` finds the future by type slots and
# uses it as its own iterator; `__await__` called by hand gives an iterator object, as asyncio's does.

cdef object CancelledError = asyncio.CancelledError
cdef object InvalidStateError = asyncio.InvalidStateError
# As they are now: who puts others in their places, as asyncio's own tests do, does not mean ours.
cdef object AsyncioFuture = asyncio.Future
cdef object AsyncioTask = asyncio.Task

cdef tuple STATES = ("PENDING", "CANCELLED", "FINISHED")

# 3.13 turned a StopIteration into a RuntimeError; before, it was refused.
cdef str STOP_REFUSED = "StopIteration interacts badly with generators and cannot be raised into a Future"
cdef bint WRAPS_STOP_ITERATION = sys.version_info >= (3, 13)

# From 3.15 on __init__ may be called once; before, again.
cdef bint INITIALISED_ONCE = sys.version_info >= (3, 15)

# From 3.12 on an exception is thrown as one object.
cdef bint THROW_TAKES_ONE = sys.version_info >= (3, 12)


@cython.final
@cython.internal
cdef class FutureRest:
    pass


cdef class Future(Runnable):
    """A future of any asyncio loop.  Made by `loop.create_future()`, or by calling it.

    It stands in for asyncio.Future, `isinstance` included, and does in each case what that does.  On a
    pinloop loop callbacks go onto the ready ring directly, and so do tasks that await it.
    """

    def __init__(self, *, loop=None):
        if self.loop is not None:
            if INITIALISED_ONCE:
                raise RuntimeError(f"{type(self).__name__} object is already initialized")
            forget(self)
        self.attach(asyncio.get_event_loop() if loop is None else loop)
        if self.loop.get_debug():
            self.more().source_traceback = format_helpers.extract_stack(sys._getframe())

    @property
    def __class__(self):
        return AsyncioFuture

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)

    @cython.final
    cdef int attach(self, object loop) except -1:
        self.loop = loop
        self.native = isinstance(loop, Loop)
        self.loop_made = False
        return 0

    @cython.final
    cdef FutureRest more(self):
        if self.rest is None:
            self.rest = FutureRest.__new__(FutureRest)
        return self.rest

    # ---------------------------------------------------------------- asking --

    def get_loop(self):
        """The event loop it belongs to."""
        check_alive(self)
        return self.loop

    def done(self):
        """Whether it has a result or an exception, or was cancelled."""
        return self.state != PENDING

    def cancelled(self):
        """Whether it was cancelled."""
        return self.state == CANCELLED

    def exception(self):
        """The exception, or None if there is a result.

        Raises CancelledError if it was cancelled, InvalidStateError if it is not done.
        """
        if self.loop is None:
            raise InvalidStateError("Future object is not initialized.")
        if self.state == CANCELLED:
            raise self.cancelled_error()
        if self.state == PENDING:
            raise InvalidStateError("Exception is not set.")
        self.log_traceback = False
        return self.held if self.failed else None

    @cython.final
    cdef object cancelled_error(self):
        """The CancelledError to raise for it: a task's own the first time, then a new one."""
        cdef FutureRest rest = self.rest
        if rest is None:
            return CancelledError()
        if rest.cancelled_error is not None:
            error, rest.cancelled_error = rest.cancelled_error, None
            return error
        return CancelledError() if rest.cancel_message is None else CancelledError(rest.cancel_message)

    def _make_cancelled_error(self):
        """The CancelledError to raise: asyncio's own functions ask for it."""
        return self.cancelled_error()

    @cython.final
    cdef object take_failure(self):
        """The exception to raise in who asks for the result; None if there is a result."""
        if self.state == CANCELLED:
            return self.cancelled_error()
        if not self.failed:
            return None
        self.log_traceback = False
        # As it was when it was set: else each raise would lengthen the traceback.
        PyException_SetTraceback(self.held, self.rest.traceback)
        return self.held

    @cython.final
    cdef object outcome(self):
        """What `result` raises, or None."""
        if self.loop is None:
            return InvalidStateError("Future object is not initialized.")
        if self.state == PENDING:
            return InvalidStateError("Result is not set.")
        return self.take_failure()

    # -------------------------------------------------------------- settling --

    def set_result(self, result, /):
        """Complete it with a result.  Raises InvalidStateError if it is done already."""
        check_alive(self)
        self.settle(result, False)

    def set_exception(self, exception, /):
        """Complete it with an exception, given as an instance or a class.

        Raises InvalidStateError if it is done already, TypeError for what is no exception.
        """
        check_alive(self)
        if self.state != PENDING:
            raise InvalidStateError("invalid state")
        if isinstance(exception, type) and issubclass(exception, BaseException):
            exception = exception()
            if self.state != PENDING:
                raise InvalidStateError("invalid state")
        if not isinstance(exception, BaseException):
            raise TypeError(f"an exception was expected by set_exception(), got {exception!r}")
        self.settle_failed(raisable(exception))

    def cancel(self, msg=None):
        """Cancel it, and have its callbacks called.  False if it is done already."""
        check_alive(self)
        self.log_traceback = False
        return self.settle_cancelled(msg)

    @cython.final
    cdef int settle(self, object value, bint failed) except -1:
        if self.state != PENDING:
            raise InvalidStateError("invalid state")
        waiters, self.held = self.held, value
        self.failed = failed
        self.state = FINISHED
        if waiters is not None:
            self.wake_all(waiters)
        return 0

    @cython.final
    cdef int settle_failed(self, object exception) except -1:
        self.more().traceback = exception.__traceback__
        # Before the waiters are told, as one of them may look at it.
        self.log_traceback = True
        return self.settle(exception, True)

    @cython.final
    cdef bint settle_cancelled(self, object message) except -1:
        if self.state != PENDING:
            return False
        if message is not None or self.rest is not None:
            self.more().cancel_message = message
        self.state = CANCELLED
        if self.held is not None:
            waiters, self.held = self.held, None
            self.wake_all(waiters)
        return True

    # --------------------------------------------------------------- waiters --

    def add_done_callback(self, fn, /, *, context=None):
        """Call `fn(future)` through the loop once it is done, in `context` or a copy of the current one."""
        check_alive(self)
        if context is None:
            context = pl_copy_context() if self.native else PyContext_CopyCurrent()
        if self.state == PENDING:
            self.add_waiter((fn, context))
        else:
            self.wake(fn, context)

    def remove_done_callback(self, fn, /):
        """Forget every callback that equals `fn`; how many there were."""
        check_alive(self)
        waiters = waiters_of(self)
        kept = [one for one in waiters if type(one) is not tuple or not one[0] == fn]
        removed = len(waiters) - len(kept)
        # Comparing may have run code that completed it.
        if removed and self.state == PENDING:
            self.held = kept or None
        return removed

    @cython.final
    cdef int add_waiter(self, object waiter) except -1:
        """Tell a task, or a callback as a tuple with its context, when it is done."""
        if self.held is None:
            self.held = waiter
        elif type(self.held) is list:
            (<list>self.held).append(waiter)
        else:
            self.held = [self.held, waiter]
        return 0

    @cython.final
    cdef int wake_all(self, object waiters) except -1:
        """Tell all that it held while it was pending."""
        if type(waiters) is tuple:
            return self.wake((<tuple>waiters)[0], (<tuple>waiters)[1])
        if type(waiters) is not list:
            return self.wake(waiters, None)
        for waiter in <list>waiters:
            if type(waiter) is tuple:
                self.wake((<tuple>waiter)[0], (<tuple>waiter)[1])
            else:
                self.wake(waiter, None)
        return 0

    @cython.final
    cdef int wake(self, object waiter, object context) except -1:
        """Tell one: a callback with its context, or a task or group, which have none here."""
        cdef Loop loop
        if not self.native:
            self.loop.call_soon(waiter, self, context=context)
            return 0
        loop = <Loop>self.loop
        if pl_unlikely(loop.closed or loop.debug or loop.fork_depth != pl_fork_depth):
            loop.check_call(len if context is None else waiter, "call_soon", False)
        if pl_unlikely(inbox_waiting(&loop.inbox)):
            loop.drain_inbox()
        if context is None:
            if type(waiter) is Group:
                return (<Group>waiter).arrived(self)
            return ring_push(&loop.ready, waiter)
        return loop.soon(waiter, <PyObject*>self, context)

    # -------------------------------------------------------------- awaiting --

    def __await__(self):
        check_alive(self)
        return new_future_iter(self)

    def __iter__(self):
        check_alive(self)
        return new_future_iter(self)

    # --------------------------------------- what asyncio's own functions read --

    @property
    def _asyncio_future_blocking(self):
        return self.loop is not None and self.blocking != 0

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        check_alive(self)
        self.blocking = bool(value)

    @_asyncio_future_blocking.deleter
    def _asyncio_future_blocking(self):
        raise AttributeError("cannot delete attribute")

    @property
    def _asyncio_awaited_by(self):
        waiters = {
            (<Group>one).host if type(one) is Group else one
            for one in waiters_of(self) if type(one) is not tuple}
        waiters.discard(None)
        if isinstance(self.awaited_by, set):
            waiters |= self.awaited_by
        elif self.awaited_by is not None:
            waiters.add(self.awaited_by)
        return frozenset(waiters) if waiters else None

    @property
    def _loop(self):
        return self.loop

    @property
    def _callbacks(self):
        callbacks = [
            (one[0], whole_context(one[1])) if type(one) is tuple
            else (PyCFunction_New(&arrived_method, one), PyContext_CopyCurrent()) if type(one) is Group
            else (wakeup_of(<Task>one), (<Task>one).whole_context())
            for one in waiters_of(self)]
        return callbacks or None

    @property
    def _result(self):
        return self.held if self.state == FINISHED and not self.failed else None

    @property
    def _exception(self):
        return self.held if self.failed else None

    @property
    def _state(self):
        check_alive(self)
        return STATES[self.state]

    @property
    def _source_traceback(self):
        return None if self.rest is None else self.rest.source_traceback

    @property
    def _cancel_message(self):
        return None if self.rest is None else self.rest.cancel_message

    @_cancel_message.setter
    def _cancel_message(self, message):
        self.more().cancel_message = message

    @_cancel_message.deleter
    def _cancel_message(self):
        raise AttributeError("cannot delete attribute")

    @property
    def _log_traceback(self):
        check_alive(self)
        return self.log_traceback != 0

    @_log_traceback.setter
    def _log_traceback(self, value):
        check_alive(self)
        if value:
            raise ValueError("_log_traceback can only be set to False")
        self.log_traceback = False

    @_log_traceback.deleter
    def _log_traceback(self):
        raise AttributeError("cannot delete attribute")

    def __repr__(self):
        check_alive(self)
        return describe_future(self)

    def __dealloc__(self):
        Py_CLEAR(self.attributes)

    def __del__(self):
        if self.log_traceback:
            report_unseen(self)


cdef inline int check_alive(Future future) except -1:
    if future.loop is None:
        raise RuntimeError("Future object is not initialized.")
    return 0


cdef list waiters_of(Future future):
    """Who is told when it is done, in a list of the caller's own; see the data model."""
    if future.state != PENDING or future.held is None:
        return []
    return list(<list>future.held) if type(future.held) is list else [future.held]


cdef int forget(Future future) except -1:
    """Make it as new: __init__ was called again."""
    future.state = PENDING
    future.failed = future.blocking = future.log_traceback = False
    future.held = future.awaited_by = None
    future.rest = None
    return 0


cdef object raisable(object exception):
    """The exception itself, but for StopIteration: raised in a coroutine it would be taken for its end."""
    if WRAPS_STOP_ITERATION:
        if isinstance(exception, StopIteration):
            wrapper = RuntimeError(STOP_REFUSED)
            wrapper.__cause__ = wrapper.__context__ = exception
            return wrapper
    elif type(exception) is StopIteration:
        raise TypeError(STOP_REFUSED)
    return exception


@reprlib.recursive_repr()
def describe_future(future):
    information = base_tasks._task_repr_info if isinstance(future, Task) else base_futures._future_repr_info
    return f"<{type(future).__name__} {' '.join(information(future))}>"


cdef int report_unseen(Future future) except -1:
    """Somebody's exception is about to be lost."""
    future.log_traceback = False
    context = {
        "message": f"{type(future).__name__} exception was never retrieved",
        "exception": future.held,
        "future": future,
    }
    if future._source_traceback:
        context["source_traceback"] = future._source_traceback
    future.loop.call_exception_handler(context)
    return 0
