# What every transport is: a watcher that calls a protocol, in a context of its own.

cdef enum:
    LOST_WRITES_TOLD = 5       # as asyncio: the fifth write to a dead connection is logged


# What `isinstance` finds, where asyncio's own transport is more than one thing, or known by its name.

class _DatagramTransport(asyncio.DatagramTransport, asyncio.Transport):
    __slots__ = ()


class _SSLTransport(asyncio.Transport):
    __slots__ = ()


cdef class Transport(Watcher):

    def __cinit__(self):
        if PL_WANTS_DICTS:
            attributes = {}
            Py_INCREF(attributes)
            self.attributes = <PyObject*>attributes

    def __dealloc__(self):
        Py_CLEAR(self.attributes)

    @property
    def __dict__(self):
        return PyObject_GenericGetDict(self, NULL)

    def __del__(self):
        if self.fd >= 0:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                self.release_fd()     # also where warnings are errors

    cdef int release_fd(self) except -1:
        """Give the fd back, in those that have one."""
        return 0

    cdef int protocol_failed(self, str method, object exception=None) except -1:
        """A protocol's method raised; what that costs is for each kind to say."""
        raise NotImplementedError(f"{type(self).__name__}.protocol_failed")

    @cython.final
    cdef PyObject* tell(self, object method, PyObject* argument) noexcept:
        """Call a protocol's method in the connection's context; NULL when it raised."""
        cdef PyObject* stack[2]
        cdef PyObject* result
        cdef PyObject* context = <PyObject*>self.context     # it never gets another
        # A callback that writes may meet pause_writing: its context is entered already.
        cdef bint entered = self.in_context
        stack[1] = argument
        if not entered:
            if PyContext_Enter(context) < 0:
                PyErr_Clear()     # the caller itself runs in this context
                entered = True
            else:
                self.in_context = True
        result = PyObject_Vectorcall(
            <PyObject*>method, &stack[1], (argument != NULL) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        if not entered:
            self.in_context = False
            PyContext_Exit(context)
        return result

    @cython.final
    cdef PyObject* tell_protocol(self, str name, PyObject* argument) noexcept:
        """The same for a method that is not kept at hand; a missing one is a fault like any other."""
        cdef PyObject* method = PyObject_GetAttr(<PyObject*>self.protocol, <PyObject*>name)
        cdef PyObject* result
        if method == NULL:
            return NULL
        result = self.tell(<object>method, argument)
        Py_DECREF(<object>method)
        return result

    @cython.final
    cdef int hand_over(self, object method, str name, PyObject* argument) except -1:
        """Call a protocol's method, of this name, for what it does; if it raises, protocol_failed."""
        cdef PyObject* result = self.tell(method, argument)
        if result == NULL:
            return self.protocol_failed(name)
        Py_DECREF(<object>result)
        return 0

    @cython.final
    cdef int notify(self, str name, PyObject* argument) except -1:
        """The same for a method that is not kept at hand."""
        cdef PyObject* result = self.tell_protocol(name, argument)
        if result == NULL:
            return self.protocol_failed(name)
        Py_DECREF(<object>result)
        return 0

    @cython.final
    cdef int remember(self, str name, object value) except -1:
        if self.extra is None:
            self.extra = {}
        self.extra[name] = value
        return 0

    @cython.final
    cdef int report_fault(self, str method, object exception) except -1:
        """A protocol's method raised: KeyboardInterrupt and SystemExit go on, all else is reported."""
        if is_exit(exception):
            raise exception
        return self.reactor.report({
            "message": f"Fatal error: protocol.{method}() call failed.",
            "exception": exception, "transport": self, "protocol": self.protocol,
        })

    @cython.final
    cdef int told_slow(self, int64_t start) except -1:
        """Debug mode: what ran since `start` (ns) is reported if it held the loop up."""
        cdef double took = (self.reactor.poller.now() - start) / 1e9
        if took >= self.reactor.slow_callback_duration:
            logger.warning("Executing %r for %r took %.3f seconds", self, self.protocol, took)
        return 0

    @cython.final
    cdef int written_too_late(self, str text) except -1:
        self.lost_writes += 1
        if self.lost_writes == LOST_WRITES_TOLD:
            logger.warning("%r: %s", self, text)
        return 0

    @cython.final
    cdef int set_limits(self, object high, object low, size_t usual) except -1:
        """set_write_buffer_limits: `usual` is `high` where neither is given."""
        if high is None:
            high = usual if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high, self.low = whole_bytes(high), whole_bytes(low)
        return 0

    @cython.final
    cdef int check_pressure(self, size_t waiting) except -1:
        """Tell pause_writing once so many bytes are too many."""
        if self.writing_paused or waiting <= self.high:
            return 0
        self.writing_paused = True
        return self.notify("pause_writing", NULL)

    @cython.final
    cdef int relieve_pressure(self, size_t waiting) except -1:
        """Tell resume_writing once they are few again."""
        if not self.writing_paused or waiting > self.low:
            return 0
        self.writing_paused = False
        return self.notify("resume_writing", NULL)


cdef object MOST_BYTES = sys.maxsize

cdef size_t whole_bytes(object limit) except? 0:
    """A limit as a number of bytes: no buffer outgrows an infinite one, nor half a byte."""
    if limit >= MOST_BYTES:
        return MOST_BYTES
    return int(limit) if isinstance(limit, float) else operator.index(limit)


cdef object take_bytes(PyObject* data, Py_ssize_t size):
    """The bytes object cut down to what of it was filled; the caller's reference goes over."""
    if _PyBytes_Resize(&data, size) < 0:
        raise MemoryError()
    whole = <object>data
    Py_DECREF(whole)
    return whole
