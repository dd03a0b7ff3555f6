# Datagram transports: UDP, datagrams over Unix sockets, and what else has them.

# Since 3.13 an empty datagram is sent; before, asyncio left it out.
cdef bint SENDS_EMPTY = sys.version_info >= (3, 13)


@cython.final
cdef class DatagramTransport(Transport):
    """A datagram socket.  Stands in for asyncio.DatagramTransport, `isinstance` included."""

    def __cinit__(self):
        self.state = STREAM_CLOSED    # until datagram_transport opens it
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4

    def __dealloc__(self):
        parcels_clear(&self.out)

    @property
    def __class__(self):
        return _DatagramTransport

    def __repr__(self):
        parts = [f"<pinloop.DatagramTransport {STATE_NAMES[<int>self.state]}"]
        if self.fd >= 0:
            parts.append(f"fd={self.fd}")
            parts.append(f"read={'polling' if listens(self) else 'idle'}")
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
        self.receive = getattr(protocol, "datagram_received", None)
        return 0

    def _begin(self, waiter):
        """Tell the protocol that it is connected, then start to read; `waiter` learns when it is done."""
        try:
            if self.state == STREAM_NEW:
                self.set_state(STREAM_OPEN)
            self.notify("connection_made", <PyObject*>self)
            if self.state == STREAM_OPEN:
                self.want()
        finally:
            if not waiter.done():
                waiter.set_result(None)

    cdef int want(self) except -1:
        """Match the registration to the state."""
        cdef uint32_t mask = EV_READ if listens(self) else 0
        if self.blocked and self.state < STREAM_LOST and self.retry is None:
            mask |= EV_WRITE
        if self.fd < 0 or (mask == self.interest and mask):
            return 0
        if self.loop.closed:
            raise RuntimeError("Event loop is closed")
        return self.reactor.watch(self, mask)

    cdef int lose(self, object exception) except -1:
        """End it: nothing more is sent or delivered, connection_lost(exception) is scheduled."""
        if self.state >= STREAM_LOST:
            return 0
        self.set_state(STREAM_LOST)
        self.blocked = False
        self.undelivered = None
        parcels_clear(&self.out)
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        if self.loop.closed:
            return self.release_fd()  # nobody will run connection_lost
        self.want()
        return self.loop.soon(self._deliver_connection_lost, <PyObject*>exception, self.context)

    def _deliver_connection_lost(self, exception):
        try:
            self.protocol.connection_lost(exception)
        except BaseException as failure:
            self.report_fault("connection_lost", failure)
        finally:
            self.release_fd()
            self.set_state(STREAM_CLOSED)
            self.protocol = self.receive = None

    cdef int release_fd(self) except -1:
        cdef object sock = self.sock
        self.sock = None
        if self.fd < 0:
            if sock is not None:
                sock.detach()         # closed behind our back; the number is another's now
            return 0
        self.reactor.unwatch(self)
        self.fd = -1
        sock.close()
        return 0

    def close(self):
        """Deliver nothing more, send what was queued, then close; `connection_lost(None)` follows."""
        if self.state >= STREAM_CLOSING:
            return
        self.set_state(STREAM_CLOSING)
        if self.out.count == 0 or self.loop.closed:
            self.lose(None)
        else:
            self.want()

    def abort(self):
        """Close at once, dropping what was not sent; `connection_lost(None)` follows."""
        self.lose(None)

    def is_closing(self):
        """Whether it is closed or about to be."""
        return self.state >= STREAM_CLOSING

    # ------------------------------------------------------------- protocol --

    def set_protocol(self, protocol):
        """Hand what happens from now on to another protocol."""
        self.bind_protocol(protocol)

    def get_protocol(self):
        """The current protocol; None once it is closed."""
        return self.protocol

    cdef int protocol_failed(self, str method, object exception=None) except -1:
        """A protocol's fault: reported, and the endpoint goes on, for it has other peers."""
        if exception is None:
            exception = take_exception()
        return self.report_fault_in(f"protocol.{method}()", exception)

    cdef int report_fault_in(self, str what, object exception) except -1:
        if is_exit(exception):
            raise exception
        return self.reactor.report({
            "message": f"Exception in {what}", "exception": exception,
            "transport": self, "protocol": self.protocol,
        })

    cdef int told_error(self, object exception) except -1:
        """The network's or the kernel's refusal of one datagram, or what it says of one sent before."""
        return 0 if self.state >= STREAM_LOST else self.notify("error_received", <PyObject*>exception)

    # -------------------------------------------------------------- reading --

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef bint timed = self.reactor.debug
        cdef int64_t start = self.reactor.poller.now() if timed else 0
        if mask & EV_READ:
            read_datagrams(self)
        if mask & EV_WRITE and self.blocked:
            send_again(self)
        if timed:
            self.told_slow(start)
        return 0

    def _deliver_rest(self, _):
        """Scheduled when more has been received than was delivered."""
        deliver_rest(self)

    def pause_reading(self):
        """Deliver nothing until `resume_reading`; what the kernel has no room for then is lost."""
        self.reading_paused = True

    def resume_reading(self):
        """Deliver again."""
        if self.reading_paused:
            self.reading_paused = False
            if self.state == STREAM_OPEN:
                if self.undelivered is not None:
                    self.loop.soon(self._deliver_rest, <PyObject*>None, None)
                self.want()

    def is_reading(self):
        """Whether what arrives is delivered."""
        return self.state < STREAM_CLOSING and not self.reading_paused

    # -------------------------------------------------------------- writing --

    def sendto(self, data, addr=None):
        """Send bytes-like `data` to `addr`, without blocking: what the kernel does not take is queued.

        It leaves at the latest in the flush phase of this turn.  `addr` may be left out, or
        must be the same, where the endpoint has a `remote_addr`: ValueError otherwise.  Raises
        TypeError for what is not bytes-like, and what the socket raises for what is no address;
        OSError is told to `error_received`.  On a closed endpoint it does nothing (the fifth
        time it logs a warning).  A host name is looked up each time, which blocks.
        """
        cdef Peer peer = None
        if pl_unlikely(self.reactor.fork_depth != pl_fork_depth):
            self.reactor.forked()
        if not PyBytes_CheckExact(data):
            if not PyObject_CheckBuffer(data):
                raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
            data = bytes(data)
        if PyBytes_GET_SIZE(data) == 0 and not SENDS_EMPTY:
            return
        if self.remote_addr is not None:
            if addr is not None and addr is not self.remote_addr and addr != self.remote_addr:
                raise ValueError(f"Invalid address: must be None or {self.remote_addr}")
            addr = self.remote_addr
            peer = self.remote
        if self.state >= STREAM_CLOSING:
            self.written_too_late("sendto() on an endpoint that is closed")
            return
        if not self.connected and peer is None:
            peer = self.addresses.named(self.family, addr)
            if peer.size == 0 and send_at_once(self, data, addr):
                return
        parcels_push(&self.out, data, peer)
        send_now_or_later(self)

    cdef int run(self, Reactor reactor) except -1:
        """The flush phase."""
        self.in_flush = False
        if self.out.count and not self.blocked and self.state < STREAM_LOST:
            return send_parcels(self)
        return 0

    def _retry(self):
        """Scheduled where the poller cannot tell when there is room again."""
        self.retry = None
        if self.blocked:
            send_again(self)

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
        """Bytes that have not left yet; since Python 3.13 each datagram counts 8 more."""
        return self.out.size

    # ------------------------------------------------------------ extra info --

    def get_extra_info(self, name, default=None):
        """'peername', 'sockname', 'socket' (an asyncio.trsock.TransportSocket), or `default`."""
        return self.extra.get(name, default)


def datagram_transport(Loop loop, sock, protocol, remote_addr, waiter):
    """The transport of a non-blocking datagram `sock`, which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future) is done.
    """
    cdef DatagramTransport transport = DatagramTransport.__new__(DatagramTransport)
    transport.buffers = receive_buffers(loop)
    if loop.addresses is None:
        loop.addresses = AddressCache.__new__(AddressCache)
    transport.addresses = loop.addresses
    transport.bind_protocol(protocol)
    transport.loop = loop
    transport.reactor = loop
    transport.context = PyContext_CopyCurrent()
    transport.family = sock.family
    transport.extra = {
        "socket": TransportSocket(sock),
        "sockname": asked(sock.getsockname),
        "peername": asked(sock.getpeername),
    }
    transport.connected = transport.extra["peername"] is not None
    transport.remote_addr = remote_addr
    if remote_addr is not None and not transport.connected:
        transport.remote = transport.addresses.named(transport.family, remote_addr)
    transport.fd = sock.fileno()
    if pl_can_segment(transport.fd):
        transport.segment_limit = DATAGRAM_ROOM
    loop.watch(transport, 0)
    transport.sock = sock
    transport.state = STREAM_NEW
    loop.soon(transport._begin, <PyObject*>waiter, None)
    return transport


cdef object asked(method):
    try:
        return method()
    except OSError:
        return None
