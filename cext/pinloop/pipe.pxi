# Pipe transports: pipes, FIFOs, sockets and terminals, one direction each.
#
# - The fd belongs to the file object that the user gave, which is closed with the
#   transport.  It is made non-blocking, and so is whatever shares its open file.
# - A write leaves at once, in a system call of its own as long as nothing is queued:
#   up to PIPE_BUF bytes it is whole among the writes of others, as POSIX promises.
# - Whether the reading end of a pipe is gone shows on its writing end as an error
#   condition.  Terminals and other character devices have no such thing.
# - The fd may be used in both directions, by a transport each (a pseudo-terminal): the
#   second one registers a duplicate.

cdef enum:
    PIPE_READ = 64 * 1024      # what a pipe holds unless it was widened
    DRAIN_READS = 16           # at the writer's exit; a widened pipe holds 1 MiB


cdef class PipeTransport(Transport):
    """What the transports of both directions share."""

    def __cinit__(self):
        self.state = STREAM_CLOSED    # until open_pipe opens it

    def __del__(self):
        if self.fd >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.release_fd()

    # ------------------------------------------------------------- lifetime --

    @cython.final
    cdef int set_state(self, StreamState state) except -1:
        if state < self.state:
            raise SystemError(f"{self!r} cannot go back to {STATE_NAMES[<int>state]}")
        self.state = state
        return 0

    @cython.final
    cdef int begin(self) except -1:
        """Tell the protocol that it is connected, then wait for the pipe."""
        if self.state == STREAM_NEW:
            self.set_state(STREAM_OPEN)
        self.notify("connection_made", <PyObject*>self)
        return self.want()

    def _begin(self, waiter):
        """The same, scheduled by a connect; `waiter` learns how it went."""
        failure = None
        try:
            self.begin()
        except PermissionError as unpolled:
            # A device that cannot be polled (/dev/null): as with asyncio it is connected, and never ready.
            self.reactor.report({
                "message": "The pipe cannot be polled", "exception": unpolled, "transport": self,
                "protocol": self.protocol,
            })
        except OSError as exc:
            failure = exc
        if waiter.done():
            return
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(failure)

    cdef uint32_t wanted(self) noexcept:
        return 0

    @cython.final
    cdef int want(self) except -1:
        """Match the registration to the state."""
        cdef uint32_t mask = self.wanted()
        if self.fd < 0 or (mask == self.interest and mask):
            return 0
        if self.loop.closed:
            raise RuntimeError("Event loop is closed")
        return self.reactor.watch(self, mask)

    cdef int lose(self, object exception) except -1:
        """The end: connection_lost(exception) is scheduled."""
        if self.state >= STREAM_LOST:
            return 0
        self.set_state(STREAM_LOST)
        if self.loop.closed:
            return self.release_fd()  # nobody will run connection_lost
        self.want()
        return self.loop.soon(self._deliver_connection_lost, <PyObject*>exception, self.context)

    def _deliver_connection_lost(self, exception):
        protocol = self.protocol
        try:
            protocol.connection_lost(exception)
        except BaseException as failure:
            self.report_fault("connection_lost", failure)
        finally:
            self.release_fd()
            self.set_state(STREAM_CLOSED)
            self.protocol = None

    @cython.final
    cdef int release_fd(self) except -1:
        cdef int fd = self.fd
        pipe = self.pipe
        if fd < 0:
            if isinstance(pipe, _socket.socket):
                pipe.detach()         # closed behind our back; the number is another's now
            return 0
        self.reactor.unwatch(self)
        self.fd = -1
        if self.fd_is_duplicate:
            close(fd)
        pipe.close()
        return 0

    def is_closing(self):
        """Whether it is closed or about to be."""
        return self.state >= STREAM_CLOSING

    def get_extra_info(self, name, default=None):
        """'pipe' (the file object or socket it was made of), or `default`."""
        return self.pipe if name == "pipe" else default

    # ------------------------------------------------------------- protocol --

    def get_protocol(self):
        """The current protocol; None once the pipe is closed."""
        return self.protocol

    @cython.final
    cdef int notify(self, str name, PyObject* argument) except -1:
        """Call a protocol's method; its fault costs this pipe."""
        cdef PyObject* result = self.tell_protocol(name, argument)
        if result == NULL:
            return self.protocol_failed(name)
        Py_DECREF(<object>result)
        return 0

    @cython.final
    cdef int protocol_failed(self, str method) except -1:
        """A protocol's fault: reported, and it costs this pipe only."""
        exception = take_exception()
        self.lose(exception)
        return self.report_fault(method, exception)


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
        cdef PyObject* result
        self.large_reads = PyBytes_GET_SIZE(data) >= LARGE_READ
        result = self.tell(receive, <PyObject*>data)
        if result == NULL:
            self.protocol_failed("data_received")
            return 1
        Py_DECREF(<object>result)
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


cdef object take_bytes(PyObject* data, Py_ssize_t size):
    """The bytes object cut down to what of it was filled; the caller's reference goes over."""
    if _PyBytes_Resize(&data, size) < 0:
        raise MemoryError()
    whole = <object>data
    Py_DECREF(whole)
    return whole


@cython.final
cdef class WritePipeTransport(PipeTransport):
    """The writing end of a pipe.  Stands in for asyncio.WriteTransport, `isinstance` included."""

    def __cinit__(self):
        out_init(&self.out)
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4

    def __dealloc__(self):
        out_clear(&self.out)

    @property
    def __class__(self):
        return asyncio.WriteTransport

    def __repr__(self):
        parts = [f"<pinloop.WritePipeTransport {STATE_NAMES[<int>self.state]}"]
        if self.fd >= 0:
            parts.append(f"fd={self.fd} {'polling' if self.blocked else 'idle'} bufsize={self.out.size}")
        return f"{' '.join(parts)}>"

    def set_protocol(self, protocol):
        """Hand what happens from now on to another protocol."""
        self.protocol = protocol

    cdef uint32_t wanted(self) noexcept:
        if self.state == STREAM_NEW or self.state >= STREAM_LOST:
            return 0
        return (EV_READ if self.watches_reader else 0) | (EV_WRITE if self.blocked else 0)

    cdef int lose(self, object exception) except -1:
        if self.state < STREAM_LOST:
            self.blocked = False
            out_clear(&self.out)
        return PipeTransport.lose(self, exception)

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef bint timed = self.reactor.debug
        cdef int64_t start = self.reactor.poller.now() if timed else 0
        if mask & EV_READ and self.state < STREAM_LOST:
            if pl_hung_up(self.fd):
                if self.reactor.debug:
                    logger.info("%r was closed by peer", self)
                self.lose(BrokenPipeError(EPIPE, os.strerror(EPIPE)) if self.out.count else None)
            else:
                self.watches_reader = False    # readable for good: the next write will tell
                self.want()
        if mask & EV_WRITE and self.blocked:
            self.send_queue()
        if timed:
            self.told_slow(start)
        return 0

    # -------------------------------------------------------------- writing --

    def write(self, data):
        """Write bytes-like `data`, without blocking: what the kernel does not take is queued.

        Raises TypeError for what is not bytes-like.  On a pipe that is closed or lost it
        does nothing (the fifth time it logs a warning).
        """
        cdef Py_buffer view
        cdef ssize_t sent = 0
        cdef int error = 0
        if pl_unlikely(self.reactor.fork_depth != pl_fork_depth):
            self.reactor.forked()
        if not PyObject_CheckBuffer(data):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len == 0:
                return
            if self.state >= STREAM_CLOSING:
                self.lost_writes += 1
                if self.lost_writes == LOST_WRITES_TOLD:
                    logger.warning("%r: write() on a pipe that is closed or lost", self)
                return
            if self.out.count == 0:
                sent = write(self.fd, view.buf, view.len)
                if sent < 0:
                    error = errno
                    sent = 0
            if error == 0 or would_block(error):
                if sent == view.len:
                    return
                if PyBytes_CheckExact(data):
                    out_push(&self.out, data, sent)
                else:
                    out_push(
                        &self.out, PyBytes_FromStringAndSize(<char*>view.buf + sent, view.len - sent), 0)
        finally:
            PyBuffer_Release(&view)
        if self.out.count == 0:
            self.write_failed(error)
            return
        if not self.blocked:
            self.blocked = True
            self.want()
        self.check_pressure()

    def writelines(self, list_of_data):
        """Write several bytes-like objects, as one."""
        self.write(b"".join(list_of_data))

    # asyncio's writing pipes have these three as well, and nothing behind them.

    def is_reading(self):
        """Not for a pipe that is written to: raises NotImplementedError."""
        raise NotImplementedError("a pipe that is written to has no reading")

    def pause_reading(self):
        """Not for a pipe that is written to: raises NotImplementedError."""
        raise NotImplementedError("a pipe that is written to has no reading to pause")

    def resume_reading(self):
        """Not for a pipe that is written to: raises NotImplementedError."""
        raise NotImplementedError("a pipe that is written to has no reading to resume")

    cdef int send_queue(self) except -1:
        cdef size_t offered
        cdef ssize_t sent
        while self.out.count:
            sent = out_write(&self.out, self.fd, &offered)
            if sent < 0:
                if errno == EINTR:
                    continue
                if not would_block(errno):
                    return self.write_failed(errno)
                sent = 0
            out_consume(&self.out, sent)
            if <size_t>sent < offered:
                return self.relieve_pressure()
        self.blocked = False
        self.want()
        self.relieve_pressure()
        if self.state == STREAM_CLOSING and self.out.count == 0:
            return self.lose(None)
        return 0

    cdef int write_failed(self, int error) except -1:
        """The reader's fault: connection_lost tells the protocol, nobody else."""
        exception = os_error(error, "write")
        self.lost_writes += 1
        if self.reactor.debug:
            logger.debug("%r: %s", self, exception)
        return self.lose(exception)

    cdef int check_pressure(self) except -1:
        if self.writing_paused or self.out.size <= self.high or self.state >= STREAM_LOST:
            return 0
        self.writing_paused = True
        return self.notify("pause_writing", NULL)

    cdef int relieve_pressure(self) except -1:
        if not self.writing_paused or self.out.size > self.low:
            return 0
        self.writing_paused = False
        return self.notify("resume_writing", NULL)

    def write_eof(self):
        """Close the pipe once all that was written has left: the reader sees the end."""
        self.close()

    def can_write_eof(self):
        """True: closing the pipe is what its reader takes for the end."""
        return True

    def set_write_buffer_limits(self, high=None, low=None):
        """When `pause_writing` (above `high` bytes queued) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 64 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
        self.set_limits(high, low, HIGH_WATER)
        self.check_pressure()

    def get_write_buffer_limits(self):
        """(low, high), in bytes."""
        return (self.low, self.high)

    def get_write_buffer_size(self):
        """Bytes written that have not left yet."""
        return self.out.size

    def close(self):
        """Write what is queued, then close the pipe; `connection_lost(None)` follows."""
        if self.state >= STREAM_CLOSING:
            return
        self.set_state(STREAM_CLOSING)
        if self.out.count == 0 or self.loop.closed:
            self.lose(None)

    def abort(self):
        """Close at once, dropping what was not written; `connection_lost(None)` follows."""
        self.lose(None)


cdef int open_pipe(PipeTransport transport, Loop loop, object pipe, object protocol) except -1:
    """Give a new transport its fd, which it owns from now on; on an error it is still the caller's."""
    cdef int fd = pipe.fileno()
    cdef int duplicate = -1
    if pl_set_nonblocking(fd) < 0:
        raise_os_error(errno, f"cannot make fd {fd} non-blocking")
    transport.reactor = transport.loop = loop
    transport.context = PyContext_CopyCurrent()
    if isinstance(loop.watcher_at(fd), (PipeTransport, CallbackWatcher)):
        duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0)
        if duplicate < 0:
            raise_os_error(errno, f"cannot duplicate fd {fd}")
        transport.fd_is_duplicate = True
        fd = duplicate
    else:
        refuse_used_fd(loop, fd)
    transport.fd = fd
    try:
        loop.watch(transport, 0)
    except BaseException:
        transport.fd = -1
        if duplicate >= 0:
            close(duplicate)
        raise
    transport.pipe = pipe
    transport.protocol = protocol
    transport.state = STREAM_NEW
    return 0


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


def write_pipe_transport(Loop loop, pipe, protocol, waiter):
    """The same for a writing end."""
    cdef WritePipeTransport transport = WritePipeTransport.__new__(WritePipeTransport)
    status = os.fstat(pipe.fileno())
    is_fifo = stat.S_ISFIFO(status.st_mode)
    is_socket = stat.S_ISSOCK(status.st_mode)
    if not (is_fifo or is_socket or stat.S_ISCHR(status.st_mode)):
        raise ValueError(f"Pipe transport is only for pipes, sockets and character devices, not for {pipe!r}")
    # On macOS a FIFO in the file system polls as readable whenever it holds bytes, and never when
    # its reader goes; on AIX no pipe can tell.
    transport.watches_reader = is_socket or (
        is_fifo and not sys.platform.startswith("aix") and not (sys.platform == "darwin" and status.st_nlink))
    open_pipe(transport, loop, pipe, protocol)
    loop.soon(transport._begin, <PyObject*>waiter, None)
    return transport
