# asyncio's streams, natively: StreamReader, StreamWriter and the protocol between them and a transport.
#
# pinloop._streams makes asyncio's classes of these, with what runs once per connection. They
# work on any asyncio loop and with any transport; with a StreamTransport of ours what arrives
# goes from the receive into the reader, and what is written into the transport's queue, without
# a call in Python.
#
# A chunk that arrives while nothing is buffered is kept as the bytes object it is, and handed
# over as that if it is read whole. Only what comes on top of unread bytes is copied together.

cdef enum:
    USUAL_LIMIT = 64 * 1024


cdef object new_waiter(object loop):
    """A future for a task to wait for: whatever the loop makes."""
    if isinstance(loop, Loop):
        return make_future(<Loop>loop)
    return loop.create_future()


cdef class StreamReader:
    """The native half of `pinloop.StreamReader`."""

    def __init__(self, limit=USUAL_LIMIT, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        self.limit = whole_bytes(limit)
        self.given_limit = limit
        self.loop = asyncio.get_event_loop() if loop is None else loop
        self.native_loop = <Loop>self.loop if isinstance(self.loop, Loop) else None
        if self.loop.get_debug():
            self._source_traceback = where_called()

    # ------------------------------------------------------------ being fed --

    def feed_data(self, data):
        """Take in bytes-like `data`: what a protocol does with what it receives.

        Pauses the transport's reading once more than twice the limit is buffered.
        """
        assert not self.eof, "feed_data after feed_eof"
        if not data:
            return
        self.feed(data if PyBytes_CheckExact(data) else PyBytes_FromObject(data))

    cdef int feed(self, object data) except -1:
        """The same for an exact bytes object that is not empty."""
        cdef size_t held
        if self.exposed is not None:
            self.absorb()
        self.append(data)
        if self.waiter is not None:
            if self.end - self.start < self.wanted:
                return 0      # it would only wait again; paused, it could not
            self.wake()
        held = <size_t>(self.end - self.start)
        if held <= self.limit or held - self.limit <= self.limit or self.paused or self.transport is None:
            return 0
        try:
            self.transport.pause_reading()
        except NotImplementedError:
            self.transport = None     # it cannot be paused, and is not asked again: all there is is buffered
        else:
            self.paused = True
        return 0

    def feed_eof(self):
        """Nothing more will come: what waits gets what there is."""
        self.eof = True
        self.wake()

    def set_exception(self, exc):
        """Have every later read, and the one that waits, raise `exc`."""
        cdef object waiter = self.waiter
        self.failure = exc
        self.waiter = None
        if waiter is not None and not waiter.cancelled():
            waiter.set_exception(exc)

    def exception(self):
        """What `set_exception` was given, or None."""
        return self.failure

    def at_eof(self):
        """Whether all was read and nothing more will come."""
        if self.exposed is not None:
            self.absorb()
        return self.eof and self.start == self.end

    cdef int wake(self) except -1:
        """Let the call that waits go on."""
        cdef object waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if type(waiter) is Future:
                return 0 if (<Future>waiter).state != PENDING else (<Future>waiter).settle(None, False)
            try:
                waiter.set_result(None)
            except asyncio.InvalidStateError:
                if not waiter.cancelled():
                    raise
        return 0

    # -------------------------------------------------------------- the buffer --

    cdef int append(self, object data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if self.start == self.end:
            self.store = data
            self.writable = False
            self.start = 0
            self.end = size
            return 0
        if not self.writable or PyBytes_GET_SIZE(self.store) - self.end < size:
            self.make_room(size)
        memcpy(PyBytes_AS_STRING(self.store) + self.end, PyBytes_AS_STRING(data), size)
        self.end += size
        return 0

    cdef int make_room(self, Py_ssize_t more) except -1:
        """Have `more` bytes of room at the end of `store`, and the right to write there."""
        cdef Py_ssize_t live = self.end - self.start
        cdef Py_ssize_t capacity
        cdef char* base = PyBytes_AS_STRING(self.store)
        cdef object fresh
        if self.writable and self.start >= live and PyBytes_GET_SIZE(self.store) - live >= more:
            memmove(base, base + self.start, live)
        else:
            capacity = 2 * (live + more)
            if live + more <= self.wanted < capacity and self.waiter is not None:
                capacity = self.wanted        # filled, it is what will be handed over
            fresh = PyBytes_FromStringAndSize(NULL, capacity)
            memcpy(PyBytes_AS_STRING(fresh), base + self.start, live)
            self.store = fresh
            self.writable = True
        self.start = 0
        self.end = live
        return 0

    cdef int absorb(self) except -1:
        """Take back the buffer that somebody asked for by `_buffer`."""
        cdef object exposed = self.exposed
        self.exposed = None
        if exposed:
            self.append(bytes(exposed))     # there is nothing else: it was moved there
        return 0

    cdef object take(self, Py_ssize_t count):
        """The first `count` of the buffered bytes, or all there are."""
        cdef Py_ssize_t live = self.end - self.start
        cdef object store = self.store
        cdef object data
        cdef PyObject* whole
        if count < live:
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(store) + self.start, count)
            self.start += count
            return data
        if live == 0:
            return b""
        if self.start == 0 and live == PyBytes_GET_SIZE(store):
            data = store
        elif self.start == 0 and self.writable:
            whole = <PyObject*>store
            Py_INCREF(store)
            self.store = store = None     # take_bytes gets the only reference
            data = take_bytes(whole, live)
        else:
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(store) + self.start, live)
        self.store = None
        self.start = self.end = 0
        return data

    cdef Py_ssize_t find(self, bytes separator, Py_ssize_t offset) noexcept:
        """Where `separator` is, `offset` or more bytes behind the buffer's start; -1 if nowhere."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(separator)
        cdef Py_ssize_t left = self.end - self.start - offset
        cdef char* base
        cdef char* found
        if left < size:
            return -1
        base = PyBytes_AS_STRING(self.store) + self.start
        if size == 1:
            found = <char*>memchr(base + offset, PyBytes_AS_STRING(separator)[0], left)
        else:
            found = <char*>memmem(base + offset, left, PyBytes_AS_STRING(separator), size)
        return -1 if found == NULL else found - base

    cdef int ease(self) except -1:
        """Resume the transport's reading if it was paused and the buffer is down to the limit."""
        if self.paused and <size_t>(self.end - self.start) <= self.limit:
            self.paused = False
            self.transport.resume_reading()
        return 0

    cdef int wait(self, StreamCall call, str method, Py_ssize_t wanted) except -1:
        """Have `call` wait until `wanted` bytes are buffered (0: until any come), or the end."""
        if self.waiter is not None:
            raise RuntimeError(
                f"{method}() called while another coroutine is already waiting for incoming data")
        assert not self.eof, "_wait_for_data after EOF"
        if self.paused:               # else it would wait for ever
            self.paused = False
            self.transport.resume_reading()
        call.future = self.waiter = new_waiter(self.loop)
        self.wanted = wanted
        return 0

    # ------------------------------------------------------------- the reading --

    def read(self, n=-1):
        """Read up to `n` bytes, as soon as there are any; with n = -1 all up to the end.

        b"" at the end, or for n = 0. Raises what `set_exception` was given, and RuntimeError
        while another call waits. Cancelled, it has taken nothing of the buffer (a read up to
        the end, though, loses what it had).
        """
        return make_stream_call(STREAM_READ, self, n)

    def readexactly(self, n):
        """Read `n` bytes.

        Raises asyncio.IncompleteReadError with what there was if the end comes before, and
        ValueError for a negative `n`; else as `read`. Cancelled, it has taken nothing.
        """
        return make_stream_call(STREAM_READEXACTLY, self, n)

    def readuntil(self, separator=b"\n"):
        """Read up to `separator`, and that too; of a tuple of separators, up to whichever ends first.

        Raises asyncio.LimitOverrunError, and leaves the buffer as it is, if there are more bytes
        than the limit before it; asyncio.IncompleteReadError with what there was if the end
        comes first; ValueError for an empty separator; else as `read`. Cancelled, it has
        taken nothing.
        """
        return make_stream_call(STREAM_READUNTIL, self, separator)

    def readline(self):
        """Read a line with its b"\\n"; at the end what there is, at last b"".

        Raises ValueError for a line longer than the limit, which is dropped (what has come of
        it, if its end has not); else as `read`. Cancelled, it has taken nothing.
        """
        return make_stream_call(STREAM_READLINE, self, NEWLINE)

    def __aiter__(self):
        return self

    def __anext__(self):
        return make_stream_call(STREAM_NEXT, self, NEWLINE)

    # ------------------------------------------------- for protocols and the like --

    def set_transport(self, transport):
        """Have a transport, whose reading is paused while too much is buffered."""
        assert self.transport is None, "Transport already set"
        self.transport = transport

    def _replace_transport(self, transport):
        assert self.transport is not None, "Transport not set"
        self.transport = transport

    def _wakeup_waiter(self):
        self.wake()

    def _maybe_resume_transport(self):
        self.absorb()
        self.ease()

    # What asyncio's own classes, tools and tests read of a reader.

    @property
    def _buffer(self):
        """What is buffered, as a bytearray that may be changed; it counts until the reader is used again."""
        if self.exposed is None:
            self.exposed = bytearray(self.take(self.end - self.start))
        return self.exposed

    @_buffer.setter
    def _buffer(self, data):
        self.absorb()
        self.take(self.end - self.start)
        self.exposed = bytearray(data)

    @property
    def _limit(self):
        return self.given_limit

    @property
    def _loop(self):
        return self.loop

    @property
    def _eof(self):
        return self.eof

    @property
    def _paused(self):
        return self.paused

    @_paused.setter
    def _paused(self, bint paused):
        self.paused = paused

    @property
    def _exception(self):
        return self.failure

    @property
    def _waiter(self):
        return self.waiter

    @_waiter.setter
    def _waiter(self, waiter):
        self.waiter = waiter
        self.wanted = 0

    @property
    def _transport(self):
        return self.transport

    @_transport.setter
    def _transport(self, transport):
        self.transport = transport


cdef bytes NEWLINE = b"\n"
cdef object FEED_DATA = StreamReader.feed_data
