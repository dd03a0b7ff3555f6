# The reading end of a pipe.

cdef enum:
    PIPE_READ = 64 * 1024      # what a pipe holds unless it was widened
    DRAIN_READS = 16           # at the writer's exit; a widened pipe holds 1 MiB


@cython.final
cdef class ReadPipeTransport(PipeTransport):
    """The reading end of a pipe.  Stands in for asyncio.ReadTransport, `isinstance` included."""

    @property
    def __class__(self):
        return asyncio.ReadTransport

    def __repr__(self):
        parts = [f"<pinloop.ReadPipeTransport {STATE_NAMES[<int>self.state]}"]
        if self.fd >= 0:
            parts.append(f"fd={self.fd} {'polling' if self.interest else 'idle'}")
        return f"{' '.join(parts)}>"

    cdef int bind_protocol(self, object protocol) except -1:
        self.protocol = protocol
        # A protocol that never reads fails when bytes arrive, not here.
        self.receive = getattr(protocol, "data_received", None)
        return 0

    def set_protocol(self, protocol):
        """Hand what happens from now on to another protocol."""
        self.bind_protocol(protocol)

    cdef uint32_t wanted(self) noexcept:
        return EV_READ if self.state == STREAM_OPEN and not self.reading_paused else 0

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef bint timed = self.reactor.debug
        cdef int64_t start = self.reactor.poller.now() if timed else 0
        self.read_some()
        if timed:
            self.told_slow(start)
        return 0

    cdef int read_some(self) except -1:
        """Read once and hand it over; false if there was nothing."""
        cdef ssize_t n
        cdef PyObject* large
        if self.wanted() == 0:
            self.want()
            return 0
        if self.large_reads:
            large = PyBytes_AllocRaw(NULL, PIPE_READ)
            if large == NULL:
                raise MemoryError()
            n = read(self.fd, PyBytes_AS_STRING(<object>large), PIPE_READ)
            if n > 0:
                return self.deliver(take_bytes(large, n))
            error = errno
            Py_DECREF(<object>large)
        else:
            n = read(self.fd, self.loop.scratch, SCRATCH_SIZE)
            if n > 0:
                return self.deliver(PyBytes_FromStringAndSize(self.loop.scratch, n))
            error = errno
        if n < 0:
            return self.read_failed(error)
        self.set_state(STREAM_CLOSING)
        if self.reactor.debug:
            logger.info("%r was closed by peer", self)
        self.notify("eof_received", NULL)
        self.lose(None)
        return 0

    cdef int deliver(self, object data) except -1:
        cdef object receive = self.receive   # held: the callback may set another protocol
        self.loop.counts.received += PyBytes_GET_SIZE(data)
        self.large_reads = PyBytes_GET_SIZE(data) >= LARGE_READ
        self.hand_over(receive, "data_received", <PyObject*>data)
        return 1

    cdef int read_failed(self, int error) except -1:
        if would_block(error):
            return 0
        exception = os_error(error, "read")
        if error == EIO:
            # The other end of a terminal is gone: how a terminal says EOF.
            if self.reactor.debug:
                logger.debug("%r: %s", self, exception)
        else:
            self.reactor.report({
                "message": "Fatal read error on pipe transport", "exception": exception, "transport": self,
                "protocol": self.protocol,
            })
        self.lose(exception)
        return 0

    def _drain(self):
        """Hand over what waits already; bounded, since a descendant of the writer may write on."""
        for _ in range(DRAIN_READS):
            if self.state != STREAM_OPEN or self.reading_paused or not self.read_some():
                break

    def pause_reading(self):
        """Deliver nothing until `resume_reading`; the writer is held up once the pipe is full."""
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

    def close(self):
        """Stop reading and close the pipe; `connection_lost(None)` follows."""
        if self.state < STREAM_CLOSING:
            self.lose(None)


def read_pipe_transport(Loop loop, pipe, protocol, waiter):
    """The transport of the reading end `pipe` (a file object or socket), which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future) is done.  Raises
    ValueError for what is not a pipe, a socket or a character device.
    """
    cdef ReadPipeTransport transport = ReadPipeTransport.__new__(ReadPipeTransport)
    mode = os.fstat(pipe.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(f"Pipe transport is for pipes/sockets only, not for {pipe!r}")
    transport.bind_protocol(protocol)
    open_pipe(transport, loop, pipe, protocol)
    loop.soon(transport._begin, <PyObject*>waiter, None)
    return transport
