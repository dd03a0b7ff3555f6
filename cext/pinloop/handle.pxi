# Handle and TimerHandle: one callback with its arguments and context.

cdef extern from *:
    """
    /* Sets a field to None.  What was there is released last; Cython's own assignment would do it first. */
    #define PL_LET_GO(handle, field) do { \
        PyObject *held = (handle)->field; \
        Py_INCREF(Py_None); (*(PyObject **)&(handle)->field) = Py_None; Py_DECREF(held); } while (0)
    #define pl_let_go_callback(handle) PL_LET_GO(handle, callback)
    #define pl_let_go_argument(handle) PL_LET_GO(handle, argument)
    #define pl_let_go_arguments(handle) PL_LET_GO(handle, arguments)
    #define pl_let_go_context(handle) PL_LET_GO(handle, context)

    /* The context that a handle or a task has of its own. */
    #define pl_enter_own(owner, reactor) \
        pl_enter_context(&(owner)->context, &(reactor)->spare_context)
    #define pl_leave_own(entered, owner, reactor) \
        pl_leave_context(entered, &(owner)->context, &(reactor)->spare_context, (owner)->own_context)
    """
    void let_go_callback "pl_let_go_callback"(Handle handle) noexcept
    void let_go_argument "pl_let_go_argument"(Handle handle) noexcept
    void let_go_arguments "pl_let_go_arguments"(Handle handle) noexcept
    void let_go_context "pl_let_go_context"(Handle handle) noexcept
    PyObject* enter_handle "pl_enter_own"(Handle handle, Reactor reactor) noexcept
    void leave_handle "pl_leave_own"(PyObject* context, Handle handle, Reactor reactor) noexcept
    PyObject* enter_own_context "pl_enter_own"(Task task, Reactor reactor) noexcept
    void leave_own_context "pl_leave_own"(PyObject* context, Task task, Reactor reactor) noexcept


cdef object whole_context(object kept):
    """A Context of what is kept as one, which may be at rest."""
    cdef PyObject* place = <PyObject*>kept
    cdef PyObject* spare = NULL
    Py_INCREF(kept)
    if pl_whole_context(&place, &spare) == NULL:
        Py_DECREF(kept)
        raise take_exception()
    return pl_give(place)


cdef class Runnable:

    cdef int run(self, Reactor reactor) except -1:
        raise NotImplementedError(f"{type(self).__name__}.run")


def describe_callback(callback, args=(), show_args=False):
    """`name(args) at file:line`, as handles show their callback in reports.  Never raises."""
    try:
        inner = callback
        while isinstance(inner, functools.partial):
            inner = inner.func
        name = getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or repr(inner)
        text = f"{name}({', '.join(reprlib.repr(arg) for arg in args) if show_args else ''})"
        code = getattr(inspect.unwrap(inner), "__code__", None)
        if code is not None:
            text += f" at {code.co_filename}:{code.co_firstlineno}"
        return text
    except Exception:
        # Somebody's repr or __getattr__: a report must not fail for it.
        return f"<{type(callback).__name__} at {id(callback):#x}>"


cdef class Handle(Runnable):
    """A scheduled callback, as `call_soon` returns it.

    Not made directly.  It stands in for asyncio.Handle, `isinstance` included, but is
    not a subclass: it has no attributes of its own to set and no weak references.
    """

    @property
    def __class__(self):
        return asyncio.Handle

    def cancel(self):
        """Keep the callback from being called.  Has no effect once it was, or a second time."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self.drop_callback()

    def cancelled(self):
        """Whether `cancel` was called."""
        return self.is_cancelled != 0

    def get_context(self):
        """The contextvars.Context in which the callback runs."""
        self.context = whole_context(self.context)
        self.own_context = True
        return self.context

    # What asyncio's own reports and tools that look into a loop read from a handle.

    @property
    def _callback(self):
        return self.callback

    @property
    def _args(self):
        return None if self.is_cancelled else handle_args(self)

    @property
    def _context(self):
        return self.get_context()

    @property
    def _cancelled(self):
        return self.is_cancelled != 0

    @property
    def _source_traceback(self):
        return self.trace

    def __repr__(self):
        parts = [type(self).__name__]
        if self.is_cancelled:
            parts.append("cancelled")
        if isinstance(self, TimerHandle):
            parts.append(f"when={self.when()}")
        if self.callback is not None:
            parts.append(describe_callback(self.callback, handle_args(self), self.reactor.debug))
        if self.trace:
            filename, line = self.trace[len(self.trace) - 1][:2]
            parts.append(f"created at {filename}:{line}")
        return f"<{' '.join(parts)}>"

    @cython.final
    cdef void drop_callback(self) noexcept:
        # Each is detached before it is released: a finalizer may look at this handle.
        let_go_callback(self)
        if self.argument_count == 1:
            let_go_argument(self)
        elif self.argument_count:
            let_go_argument(self)
            let_go_arguments(self)

    @cython.final
    cdef PyObject* call(self) noexcept:
        """Call the callback; NULL when it raised, with the error indicator set."""
        cdef PyObject* stack[3]
        cdef object callback = self.callback    # held: it may cancel this very handle
        cdef object argument, arguments
        if self.argument_count == 0:
            return PyObject_CallNoArgs(<PyObject*>callback)
        if self.argument_count == 1:
            argument = self.argument
            stack[1] = <PyObject*>argument
            return PyObject_Vectorcall(
                <PyObject*>callback, &stack[1], 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        arguments = self.arguments
        if self.argument_count == 2:
            argument = self.argument
            stack[1], stack[2] = <PyObject*>argument, <PyObject*>arguments
            return PyObject_Vectorcall(
                <PyObject*>callback, &stack[1], 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        return PyObject_Vectorcall(
            <PyObject*>callback, tuple_items(<PyObject*>arguments), self.argument_count, NULL)

    cdef int run(self, Reactor reactor) except -1:
        cdef PyObject* result
        cdef PyObject* context
        if self.is_cancelled:
            return 0
        if reactor.task_entered:
            leave_task(reactor)
        if reactor.debug:
            return self.run_debug(reactor)
        context = enter_handle(self, reactor)
        if context == NULL:
            return self.failed(reactor)
        result = self.call()
        leave_handle(context, self, reactor)
        if result == NULL:
            return self.failed(reactor)
        Py_DECREF(<object>result)
        return 0

    @cython.final
    cdef int run_debug(self, Reactor reactor) except -1:
        """run, but timed: a callback that holds the loop up is reported."""
        cdef int64_t start = reactor.poller.now()
        cdef PyObject* result = NULL
        cdef PyObject* context
        cdef double took
        cdef object callback = self.callback
        reactor.running_handle = self
        try:
            context = enter_handle(self, reactor)
            if context != NULL:
                result = self.call()
                leave_handle(context, self, reactor)
            if result == NULL:
                self.failed(reactor)
            else:
                Py_DECREF(<object>result)
        finally:
            reactor.running_handle = None
        took = (reactor.poller.now() - start) / 1e9
        if took >= reactor.slow_callback_duration:
            logger.warning("Executing %r took %.3f seconds", task_stepped_by(callback) or self, took)
        return 0

    @cython.final
    cdef int failed(self, Reactor reactor) except -1:
        exception = take_exception()
        if is_exit(exception):
            raise exception
        description = describe_callback(self.callback, handle_args(self), reactor.debug)
        context = {
            "message": f"Exception in callback {description}",
            "exception": exception,
            "handle": self,
        }
        if self.trace:
            context["source_traceback"] = self.trace
        return reactor.report(context)


@cython.final
cdef class TimerHandle(Handle):
    """A callback scheduled for a time, as `call_later` and `call_at` return it."""

    @property
    def __class__(self):
        return asyncio.TimerHandle

    def when(self):
        """The time at which it is due, in seconds on the loop's clock; an int if `call_at` was given one."""
        return int(self.deadline) if self.whole else self.deadline

    @property
    def _when(self):
        return self.when()

    @property
    def _scheduled(self):
        return self.in_heap

    # Sorted by when they are due; equal are those that would do the same at the same time.

    def __hash__(self):
        return hash(self.deadline)

    def __eq__(self, other):
        if type(other) is not TimerHandle:
            return NotImplemented
        return same_timer(self, <TimerHandle>other)

    def __lt__(self, other):
        if type(other) is not TimerHandle:
            return NotImplemented
        return self.deadline < (<TimerHandle>other).deadline

    def __le__(self, other):
        if type(other) is not TimerHandle:
            return NotImplemented
        return self.deadline < (<TimerHandle>other).deadline or same_timer(self, <TimerHandle>other)

    def __gt__(self, other):
        if type(other) is not TimerHandle:
            return NotImplemented
        return self.deadline > (<TimerHandle>other).deadline

    def __ge__(self, other):
        if type(other) is not TimerHandle:
            return NotImplemented
        return self.deadline > (<TimerHandle>other).deadline or same_timer(self, <TimerHandle>other)

    def cancel(self):
        """Keep the callback from being called.  O(1)."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self.drop_callback()
            if self.in_heap:
                self.reactor.timer_cancelled(self)


cdef object task_stepped_by(object callback):
    """The task whose step `callback` is, which is what one wants to know of it; else None."""
    try:
        owner = callback.__self__
        return owner if isinstance(owner, asyncio.Task) else None
    except Exception:
        return None


cdef object same_timer(TimerHandle one, TimerHandle other):
    if one is other:
        return True
    return (
        one.deadline == other.deadline and one.is_cancelled == other.is_cancelled
        and one.callback == other.callback and handle_args(one) == handle_args(other))


cdef tuple handle_args(Handle handle):
    if handle.argument_count == 0 or handle.is_cancelled:
        return ()
    if handle.argument_count == 1:
        return (handle.argument,)
    if handle.argument_count == 2:
        return (handle.argument, handle.arguments)
    return handle.arguments


cdef object take_exception():
    """The exception just raised, with its traceback; the error indicator is cleared."""
    cdef PyObject* raised = pl_take_exception()
    if raised == NULL:
        return SystemError("a call failed without an exception")
    exception = <object>raised
    Py_DECREF(exception)
    return exception
