# The data model, continued from _core.pxd: asyncio's streams, natively.

cdef class StreamReader:
    """What has arrived and nobody has read yet, and the one call that waits for more."""
    cdef object loop             # any asyncio loop, or what stands in for one
    cdef Loop native_loop        # the same, if it is one of ours
    cdef object transport        # whose reading is paused while too much is buffered, or None
    cdef object failure          # set_exception's
    cdef object waiter           # the future that a call waits for, or None
    cdef Py_ssize_t wanted       # it need not be woken while fewer bytes are buffered
    cdef object store            # bytes whose [start, end) is what is buffered; None: nothing is
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef object exposed          # bytearray with all that is buffered, while somebody looks at it; else None
    cdef bint writable           # nobody else has seen `store`: it may be written to, and cut
    cdef size_t limit            # half of what is buffered before the transport is paused
    cdef object given_limit      # as it was given
    cdef bint eof
    cdef bint paused
    cdef public object _source_traceback

    cdef int feed(self, object data) except -1
    cdef int append(self, object data) except -1
    cdef int make_room(self, Py_ssize_t more) except -1
    cdef int absorb(self) except -1
    cdef object take(self, Py_ssize_t count)
    cdef int wake(self) except -1
    cdef int wait(self, StreamCall call, str method, Py_ssize_t wanted) except -1
    cdef int ease(self) except -1
    cdef Py_ssize_t find(self, bytes separator, Py_ssize_t offset) noexcept


cdef class StreamProtocol:
    """Between a transport and a StreamReader: what arrives, and the flow control of a StreamWriter."""
    cdef object loop
    cdef object reader           # any StreamReader, or None
    cdef StreamReader native_reader   # the same, if its feed_data is ours
    cdef object drain_waiters    # deque of futures; None until the first
    cdef bint writing_paused
    cdef bint lost               # connection_lost was called
    cdef bint over_tls

    cdef int receive(self, object data) except -1


cdef class StreamWriter:
    """The writing half of a stream: a transport, with `drain` by way of its protocol."""
    cdef object loop
    cdef readonly object transport
    cdef StreamTransport native_transport   # the same, if it is one
    cdef object protocol
    cdef StreamProtocol native_protocol     # the same, if it is one
    cdef object reader           # any StreamReader, or None
    cdef StreamReader native_reader

    cdef int bind_transport(self, object transport) except -1
    cdef bint closing(self) except -1


cdef enum StreamOperation:
    STREAM_READ
    STREAM_READ_ALL
    STREAM_READEXACTLY
    STREAM_READUNTIL
    STREAM_READLINE
    STREAM_NEXT                  # of `async for`
    STREAM_DRAIN


@cython.final
cdef class StreamCall(Call):
    """What a method of a stream returns that may have to wait: a coroutine in all but its type."""
    cdef StreamOperation operation
    cdef StreamReader reader     # None: of STREAM_DRAIN
    cdef StreamWriter writer     # of STREAM_DRAIN, else None
    cdef object argument         # as given: a size or separators
    cdef tuple separators        # of argument: bytes, the shortest first
    cdef Py_ssize_t size         # of argument
    cdef Py_ssize_t offset       # so far from the buffer's start there is no separator
    cdef list blocks             # what STREAM_READ_ALL has read

    cdef int resumed(self) except -1
    cdef object go_on(self)
    cdef object read(self)
    cdef object read_all(self)
    cdef object read_exactly(self)
    cdef object read_line(self)
    cdef object read_until(self)
    cdef int prepare_separators(self) except -1
    cdef Py_ssize_t match(self, Py_ssize_t* start) noexcept
    cdef object begin_drain(self)
    cdef object drain(self)
