# Call: what a native method returns that may have to wait.
#
# A coroutine in all but its type: `await`, tasks, asyncio.iscoroutine and `send` by hand find what they look
# for.  What need not wait is handed over without a frame, a future or a turn of the loop; what
# must, makes the task wait for one future.

cdef object WOULD_BLOCK = object()    # instead of a result


cdef class Call:
    """To be awaited once.  A coroutine in all but its type."""

    def __cinit__(self):
        self.state = CALL_DONE        # until it is filled

    def __await__(self):
        if self.state != CALL_NEW:
            self.refuse_state()
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef PyObject* result
        cdef int outcome = self.advance(&result)
        value = <object>result
        Py_DECREF(value)
        if outcome == PYGEN_NEXT:
            return value
        raise StopIteration(value)

    def send(self, value, /):
        """Go on; what to wait for, or StopIteration with the result."""
        if value is not None and self.state == CALL_NEW:
            raise TypeError("can't send non-None value to a just-started coroutine")
        return self.__next__()

    def throw(self, typ, val=None, tb=None, /):
        """Give up what it waits for, and raise the exception."""
        if self.state == CALL_RUNNING:
            self.refuse_state()
        self.finish()
        raise thrown(typ, val, tb)

    def close(self):
        """Give up what it waits for."""
        if self.state == CALL_RUNNING:
            self.refuse_state()
        self.finish()

    @property
    def __name__(self):
        return self.qualified_name().rpartition(".")[2]

    @property
    def __qualname__(self):
        return self.qualified_name()

    @property
    def cr_await(self):
        return self.future

    @property
    def cr_running(self):
        return self.state == CALL_RUNNING

    @property
    def cr_suspended(self):
        return self.state == CALL_WAITING

    @property
    def cr_frame(self):
        return None

    @property
    def cr_code(self):
        return None

    @property
    def cr_origin(self):
        return None

    def __repr__(self):
        return f"<coroutine object {self.qualified_name()} at {<size_t><PyObject*>self:#x}>"

    # ------------------------------------------------------------- for each kind --

    cdef str qualified_name(self):
        raise NotImplementedError

    cdef object begin(self):
        """The result, or WOULD_BLOCK with what to wait for in `future` (None: the next turn)."""
        raise NotImplementedError

    cdef object proceed(self):
        """The same, once what it waited for is there."""
        raise NotImplementedError

    cdef int finish(self) except -1:
        """It is over, one way or another: whether the state was CALL_WAITING tells if it gives up."""
        self.state = CALL_DONE
        self.future = None
        return 0

    # -------------------------------------------------------------- its course --

    @cython.final
    cdef int advance(self, PyObject** result) except -1:
        """Begin or go on; `result` is the outcome, with PYGEN_NEXT what to wait for."""
        cdef object outcome
        cdef CallState before = self.state
        result[0] = NULL
        if before == CALL_RUNNING or before == CALL_DONE:
            self.refuse_state()
        self.state = CALL_RUNNING
        try:
            outcome = self.begin() if before == CALL_NEW else self.proceed()
        except BaseException:
            self.finish()
            raise
        if outcome is WOULD_BLOCK:
            self.state = CALL_WAITING
            outcome = mark_awaited(self.future)
            Py_INCREF(outcome)
            result[0] = <PyObject*>outcome
            return PYGEN_NEXT
        self.finish()
        Py_INCREF(outcome)
        result[0] = <PyObject*>outcome
        return PYGEN_RETURN

    @cython.final
    cdef int refuse_state(self) except -1:
        if self.state == CALL_RUNNING:
            raise ValueError("coroutine already executing")
        if self.state == CALL_WAITING:
            raise RuntimeError("coroutine is being awaited already")
        raise RuntimeError("cannot reuse already awaited coroutine")


cdef inline object mark_awaited(object future):
    """The future, or None, as a task wants to have it that is to wait for it."""
    if type(future) is Future:
        (<Future>future).blocking = True
    elif future is not None:
        future._asyncio_future_blocking = True
    return future


cdef object thrown(object typ, object val, object tb):
    """The exception that `throw` was given."""
    if val is None:
        val = typ() if isinstance(typ, type) else typ
    elif not isinstance(val, BaseException):
        val = typ(val)
    return val if tb is None else val.with_traceback(tb)


cdef int warn_unawaited(Call call) except -1:
    """A call that nobody awaited is about to vanish; to be called by the deallocator of its type."""
    if call.state == CALL_NEW:
        warnings.warn(f"coroutine {call.qualified_name()!r} was never awaited", RuntimeWarning)
    return 0


cdef int resume_call(PyObject* self, PyObject* value, PyObject** result) except -1:
    """am_send: what a task and, from 3.15 on, an `await` call."""
    if <object>value is not None and (<Call>self).state == CALL_NEW:
        raise TypeError("can't send non-None value to a just-started coroutine")
    return (<Call>self).advance(result)


cdef PyObject* step_call(PyObject* self) except? NULL:
    """tp_iternext: what an `await` calls before 3.15."""
    cdef PyObject* result
    if (<Call>self).advance(&result) == PYGEN_NEXT:
        return result
    stop_with(None, result)
    return NULL


cdef inline void stop_with(Loop loop, PyObject* result) noexcept:
    """Raise what a tp_iternext ends by that has a result, whose reference is given away.

    `loop`: whose it is, if it is one of ours.  Not for helpers that return to Cython: there it is an error.
    """
    if result == <PyObject*>None:
        Py_DECREF(None)
    elif PL_STOPS_ARE_MADE and loop is not None:
        pl_stop_with(<PyObject*>loop, &loop.kept_stop, result)
    else:
        pl_stop_iteration(result)
        Py_DECREF(<object>result)


cdef PyObject* await_call(PyObject* self) except NULL:
    """am_await."""
    if (<Call>self).state != CALL_NEW:
        (<Call>self).refuse_state()
    Py_INCREF(<object>self)
    return self


@cython.final
@cython.internal
cdef class Done:
    """An awaitable whose result is None and there already; it may be awaited any number of times."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


cdef Done DONE = Done.__new__(Done)


cdef PyObject* await_itself(PyObject* self) noexcept:
    """am_await of what is its own iterator, in whatever state it is."""
    Py_INCREF(<object>self)
    return self


cdef int send_done(PyObject* self, PyObject* value, PyObject** result) noexcept:
    """am_send."""
    Py_INCREF(None)
    result[0] = <PyObject*>None
    return PYGEN_RETURN


cdef PyObject* step_done(PyObject* self) noexcept:
    """tp_iternext: without an exception it means None."""
    return NULL
