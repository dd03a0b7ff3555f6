# The loop's sock_* methods: the system call first, a future only when it would block.
#
# Each gives a SocketCall, a coroutine in all but its type.  Where it would block, the
# task waits for a future of the loop; readiness only completes that future, and the system
# call is made when the task resumes, so that a task cancelled in between loses nothing.
#
# A plain socket.socket is used by its fd, never blocking; anything else, and what needs an
# address, by its own methods.

cdef tuple OPERATION_NAMES = (
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_accept",
    "sock_sendall", "sock_sendto", "sock_connect", "sock_sendfile",
)


@cython.final
cdef class SocketCall(Call):
    """A call of a sock_* method."""

    def __dealloc__(self):
        warn_unawaited(self)

    @property
    def bytes_sent(self):
        """Of sock_sendall or sock_sendfile, so far."""
        return self.sent

    cdef str qualified_name(self):
        return f"Loop.{OPERATION_NAMES[<int>self.operation]}"

    # -------------------------------------------------------------- its course --

    cdef object begin(self):
        self.check()
        # A connect is done when the loop has polled since: a server in the same loop has accepted it by then,
        # as programs that are both its ends are used to.
        return self.go_on(self.operation == SOCK_CONNECTED)

    cdef object proceed(self):
        self.future = None
        return self.go_on(False)

    cdef object go_on(self, bint untried):
        """Make or repeat the system call; its result, or WOULD_BLOCK."""
        cdef object outcome
        cdef int fd = fileno_of(self)
        cdef SocketWatcher watcher = self.watcher
        if watcher is not None and (fd < 0 or watcher.fd != fd):
            watcher.leave(self)    # closed meanwhile, or the number went to another
            watcher = None
        if watcher is None:
            watcher = shared_watcher(self.loop, fd, self.sock)
        if not untried and (watcher is None or watcher.may_try(self)):
            outcome = self.attempt(fd, watcher)
            if outcome is not WOULD_BLOCK:
                return outcome
            if watcher is not None:
                watcher.ready &= ~self.direction
        self.wait(fd)
        return WOULD_BLOCK

    cdef int check(self) except -1:
        """The checks, made when it is first awaited, as in a coroutine's body."""
        cdef Loop loop = self.loop
        if loop.closed or loop.fork_depth != pl_fork_depth:
            loop._check_closed()
        self.native = type(self.sock) is SocketType
        if not self.native:
            refuse_tls_socket(self.sock)
        if loop.debug and self.sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if self.operation == SOCK_RECV:
            self.size = self.argument
            if self.size < 0:
                raise ValueError("negative buffersize in recv")
        elif self.operation == SOCK_RECVFROM_INTO and not self.extra:
            self.extra = len(self.argument)
        return 0

    cdef int wait(self, int fd) except -1:
        """Queue up for readiness, with a future for the task to wait for."""
        cdef SocketWatcher watcher = self.watcher
        if self.loop.closed:
            self.loop._check_closed()
        if watcher is None:
            watcher = claim_watcher(self.loop, fd, self.sock)
            watcher.join(self)
        if self.operation == SOCK_SENDFILE:
            watcher.listen_anew()
        self.future = make_future(self.loop)
        self.woken = False
        return 0

    cdef int wake(self) except -1:
        """Let the task resume, unless it is about to anyway."""
        cdef object future = self.future
        if future is not None and not self.woken:
            self.woken = True
            try:
                future.set_result(None)
            except asyncio.InvalidStateError:
                pass          # cancelled
        return 0

    cdef int finish(self) except -1:
        """It is over, one way or another."""
        cdef SocketWatcher watcher = self.watcher    # held: this may be the last reference
        self.state = CALL_DONE
        if watcher is not None:
            watcher.leave(self)
        self.future = None
        self.sock = self.argument = self.extra = None
        return 0

    # ---------------------------------------------------------- the system calls --

    cdef object attempt(self, int fd, SocketWatcher watcher):
        """The result, or WOULD_BLOCK."""
        if self.operation == SOCK_RECV:
            return try_recv(self, fd, watcher) if self.native else try_counted(
                self, "recv", (self.argument,))
        if self.operation == SOCK_SENDALL:
            return try_sendall(self, fd, watcher)
        if self.operation == SOCK_RECV_INTO:
            return try_recv_into(self, fd, watcher) if self.native else try_counted(
                self, "recv_into", (self.argument,))
        if self.operation == SOCK_ACCEPT:
            return try_accept(self, fd)
        if self.operation == SOCK_RECVFROM:
            return try_counted(self, "recvfrom", (self.argument,))
        if self.operation == SOCK_RECVFROM_INTO:
            return try_counted(self, "recvfrom_into", (self.argument, self.extra))
        if self.operation == SOCK_SENDTO:
            return try_counted(self, "sendto", (self.argument, self.extra))
        if self.operation == SOCK_SENDFILE:
            return try_sendfile(self, fd)
        return try_connected(fd)


cdef SocketCall make_call(SocketCalls loop, SocketOperation operation, object sock, object argument,
                          object extra):
    cdef SocketCall call = SocketCall.__new__(SocketCall)
    call.operation = operation
    call.direction = EV_WRITE if operation >= SOCK_SENDALL else EV_READ
    call.loop = <Loop>loop
    call.sock = sock
    call.argument = argument
    call.extra = extra
    call.state = CALL_NEW
    return call


cdef class SocketCalls(Reactor):
    """The sock_* methods of a loop."""

    def sock_recv(self, sock, n):
        """Receive up to `n` bytes from a non-blocking socket; b"" at the end.

        Raises OSError as the socket does; ValueError for a negative size or, in debug
        mode, for a blocking socket; TypeError for an SSLSocket; RuntimeError if a transport
        uses the socket.  Cancelled, it has received nothing.  Calls that wait for the same
        socket are served first come, first served.
        """
        return make_call(self, SOCK_RECV, sock, n, None)

    def sock_recv_into(self, sock, buf):
        """Receive into the writable buffer `buf`; the number of bytes, 0 at the end.  As `sock_recv`."""
        return make_call(self, SOCK_RECV_INTO, sock, buf, None)

    def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram of up to `bufsize` bytes and return (bytes, address).  As `sock_recv`."""
        return make_call(self, SOCK_RECVFROM, sock, bufsize, None)

    def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into `buf` and return (number of bytes, address).

        `nbytes` limits what is received; 0 means the length of the buffer.  As `sock_recv`.
        """
        return make_call(self, SOCK_RECVFROM_INTO, sock, buf, nbytes)

    def sock_sendall(self, sock, data):
        """Send all of bytes-like `data`.

        Concurrent calls for one socket send one after the other, never mixed.  Cancelled or
        failed, some of it may have been sent.  Raises as `sock_recv` does.
        """
        return make_call(self, SOCK_SENDALL, sock, data, None)

    def sock_sendto(self, sock, data, address):
        """Send a datagram to `address` and return the number of bytes.  Raises as `sock_recv` does."""
        return make_call(self, SOCK_SENDTO, sock, data, address)

    def sock_accept(self, sock):
        """Accept a connection and return (non-blocking socket, address).

        Cancelled, it has accepted nothing.  Raises as `sock_recv` does.
        """
        return make_call(self, SOCK_ACCEPT, sock, None, None)

    def _sock_connected(self, sock):
        """Wait until a connect that was begun has succeeded or failed."""
        return make_call(self, SOCK_CONNECTED, sock, None, None)

    def _sock_sendfile(self, sock, int file, offset, count):
        """Send from the fd `file` by sendfile(2): `count` bytes (None: up to its end) from `offset` on."""
        cdef SocketCall call
        cdef int64_t start = offset
        cdef Py_ssize_t size = -1 if count is None else count
        call = make_call(self, SOCK_SENDFILE, sock, None, None)
        call.file = file
        call.offset = start
        call.size = size
        return call
