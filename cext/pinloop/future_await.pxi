# How a future is asked and awaited: functions that raise what it holds, without a line of their own in its
# traceback, and the iterator of who awaits by hand.

cdef PyObject* future_result(PyObject* self, PyObject* unused) noexcept:
    cdef Future future = <Future>self
    error = future.outcome()
    if error is not None:
        return pl_raise(<PyObject*>error)
    Py_INCREF(future.held)
    return <PyObject*>future.held


cdef PyObject* future_await(PyObject* self) noexcept:
    """am_await: the future is its own iterator."""
    if (<Future>self).loop is None:
        error = RuntimeError("Future object is not initialized.")
        return pl_raise(<PyObject*>error)
    Py_INCREF(<object>self)
    return self


cdef int future_send(PyObject* self, PyObject* value, PyObject** result) noexcept:
    """am_send: itself while there is no result, for the task to wait for, and then the result."""
    cdef Future future = <Future>self
    if future.state == PENDING:
        future.blocking = True
        Py_INCREF(future)
        result[0] = self
        return PYGEN_NEXT
    error = future.take_failure()
    if error is not None:
        result[0] = pl_raise(<PyObject*>error)
        return PYGEN_ERROR
    Py_INCREF(future.held)
    result[0] = <PyObject*>future.held
    return PYGEN_RETURN


cdef PyObject* future_next(PyObject* self) noexcept:
    """tp_iternext: the same, for the interpreters whose `await` calls this."""
    cdef PyObject* result = NULL
    cdef int what = future_send(self, NULL, &result)
    if what == PYGEN_RETURN:
        pl_stop_iteration(result)
        Py_DECREF(<object>result)
        return NULL
    return result


@cython.final
@cython.internal
cdef class FutureIter:
    """What `__await__` gives to who calls it by hand."""
    cdef Future future           # None once it has ended

    def __iter__(self):
        return self

    def __next__(self):
        return self.advance()

    def send(self, value, /):
        """As `next`: a future makes nothing of a value."""
        return self.advance()

    def throw(self, kind, value=None, traceback=None, /):
        """Raise in the awaiting code what is given."""
        if THROW_TAKES_ONE and (value is not None or traceback is not None):
            warnings.warn("throw() is to be given the exception alone", DeprecationWarning, stacklevel=1)
        self.future = None
        if isinstance(kind, type) and issubclass(kind, BaseException):
            if not isinstance(value, kind):
                value = kind() if value is None else kind(*value) if isinstance(value, tuple) else kind(value)
        elif isinstance(kind, BaseException):
            if value is not None:
                raise TypeError("instance exception may not have a separate value")
            value = kind
        else:
            raise TypeError(f"exceptions must derive from BaseException, not {kind!r}")
        if traceback is not None:
            if not isinstance(traceback, types.TracebackType):
                raise TypeError("throw() third argument must be a traceback")
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        """Wait no more."""
        self.future = None

    cdef object advance(self):
        cdef Future future = self.future
        if future is None:
            raise StopIteration
        if future.state == PENDING:
            if future.blocking:
                raise RuntimeError("await wasn't used with future")
            future.blocking = True
            return future
        self.future = None
        error = future.take_failure()
        if error is not None:
            raise error
        if pl_stop_iteration(<PyObject*>future.held) < 0 or future.held is not None:
            raise take_exception()
        raise StopIteration


cdef object new_future_iter(Future future):
    cdef FutureIter iterator = FutureIter.__new__(FutureIter)
    iterator.future = future
    return iterator
