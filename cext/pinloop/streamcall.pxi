# What `StreamReader.read` & co. and `StreamWriter.drain` return.
#
# What is there already is handed over at once; where a call must wait, the task gets one future.

cdef tuple STREAM_OPERATION_NAMES = (
    "StreamReader.read", "StreamReader.read", "StreamReader.readexactly", "StreamReader.readuntil",
    "StreamReader.readline", "StreamReader.__anext__", "StreamWriter.drain",
)


@cython.final
cdef class StreamCall(Call):
    """A call of a stream's method."""

    def __dealloc__(self):
        warn_unawaited(self)

    cdef str qualified_name(self):
        return STREAM_OPERATION_NAMES[<int>self.operation]

    cdef int resumed(self) except -1:
        """It may go on: with what its future says, as an `await` of that would."""
        cdef object future = self.future
        if future is None:
            return 0
        if self.reader is None or self.reader.waiter is future or self.reader.failure is not None:
            if not future.done():
                raise RuntimeError("await wasn't used with future")
            future.result()
        self.future = None
        return 0

    cdef int finish(self) except -1:
        """It is over, one way or another."""
        cdef object future = self.future
        self.state = CALL_DONE
        self.future = None
        if future is not None:
            if self.reader is not None:
                if self.reader.waiter is future:
                    self.reader.waiter = None
            elif future in self.writer.native_protocol._drain_waiters:
                self.writer.native_protocol._drain_waiters.remove(future)
        self.reader = None
        self.writer = None
        self.argument = None
        return 0

    cdef object begin(self):
        """The checks, made when it is first awaited as in a coroutine's body, and a first try."""
        if self.reader is not None and self.reader.exposed is not None:
            self.reader.absorb()
        if self.operation == STREAM_DRAIN:
            return self.begin_drain()
        if self.operation == STREAM_READ or self.operation == STREAM_READEXACTLY:
            # Clipped to what fits: so many bytes there never are.
            self.size = PyNumber_AsSsize_t(self.argument, NULL)
            if self.size < 0 and self.operation == STREAM_READEXACTLY:
                raise ValueError("readexactly size can not be less than zero")
        elif self.operation == STREAM_READUNTIL:
            self.prepare_separators()
        if self.reader.failure is not None:
            raise self.reader.failure
        if self.size == 0 and self.operation <= STREAM_READEXACTLY:
            return b""
        if self.size < 0:
            self.operation = STREAM_READ_ALL
            self.blocks = []
        return self.go_on()

    cdef object proceed(self):
        if self.reader is not None and self.reader.exposed is not None:
            self.reader.absorb()
        self.resumed()
        return self.go_on()

    cdef object go_on(self):
        """The result, or WOULD_BLOCK."""
        if self.operation == STREAM_READ:
            return self.read()
        if self.operation == STREAM_READEXACTLY:
            return self.read_exactly()
        if self.operation == STREAM_DRAIN:
            return self.drain()
        if self.operation == STREAM_READUNTIL:
            return self.read_until()
        if self.operation == STREAM_READ_ALL:
            return self.read_all()
        return self.read_line()

    # ---------------------------------------------------------------- reading --

    cdef object read(self):
        cdef StreamReader reader = self.reader
        cdef object data
        if reader.start == reader.end and not reader.eof and self.offset == 0:
            self.offset = 1           # it waits once: woken, it takes what there is
            reader.wait(self, "read", 0)
            return WOULD_BLOCK
        data = reader.take(self.size)
        if reader.paused:
            reader.ease()
        return data

    cdef object read_all(self):
        """By blocks of up to the limit, so that a paused transport goes on."""
        cdef StreamReader reader = self.reader
        cdef bint waited = self.offset != 0
        while True:
            if reader.failure is not None and not waited:
                raise reader.failure
            if reader.start == reader.end and not waited and not reader.eof:
                self.offset = 1
                reader.wait(self, "read", 0)
                return WOULD_BLOCK
            waited = False
            self.offset = 0
            data = reader.take(<Py_ssize_t>reader.limit)
            reader.ease()
            if not data:
                return self.blocks[0] if len(self.blocks) == 1 else b"".join(self.blocks)
            self.blocks.append(data)

    cdef object read_exactly(self):
        cdef StreamReader reader = self.reader
        cdef object data
        if reader.end - reader.start < self.size:
            if reader.eof:
                raise asyncio.IncompleteReadError(reader.take(self.size), self.argument)
            reader.wait(self, "readexactly", self.size)
            return WOULD_BLOCK
        data = reader.take(self.size)
        if reader.paused:
            reader.ease()
        return data

    cdef object read_line(self):
        cdef StreamReader reader = self.reader
        cdef object line
        try:
            line = self.read_until()
        except asyncio.IncompleteReadError as failure:
            line = failure.partial
        except asyncio.LimitOverrunError as failure:
            if reader.find(NEWLINE, failure.consumed) == failure.consumed:
                reader.take(failure.consumed + 1)
            else:
                reader.take(reader.end - reader.start)
            reader.ease()
            raise ValueError(failure.args[0])
        if self.operation == STREAM_NEXT and not line:
            raise StopAsyncIteration
        return line

    cdef object read_until(self):
        cdef StreamReader reader = self.reader
        cdef Py_ssize_t start, end, live
        cdef Py_ssize_t longest = 1
        if self.separators is not None:
            longest = len(<bytes>self.separators[len(self.separators) - 1])
        end = self.match(&start)
        if end < 0:
            live = reader.end - reader.start
            # The last bytes may be the beginning of a separator.
            self.offset = max(self.offset, live + 1 - longest)
            if <size_t>self.offset > reader.limit:
                raise asyncio.LimitOverrunError(
                    "Separator is not found, and chunk exceed the limit", self.offset)
            if reader.eof:
                raise asyncio.IncompleteReadError(reader.take(live), None)
            reader.wait(self, "readuntil", 0)
            return WOULD_BLOCK
        if <size_t>start > reader.limit:
            raise asyncio.LimitOverrunError("Separator is found, but chunk is longer than limit", start)
        data = reader.take(end)
        if reader.paused:
            reader.ease()
        return data

    cdef int prepare_separators(self) except -1:
        """The separators as bytes, the shortest first; None stands for the newline alone."""
        given = self.argument
        if given is NEWLINE:
            return 0
        separators = sorted(given, key=len) if isinstance(given, tuple) else [given]
        if not separators:
            raise ValueError("Separator should contain at least one element")
        if len(separators[0]) == 0:
            raise ValueError("Separator should be at least one-byte string")
        self.separators = tuple([
            each if PyBytes_CheckExact(each) else bytes(memoryview(each)) for each in separators])
        return 0

    cdef Py_ssize_t match(self, Py_ssize_t* start) noexcept:
        """Where the separator that ends first starts and ends, from the buffer's start; -1: nowhere."""
        cdef StreamReader reader = self.reader
        cdef Py_ssize_t found, size
        cdef Py_ssize_t end = -1
        cdef PyObject* separator
        if self.separators is None:
            start[0] = reader.find(NEWLINE, self.offset)
            return -1 if start[0] < 0 else start[0] + 1
        for i in range(PyTuple_GET_SIZE(self.separators)):
            separator = <PyObject*>PyTuple_GET_ITEM(self.separators, i)
            found = reader.find(<bytes>separator, self.offset)
            size = PyBytes_GET_SIZE(<object>separator)
            if found >= 0 and (end < 0 or found + size < end):
                start[0] = found
                end = found + size
        return end

    # --------------------------------------------------------------- draining --

    cdef object begin_drain(self):
        cdef StreamWriter writer = self.writer
        if writer.native_reader is not None:
            if writer.native_reader.failure is not None:
                raise writer.native_reader.failure
        elif writer.reader is not None:
            failure = writer.reader.exception()
            if failure is not None:
                raise failure
        if writer.closing():
            # One turn, in which connection_lost may be called: else a loop that only writes and
            # drains would never learn of it.
            return WOULD_BLOCK
        return self.drain()

    cdef object drain(self):
        cdef StreamProtocol protocol = self.writer.native_protocol
        if self.offset:
            return None               # it has waited
        if protocol.lost:
            raise ConnectionResetError("Connection lost")
        if not protocol.writing_paused:
            return None
        self.offset = 1
        self.future = new_waiter(protocol.loop)
        protocol._drain_waiters.append(self.future)
        return WOULD_BLOCK


cdef StreamCall make_stream_call(StreamOperation operation, StreamReader reader, object argument):
    cdef StreamCall call = StreamCall.__new__(StreamCall)
    call.operation = operation
    call.reader = reader
    call.argument = argument
    call.size = 1
    call.offset = 0
    call.state = CALL_NEW
    return call


cdef PyObject* step_stream_call(PyObject* self) except? NULL:
    """tp_iternext: what an `await` calls before 3.15."""
    cdef PyObject* result
    cdef Loop loop = None
    if (<StreamCall>self).reader is not None:
        loop = (<StreamCall>self).reader.native_loop
    if (<StreamCall>self).advance(&result) == PYGEN_NEXT:
        return result
    stop_with(loop, result)
    return NULL
