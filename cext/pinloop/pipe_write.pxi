# The writing end of a pipe.

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
                self.written_too_late("write() on a pipe that is closed or lost")
                return
            if self.out.count == 0:
                self.reactor.sent = True
                sent = write(self.fd, view.buf, view.len)
                if sent < 0:
                    error = errno
                    sent = 0
                self.loop.counts.sent += sent
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
        self.check_pressure(self.out.size)

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
        self.reactor.sent = True
        while self.out.count:
            sent = out_write(&self.out, self.fd, &offered)
            if sent < 0:
                if errno == EINTR:
                    continue
                if not would_block(errno):
                    return self.write_failed(errno)
                sent = 0
            out_consume(&self.out, sent)
            self.loop.counts.sent += sent
            if <size_t>sent < offered:
                return self.relieve_pressure(self.out.size)
        self.blocked = False
        self.want()
        self.relieve_pressure(self.out.size)
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
        self.check_pressure(self.out.size)

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
