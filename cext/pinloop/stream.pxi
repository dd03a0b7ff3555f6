# TCP transports: one connected socket and its protocol.

cdef tuple STATE_NAMES = ("new", "open", "closing", "lost", "closed")


@cython.final
cdef class StreamTransport(Transport):
    """A connected stream socket.  Stands in for asyncio.Transport, `isinstance` included."""

    def __cinit__(self):
        out_init(&self.out)
        self.state = STREAM_CLOSED    # until make_stream opens it
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4

    def __dealloc__(self):
        out_clear(&self.out)

    @property
    def __class__(self):
        return asyncio.Transport

    @property
    def _start_tls_compatible(self):
        return True

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
        self.tls = (<TlsRecords>protocol).tls if type(protocol) is TlsRecords else None
        self.streams = direct_protocol(protocol)
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
        if self.state == STREAM_NEW:
            self.set_state(STREAM_OPEN)
        self.notify("connection_made", <PyObject*>self)
        if self.out.count:
            push_out(self)       # written between the making and now
        return self.want()

    def _begin(self, waiter):
        """The same, scheduled by a connect; `waiter` learns when it is done."""
        try:
            self.begin()
        finally:
            if waiter is not None and not waiter.done():
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
        if self.loop.closed:
            raise RuntimeError("Event loop is closed")
        return self.reactor.watch(self, mask)

    cdef int lose(self, object exception) except -1:
        """End the connection: nothing more is sent, connection_lost(exception) is scheduled."""
        if self.state >= STREAM_LOST:
            return 0
        self.set_state(STREAM_LOST)
        self.blocked = False
        out_clear(&self.out)
        if self.file_send is not None:
            self.file_send.fail(exception)
        if self.loop.closed:
            return self.release_fd()  # nobody will run connection_lost
        self.want()
        return self.loop.soon(self._deliver_connection_lost, <PyObject*>exception, self.context)

    def _deliver_connection_lost(self, exception):
        server, self.server = self.server, None
        protocol = self.protocol
        try:
            protocol.connection_lost(exception)
        except BaseException as failure:
            self.report_fault("connection_lost", failure)
        finally:
            self.release_fd()
            self.set_state(STREAM_CLOSED)
            self.protocol = self.receive = self.received = None
            self.tls = None
            self.streams = None
            if server is not None:
                server._detach(self)

    cdef int release_fd(self) except -1:
        cdef int fd = self.fd
        cdef object sock = self.sock
        if self.counted:
            self.counted = False
            self.loop.counts.connections -= 1
        if fd < 0:
            if sock is not None:
                self.sock = None
                sock.detach()         # closed behind our back; the number is another's now
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
        if self.out.count == 0 or self.loop.closed:
            self.lose(None)
        else:
            self.want()

    def abort(self):
        """Close at once, dropping what the kernel does not take; `connection_lost(None)` follows."""
        cdef size_t offered
        if self.in_flush and not self.blocked and self.fd >= 0 and self.state < STREAM_LOST:
            # asyncio's write() would have sent it at once
            self.loop.counts.sent += max(out_send(&self.out, self.fd, &offered), <ssize_t>0)
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

    cdef int protocol_failed(self, str method, object exception=None) except -1:
        """A protocol's fault: reported, and it costs this connection only."""
        if exception is None:
            exception = take_exception()
        self.lose(exception)
        return self.report_fault(method, exception)

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
            read_ready(self)
        if mask & EV_WRITE and self.blocked:
            send_queue(self)
        if timed:
            self.told_slow(start)
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
        write_data(self, data)

    def writelines(self, list_of_data):
        """Send several bytes-like objects, in one system call where the kernel takes them."""
        if pl_unlikely(self.reactor.fork_depth != pl_fork_depth):
            self.reactor.forked()
        if self.eof_requested:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self.file_send is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        parts = list(list_of_data)
        for data in parts:
            if not PyObject_CheckBuffer(data):
                raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.state >= STREAM_CLOSING:
            self.written_too_late(WRITTEN_TOO_LATE)
            return
        for data in parts:
            enqueue(self, data if PyBytes_CheckExact(data) else bytes(data))
        if self.out.count:
            push_out(self)

    cdef int run(self, Reactor reactor) except -1:
        """The flush phase."""
        self.in_flush = False
        if self.out.count == 0 or self.blocked or self.state >= STREAM_LOST:
            return 0
        return send_one(self) if self.out.count == 1 else send_queue(self)

    def write_eof(self):
        """Shut the write side once all that was written has left; reading goes on."""
        if pl_unlikely(self.reactor.fork_depth != pl_fork_depth):
            self.reactor.forked()
        if self.state >= STREAM_CLOSING or self.eof_requested:
            return
        self.eof_requested = True
        if self.out.count == 0 and self.file_send is None:
            shut_write_side(self)

    def can_write_eof(self):
        """True: a stream socket can be closed by halves."""
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

    @property
    def _protocol_paused(self):
        # By asyncio's name: whether the protocol was told pause_writing last.
        return self.writing_paused

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


cdef StreamTransport make_stream(Loop loop, int fd, object protocol, object context):
    """A transport for the connected, non-blocking `fd`, which it owns from now on."""
    cdef StreamTransport transport = StreamTransport.__new__(StreamTransport)
    transport.bind_protocol(protocol)   # may raise, while the fd is still the caller's
    transport.state = STREAM_NEW
    transport.loop = loop
    transport.reactor = loop
    transport.context = context
    transport.fd = fd
    transport.counted = True
    loop.counts.connections += 1
    loop.counts.connections_made += 1
    return transport


cdef int remember_unix_names(StreamTransport transport, object peername) except -1:
    """Unix names have no room in an Address, and none to ask once the connection is closed."""
    transport.remember("sockname", unix_sockname(transport.fd))
    return transport.remember("peername", peername)


def refuse_used_fd(Reactor loop, int fd):
    """Raise RuntimeError if `fd` is a transport's: two would steal each other's bytes."""
    cdef Watcher current = loop.watcher_at(fd)
    if current is None or isinstance(current, CallbackWatcher) or loop.lost_its_fd(current):
        return
    raise RuntimeError(f"File descriptor {fd} is used by transport {current!r}")


def stream_transport(Loop loop, sock, protocol, waiter, server=None):
    """The transport of a connected, non-blocking `sock`, which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future, or None) is done.
    """
    cdef StreamTransport transport = make_stream(loop, sock.fileno(), protocol, PyContext_CopyCurrent())
    transport.sock = sock
    transport.server = server
    read_addresses(transport.fd, &transport.local, &transport.remote)
    if transport.local.any.sa_family == AF_UNIX:
        remember_unix_names(transport, unix_peername(transport.fd))
    loop.watch(transport, 0)
    if server is not None:
        server._attach(transport)
    loop.soon(transport._begin, <PyObject*>waiter, None)
    return transport
