# TCP transports: one connected socket and its protocol.
#
# Reads.  Small ones land in the loop's scratch buffer and are copied into bytes of the
# right size; after a large one the next is read straight into the bytes handed over.
# Pausing is lazy: the registration ends only when an event arrives meanwhile, so a
# pause and resume between two events costs no system call.
#
# Writes.  Small ones are gathered and leave in one system call in the flush phase of
# the turn; large ones go at once.  bytes are kept by reference; anything mutable is
# copied when it cannot be sent at once.

cdef enum:
    SCRATCH_SIZE = 256 * 1024
    LARGE_READ = 32 * 1024     # a read this large makes the next a large read
    SMALL_READ = 16 * 1024     # and one below this ends that
    LARGE_WRITE = 32 * 1024    # gathered bytes that are not worth holding back
    HIGH_WATER = 64 * 1024
    LOST_WRITES_TOLD = 5       # as asyncio: the fifth write to a dead connection is logged

cdef tuple STATE_NAMES = ("new", "open", "closing", "lost", "closed")


@cython.final
cdef class StreamTransport(Watcher):
    """A connected stream socket.  Stands in for asyncio.Transport, `isinstance` included."""

    def __cinit__(self):
        out_init(&self.out)
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4

    def __dealloc__(self):
        out_clear(&self.out)

    def __del__(self):
        if self.fd >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.release_fd()

    @property
    def __class__(self):
        return asyncio.Transport

    def __repr__(self):
        parts = [f"<pinloop.StreamTransport {STATE_NAMES[<int>self.state]}"]
        if self.fd >= 0:
            parts.append(f"fd={self.fd}")
            parts.append("read=paused" if self.reading_paused else "read=polling")
            parts.append(f"write=<{'polling' if self.blocked else 'idle'}, bufsize={self.out.size}>")
        return f"{' '.join(parts)}>"

    # ------------------------------------------------------------- lifetime --

    cdef int set_state(self, StreamState state) except -1:
        if state < self.state:
            raise SystemError(f"{self!r} cannot go back to {STATE_NAMES[<int>state]}")
        self.state = state
        return 0

    cdef int bind_protocol(self, object protocol) except -1:
        self.protocol = protocol
        self.buffered = isinstance(protocol, asyncio.BufferedProtocol)
        if self.buffered:
            self.receive = protocol.get_buffer
            self.received = protocol.buffer_updated
        else:
            # A protocol that never reads (a bare BaseProtocol) fails when bytes arrive, not here.
            self.receive = getattr(protocol, "data_received", None)
            self.received = None
        return 0

    cdef int begin(self) except -1:
        """Tell the protocol that it is connected, then start to read."""
        cdef PyObject* result
        if self.state == STREAM_NEW:
            self.set_state(STREAM_OPEN)
        result = self.tell(self.protocol.connection_made, <PyObject*>self)
        if result == NULL:
            return self.protocol_failed("connection_made")
        Py_DECREF(<object>result)
        if self.out.count:
            self.push_out()       # written between the making and now
        return self.want()

    def _begin(self, waiter):
        """The same, scheduled by a connect; `waiter` learns when it is done."""
        try:
            self.begin()
        finally:
            if not waiter.done():
                waiter.set_result(None)

    cdef int want(self) except -1:
        """Match the registration to the state."""
        cdef uint32_t mask = 0
        if self.state == STREAM_OPEN and not self.reading_paused and not self.eof_received:
            mask = EV_READ
        if self.blocked and self.state < STREAM_LOST:
            mask |= EV_WRITE
        if self.fd < 0 or (mask == self.interest and mask):
            return 0
        return self.reactor.watch(self, mask)

    cdef int lose(self, object exception) except -1:
        """End the connection: nothing more is sent, connection_lost(exception) is scheduled."""
        if self.state >= STREAM_LOST:
            return 0
        self.set_state(STREAM_LOST)
        self.blocked = False
        out_clear(&self.out)
        self.want()
        return self.loop.soon(self._deliver_connection_lost, <PyObject*>exception, self.context)

    def _deliver_connection_lost(self, exception):
        server, self.server = self.server, None
        protocol = self.protocol
        try:
            protocol.connection_lost(exception)
        except BaseException as failure:
            if is_exit(failure):
                raise
            self.reactor.report({
                "message": "Fatal error: protocol.connection_lost() call failed.",
                "exception": failure, "transport": self, "protocol": protocol,
            })
        finally:
            self.release_fd()
            self.set_state(STREAM_CLOSED)
            self.protocol = self.receive = self.received = None
            if server is not None:
                server._detach(self)

    cdef int release_fd(self) except -1:
        cdef int fd = self.fd
        cdef object sock = self.sock
        if fd < 0:
            return 0
        self.reactor.unwatch(self)
        self.fd = -1
        self.sock = None
        if sock is not None:
            sock.close()
        else:
            close(fd)
        return 0

    def close(self):
        """Stop reading, send what was written, then close; `connection_lost(None)` follows."""
        if self.state >= STREAM_CLOSING:
            return
        self.set_state(STREAM_CLOSING)
        if self.out.count == 0:
            self.lose(None)
        else:
            self.want()

    def abort(self):
        """Close at once, dropping what was not sent; `connection_lost(None)` follows."""
        self.lose(None)

    def _force_close(self, exception):
        """Close at once; `connection_lost(exception)` follows."""
        self.lose(exception)

    def is_closing(self):
        """Whether it is closed or about to be."""
        return self.state >= STREAM_CLOSING

    # ------------------------------------------------------------- protocol --

    def set_protocol(self, protocol):
        """Hand what happens from now on to another protocol."""
        self.bind_protocol(protocol)

    def get_protocol(self):
        """The current protocol; None once the connection is closed."""
        return self.protocol

    cdef PyObject* tell(self, object method, PyObject* argument) noexcept:
        """Call a protocol's method in the connection's context; NULL when it raised."""
        cdef PyObject* stack[2]
        cdef PyObject* result
        cdef object context = self.context
        # A callback that writes may meet pause_writing: its context is entered already.
        cdef bint entered = self.in_context
        stack[1] = argument
        if not entered:
            if PyContext_Enter(<PyObject*>context) < 0:
                PyErr_Clear()     # the caller itself runs in this context
                entered = True
            else:
                self.in_context = True
        result = PyObject_Vectorcall(
            <PyObject*>method, &stack[1], (argument != NULL) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        if not entered:
            self.in_context = False
            PyContext_Exit(<PyObject*>context)
        return result

    cdef int protocol_failed(self, str method) except -1:
        """A protocol's fault: reported, and it costs this connection only."""
        exception = take_exception()
        if is_exit(exception):
            self.lose(exception)
            raise exception
        self.reactor.report({
            "message": f"Fatal error: protocol.{method}() call failed.",
            "exception": exception, "transport": self, "protocol": self.protocol,
        })
        return self.lose(exception)

    cdef int io_failed(self, int error, str doing) except -1:
        """The peer's or the network's fault: connection_lost tells the protocol, nobody else."""
        exception = os_error(error, doing)
        if self.reactor.debug:
            logger.debug("%r: %s", self, exception)
        return self.lose(exception)

    # -------------------------------------------------------------- reading --

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef bint timed = self.reactor.debug
        cdef int64_t start = self.reactor.poller.now() if timed else 0
        if mask & EV_READ:
            self.read_ready()
        if mask & EV_WRITE and self.blocked:
            self.send_queue()
        if timed:
            self.told_slow((self.reactor.poller.now() - start) / 1e9)
        return 0

    cdef int told_slow(self, double took) except -1:
        if took >= self.reactor.slow_callback_duration:
            logger.warning("Executing %r for %r took %.3f seconds", self, self.protocol, took)
        return 0

    cdef int read_ready(self) except -1:
        if self.state != STREAM_OPEN or self.reading_paused or self.eof_received:
            return self.want()
        if self.buffered:
            return self.read_into_buffer()
        if self.large_reads:
            return self.read_large()
        return self.read_small()

    cdef int read_small(self) except -1:
        cdef char* scratch = self.loop.scratch
        cdef ssize_t n = recv(self.fd, scratch, SCRATCH_SIZE, 0)
        if n <= 0:
            return self.read_nothing(n, errno)
        self.large_reads = n >= LARGE_READ
        return self.deliver(PyBytes_FromStringAndSize(scratch, n))

    cdef int read_large(self) except -1:
        cdef PyObject* data = PyBytes_AllocRaw(NULL, SCRATCH_SIZE)
        cdef ssize_t n
        cdef int error
        if data == NULL:
            raise MemoryError()
        n = recv(self.fd, PyBytes_AS_STRING(<object>data), SCRATCH_SIZE, 0)
        if n <= 0:
            error = errno
            Py_DECREF(<object>data)
            return self.read_nothing(n, error)
        self.large_reads = n >= SMALL_READ
        if _PyBytes_Resize(&data, n) < 0:
            raise MemoryError()
        whole = <object>data
        Py_DECREF(whole)
        return self.deliver(whole)

    cdef int deliver(self, object data) except -1:
        cdef object receive = self.receive   # held: the callback may set another protocol
        cdef PyObject* result = self.tell(receive, <PyObject*>data)
        if result == NULL:
            return self.protocol_failed("data_received")
        Py_DECREF(<object>result)
        return 0

    cdef int read_into_buffer(self) except -1:
        cdef Py_buffer view
        cdef PyObject* buffer
        cdef PyObject* result
        cdef object received = self.received
        cdef object hint = -1
        cdef object count
        cdef ssize_t n
        cdef int error
        buffer = self.tell(self.receive, <PyObject*>hint)
        if buffer == NULL:
            return self.protocol_failed("get_buffer")
        owner = <object>buffer
        Py_DECREF(owner)
        try:
            PyObject_GetBuffer(owner, &view, PyBUF_WRITABLE)
            if view.len == 0:
                PyBuffer_Release(&view)
                raise RuntimeError("get_buffer() returned an empty buffer")
        except BaseException as failure:
            return self.buffer_failed(failure)
        n = recv(self.fd, view.buf, view.len, 0)
        error = errno
        PyBuffer_Release(&view)
        if n <= 0:
            return self.read_nothing(n, error)
        count = n
        result = self.tell(received, <PyObject*>count)
        if result == NULL:
            return self.protocol_failed("buffer_updated")
        Py_DECREF(<object>result)
        return 0

    cdef int buffer_failed(self, object failure) except -1:
        if is_exit(failure):
            raise failure
        self.reactor.report({
            "message": "Fatal error: protocol.get_buffer() call failed.",
            "exception": failure, "transport": self, "protocol": self.protocol,
        })
        return self.lose(failure)

    cdef int read_nothing(self, ssize_t result, int error) except -1:
        if result == 0:
            return self.read_eof()
        if would_block(error):
            return 0
        return self.io_failed(error, "recv")

    cdef int read_eof(self) except -1:
        cdef PyObject* result
        self.eof_received = True
        self.want()
        result = self.tell(self.protocol.eof_received, NULL)
        if result == NULL:
            return self.protocol_failed("eof_received")
        keep_open = <object>result
        Py_DECREF(keep_open)
        if not keep_open:
            self.close()
        return 0

    def pause_reading(self):
        """Deliver nothing until `resume_reading`; the peer is held up by TCP's own flow control."""
        self.reading_paused = True

    def resume_reading(self):
        """Deliver again."""
        if self.reading_paused:
            self.reading_paused = False
            if self.state == STREAM_OPEN:
                self.want()

    def is_reading(self):
        """Whether bytes that arrive are delivered."""
        return self.state < STREAM_CLOSING and not self.reading_paused

    # -------------------------------------------------------------- writing --

    def write(self, data):
        """Send bytes-like `data`, without blocking: what the kernel does not take is queued.

        It leaves at the latest in the flush phase of this turn.  Raises TypeError for
        what is not bytes-like and RuntimeError after `write_eof`.  On a connection that
        is closed or lost it does nothing (the fifth time it logs a warning).
        """
        if not PyBytes_CheckExact(data) and not PyObject_CheckBuffer(data):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.eof_requested:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.state >= STREAM_CLOSING:
            self.written_too_late()
            return
        self.enqueue(data)
        if self.out.count:
            self.push_out()

    def writelines(self, list_of_data):
        """Send several bytes-like objects, in one system call where the kernel takes them."""
        if self.eof_requested:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        parts = list(list_of_data)
        for data in parts:
            if not PyObject_CheckBuffer(data):
                raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.state >= STREAM_CLOSING:
            self.written_too_late()
            return
        for data in parts:
            self.enqueue(data if PyBytes_CheckExact(data) else bytes(data))
        if self.out.count:
            self.push_out()

    cdef int written_too_late(self) except -1:
        self.lost_writes += 1
        if self.lost_writes == LOST_WRITES_TOLD:
            logger.warning("%r: write() on a connection that is closed or lost", self)
        return 0

    cdef int enqueue(self, object data) except -1:
        if not PyBytes_CheckExact(data):
            return self.enqueue_copy(data)
        if PyBytes_GET_SIZE(data):
            out_push(&self.out, data, 0)
        return 0

    cdef int enqueue_copy(self, object data) except -1:
        """Queue what may change after write() returns; a large one is sent first, only the rest copied."""
        cdef Py_buffer view
        cdef ssize_t sent = 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len >= LARGE_WRITE and self.out.count == 0 and self.state == STREAM_OPEN:
                sent = send(self.fd, view.buf, view.len, MSG_NOSIGNAL)
                if sent < 0:
                    sent = 0      # the next attempt, with the copy, meets the same error
            if sent < view.len:
                out_push(&self.out, PyBytes_FromStringAndSize(<char*>view.buf + sent, view.len - sent), 0)
        finally:
            PyBuffer_Release(&view)
        return 0

    cdef int push_out(self) except -1:
        """Send the queue now if it is large, else with the turn's flush."""
        if not self.blocked and self.state != STREAM_NEW:
            if self.out.size >= LARGE_WRITE or self.out.size > self.high:
                self.send_queue()
            elif not self.in_flush:
                self.in_flush = True
                self.reactor.flush_later(self)
        return self.check_pressure()

    cdef int run(self, Reactor reactor) except -1:
        """The flush phase."""
        self.in_flush = False
        if self.out.count and not self.blocked and self.state < STREAM_LOST:
            return self.send_queue()
        return 0

    cdef int send_queue(self) except -1:
        cdef size_t offered
        cdef ssize_t sent
        while self.out.count:
            sent = out_send(&self.out, self.fd, &offered)
            if sent < 0:
                if errno == EINTR:
                    continue
                if not would_block(errno):
                    return self.io_failed(errno, "send")
                sent = 0
            out_consume(&self.out, sent)
            if <size_t>sent < offered:
                self.blocked = True
                self.want()
                return self.relieve_pressure()
        return self.queue_drained()

    cdef int queue_drained(self) except -1:
        if self.blocked:
            self.blocked = False
            self.want()
        self.relieve_pressure()
        if self.out.count or self.state >= STREAM_LOST:
            return 0              # resume_writing wrote again, or closed
        if self.state == STREAM_CLOSING:
            return self.lose(None)
        if self.eof_requested:
            return self.shut_write_side()
        return 0

    def write_eof(self):
        """Shut the write side once all that was written has left; reading goes on."""
        if self.state >= STREAM_CLOSING or self.eof_requested:
            return
        self.eof_requested = True
        if self.out.count == 0:
            self.shut_write_side()

    def can_write_eof(self):
        """True: a stream socket can be closed by halves."""
        return True

    cdef int shut_write_side(self) except -1:
        if shutdown(self.fd, SHUT_WR) < 0:
            return self.io_failed(errno, "shutdown")
        return 0

    cdef int check_pressure(self) except -1:
        cdef PyObject* result
        if self.writing_paused or self.out.size <= self.high or self.state >= STREAM_LOST:
            return 0
        self.writing_paused = True
        result = self.tell(self.protocol.pause_writing, NULL)
        if result == NULL:
            return self.protocol_failed("pause_writing")
        Py_DECREF(<object>result)
        return 0

    cdef int relieve_pressure(self) except -1:
        cdef PyObject* result
        if not self.writing_paused or self.out.size > self.low:
            return 0
        self.writing_paused = False
        result = self.tell(self.protocol.resume_writing, NULL)
        if result == NULL:
            return self.protocol_failed("resume_writing")
        Py_DECREF(<object>result)
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        """When `pause_writing` (above `high` bytes queued) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 64 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high = high
        self.low = low
        self.check_pressure()

    def get_write_buffer_limits(self):
        """(low, high), in bytes."""
        return (self.low, self.high)

    def get_write_buffer_size(self):
        """Bytes written that have not left yet."""
        return self.out.size

    # ------------------------------------------------------------ extra info --

    cdef object get_socket(self):
        if self.sock is None and self.fd >= 0:
            # Given family, type and protocol the socket need not ask the kernel for them.
            family = self.local.any.sa_family
            self.sock = _socket.socket(
                family, _socket.SOCK_STREAM, 0 if family == AF_UNIX else _socket.IPPROTO_TCP, fileno=self.fd)
        return self.sock

    def get_extra_info(self, name, default=None):
        """'peername', 'sockname', 'socket' (an asyncio.trsock.TransportSocket), or `default`."""
        if self.extra is not None and name in self.extra:
            return self.extra[name]
        value = None
        if name == "peername":
            value = address_tuple(&self.remote)
        elif name == "sockname":
            value = address_tuple(&self.local)
        elif name == "socket":
            sock = self.get_socket()
            if sock is not None:
                value = TransportSocket(sock)
                self.remember(name, value)
        return default if value is None else value

    cdef int remember(self, str name, object value) except -1:
        if self.extra is None:
            self.extra = {}
        self.extra[name] = value
        return 0


cdef StreamTransport make_stream(Loop loop, int fd, object protocol, object context):
    """A transport for the connected, non-blocking `fd`, which it owns from now on."""
    cdef StreamTransport transport = StreamTransport.__new__(StreamTransport)
    transport.loop = loop
    transport.reactor = loop
    transport.fd = fd
    transport.context = context
    transport.bind_protocol(protocol)
    return transport


def stream_transport(Loop loop, sock, protocol, waiter, server=None):
    """The transport of a connected, non-blocking `sock`, which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future) is done.
    """
    cdef StreamTransport transport = make_stream(loop, sock.fileno(), protocol, PyContext_CopyCurrent())
    transport.sock = sock
    transport.server = server
    read_addresses(transport.fd, &transport.local, &transport.remote)
    loop.watch(transport, 0)
    if server is not None:
        server._attach(transport)
    loop.soon(transport._begin, <PyObject*>waiter, None)
    return transport
