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

cdef class PipeTransport(Transport):
    """What the transports of both directions share."""

    def __cinit__(self):
        self.state = STREAM_CLOSED    # until open_pipe opens it

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

    cdef int protocol_failed(self, str method, object exception=None) except -1:
        """A protocol's fault: reported, and it costs this pipe only."""
        if exception is None:
            exception = take_exception()
        self.lose(exception)
        return self.report_fault(method, exception)


cdef int open_pipe(PipeTransport transport, Loop loop, object pipe, object protocol) except -1:
    """Give a new transport its fd, which it owns from now on; on an error it is still the caller's."""
    cdef int fd = pipe.fileno()
    cdef int duplicate = -1
    cdef Watcher current
    if pl_set_nonblocking(fd) < 0:
        raise_os_error(errno, f"cannot make fd {fd} non-blocking")
    transport.reactor = transport.loop = loop
    transport.context = PyContext_CopyCurrent()
    current = loop.watcher_at(fd)
    if isinstance(current, (PipeTransport, CallbackWatcher)) and not loop.lost_its_fd(current):
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
