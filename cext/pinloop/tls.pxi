# TLS transports: a protocol below, a transport above, and a TlsEngine between.
#
# The handshake, the states and the end of a connection; what flows is in tls_io.pxi.
#
#   handshake -> open -> closing -> shutdown -> lost -> closed
#
# `closing` still encrypts what was written; `shutdown` has sent close_notify and awaits
# the peer's; `lost` has told the transport below to close.  One timer at a time runs: the
# handshake's, and from close() to the very end the shutdown's.

cdef enum:
    TLS_HIGH_WATER = 512 * 1024      # as asyncio
    TLS_DISCARD_LIMIT = 1024 * 1024  # what a peer may go on sending after our close_notify, bytes

cdef tuple TLS_STATE_NAMES = ("handshaking", "open", "closing", "shutting down", "lost", "closed")


@cython.final
cdef class TlsTransport(Transport):
    """A TLS connection (RFC 8446, RFC 5246).  Stands in for asyncio.Transport, `isinstance` included."""

    def __cinit__(self):
        out_init(&self.out)
        self.state = TLS_CLOSED       # until made by tls_transport
        self.high = TLS_HIGH_WATER
        self.low = TLS_HIGH_WATER // 4

    def __dealloc__(self):
        out_clear(&self.out)

    @property
    def __class__(self):
        return _SSLTransport

    @property
    def _start_tls_compatible(self):
        return True                   # TLS within TLS

    @property
    def _protocol_paused(self):
        # What asyncio's transports call it, and a fallback of sendfile asks for.
        return bool(self.writing_paused)

    def __repr__(self):
        return f"<pinloop.TlsTransport {TLS_STATE_NAMES[<int>self.state]} over {self.lower!r}>"

    # ------------------------------------------------------------ handshake --

    cdef int begin(self, object lower) except -1:
        """The transport below is connected."""
        self.lower = lower
        if self.state != TLS_HANDSHAKE:
            return self.close_lower_with(None)    # closed before it began
        if type(lower) is StreamTransport:
            self.context = (<StreamTransport>lower).context
        self.timer = self.loop.call_later(self.handshake_timeout, self._handshake_timed_out)
        try:
            if not self.announces:
                self.limit_lower()    # it may have had others before
            self.step_handshake()
            self.after_reading()
        except BaseException as failure:
            return self.failed(failure)
        return 0

    def _take_over(self, lower):
        """Before start_tls: what `lower` told the protocol is now for this transport to take back."""
        self.lower_is_full = (
            (type(lower) is StreamTransport and (<StreamTransport>lower).writing_paused)
            or (type(lower) is TlsTransport and (<TlsTransport>lower).writing_paused))
        self.writing_paused = self.lower_is_full and lower.get_protocol() is self.protocol

    def _handshake_timed_out(self):
        if self.state == TLS_HANDSHAKE:
            self.failed(ConnectionAbortedError(
                f"SSL handshake is taking longer than {self.handshake_timeout} seconds: "
                "aborting the connection"))

    cdef int step_handshake(self) except -1:
        """Go on with the handshake; when it is done, tell the protocol and read what came with it."""
        cdef int done
        done = self.engine.handshake()
        send_ciphertext(self)
        if not done:
            return 0
        self.timer.cancel()
        self.timer = None
        self.state = TLS_OPEN
        self.established = True
        if self.announces:
            self.was_made = True
            self.notify("connection_made", <PyObject*>self)
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        relieve_plain_pressure(self)
        write_later(self)
        return read_plain(self)

    # ---------------------------------------------------------------- faults --

    cdef int failed(self, object exception) except -1:
        """A fault of the connection, of TLS or of our own: it ends this connection."""
        cdef bint in_handshake = self.state == TLS_HANDSHAKE
        if is_exit(exception):
            self.abort_with(None)
            raise exception
        self.tell_waiter(exception)
        if py_ssl is not None and isinstance(exception, py_ssl.SSLError):
            send_ciphertext(self)     # the alert that names the fault
        self.abort_with(exception)
        if isinstance(exception, OSError):
            # The peer's fault or the network's.  ssl.SSLError is one of these.
            if self.reactor.debug:
                logger.debug("%r: %s", self, "SSL handshake failed" if in_handshake else exception,
                             exc_info=exception)
            return 0
        return self.reactor.report({
            "message": "SSL handshake failed" if in_handshake else "Fatal error on SSL protocol",
            "exception": exception, "transport": self, "protocol": self.protocol,
        })

    cdef int protocol_failed(self, str method, object exception=None) except -1:
        """A protocol's fault: reported, and it costs this connection only."""
        if exception is None:
            exception = take_exception()
        if not is_exit(exception):
            self.tell_waiter(exception)
        self.abort_with(exception)
        return self.report_fault(method, exception)

    cdef int tell_waiter(self, object exception) except -1:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(exception)
        return 0

    # ------------------------------------------------------------------ end --

    cdef int abort_with(self, object exception) except -1:
        """Close at once; the transport below tells when it is done."""
        if self.state >= TLS_LOST:
            return 0
        self.state = TLS_LOST
        out_clear(&self.out)
        self.engine.let_go()
        return self.close_lower_with(exception)

    cdef int close_lower_with(self, object exception) except -1:
        if self.lower is None:
            return 0                  # not connected yet: begin() finds it closed
        force_close = getattr(self.lower, "_force_close", None)
        if exception is not None and force_close is not None:
            force_close(exception)
        else:
            self.lower.abort()
        return 0

    def abort(self):
        """Close at once, dropping what was not sent; `connection_lost(None)` follows."""
        self.abort_with(None)

    def _force_close(self, exception):
        """Close at once; `connection_lost(exception)` follows."""
        self.abort_with(exception)

    def close(self):
        """Stop delivering, send what was written and close_notify, then close; `connection_lost` follows.

        The peer's close_notify is awaited, for up to `ssl_shutdown_timeout` seconds in all; a
        peer that goes on sending data instead is cut off.
        """
        if self.state >= TLS_CLOSING:
            return
        if self.state == TLS_HANDSHAKE or self.loop.closed:
            self.abort_with(None)
            return
        try:
            self.start_closing()
        except BaseException as failure:
            self.failed(failure)

    cdef int start_closing(self) except -1:
        self.state = TLS_CLOSING
        self.timer = self.loop.call_later(self.shutdown_timeout, self._shutdown_timed_out)
        self.reading_paused = False
        self.hold_lower(False)
        return write_plain(self)      # goes on to shut_down once all is encrypted

    def _shutdown_timed_out(self):
        if self.state < TLS_CLOSED and self.lower is not None:
            self.state = TLS_LOST
            self.close_lower_with(TimeoutError("SSL shutdown timed out"))

    cdef int shut_down(self) except -1:
        """All that was written is encrypted: send close_notify, and close if the peer has sent its own."""
        cdef int both
        self.state = TLS_SHUTDOWN
        if discard_plain(self):
            self.peer_is_done = True
        both = 1 if self.lower_has_ended else self.engine.shut()
        send_ciphertext(self)
        if both or self.peer_is_done:
            return self.close_lower()
        return 0

    cdef int close_lower(self) except -1:
        if self.state < TLS_LOST:
            self.state = TLS_LOST
            self.lower.close()
        return 0

    cdef int peer_closed(self) except -1:
        """The peer's close_notify, or the end of what the transport below receives."""
        self.peer_is_done = True
        if self.state == TLS_SHUTDOWN:
            return self.close_lower()
        if self.state != TLS_OPEN:
            return 0
        self.tell_eof()
        if self.state == TLS_OPEN:
            self.start_closing()
        return 0

    cdef int tell_eof(self) except -1:
        cdef PyObject* result = self.tell_protocol("eof_received", NULL)
        if result == NULL:
            return self.protocol_failed("eof_received")
        keep_open = <object>result
        Py_DECREF(keep_open)
        if keep_open:
            logger.warning("returning true from eof_received() has no effect when using ssl")
        return 0

    cdef int lower_ended(self) except -1:
        self.lower_has_ended = True
        try:
            if self.state == TLS_HANDSHAKE:
                return self.failed(ConnectionResetError(
                    errno_of_reset, "the peer closed the connection during the TLS handshake"))
            return self.peer_closed()
        except BaseException as failure:
            return self.failed(failure)

    cdef int lower_lost(self, object exception) except -1:
        """The transport below is gone: this is the end."""
        server, self.server = self.server, None
        protocol = self.protocol
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.state = TLS_CLOSED
        out_clear(&self.out)
        self.tell_waiter(
            exception or ConnectionAbortedError("the connection was closed during the TLS handshake"))
        try:
            if self.was_made:
                # In its context, unless the transport below is in it already.
                self.tell_lost(exception)
        finally:
            self.engine.let_go()
            self.protocol = self.receive = self.received = None
            if server is not None:
                server._detach(self)
        return 0

    cdef int tell_lost(self, object exception) except -1:
        cdef PyObject* result = self.tell_protocol("connection_lost", <PyObject*>exception)
        if result == NULL:
            return self.report_fault("connection_lost", take_exception())
        Py_DECREF(<object>result)
        return 0

    def is_closing(self):
        """Whether it is closed or about to be."""
        return self.state >= TLS_CLOSING or (self.lower is not None and self.lower.is_closing())

    # -------------------------------------------------------------- protocol --

    cdef int bind_protocol(self, object protocol) except -1:
        self.protocol = protocol
        self.buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self.receive = protocol.get_buffer if self.buffered else getattr(protocol, "data_received", None)
        self.received = protocol.buffer_updated if self.buffered else None
        return 0

    def set_protocol(self, protocol):
        """Hand what happens from now on to another protocol."""
        self.bind_protocol(protocol)

    def get_protocol(self):
        """The current protocol; None once the connection is closed."""
        return self.protocol

    # --------------------------------------------------------------- reading --

    cdef int receive_ciphertext(self, const char* data, size_t size) except -1:
        """What the transport below received."""
        if self.state >= TLS_LOST:
            return 0
        try:
            self.engine.feed(data, size)
            if self.state == TLS_HANDSHAKE:
                self.step_handshake()
            elif self.state == TLS_OPEN:
                read_plain(self)
            else:
                self.read_on_closing(size)
            return self.after_reading()
        except BaseException as failure:
            return self.failed(failure)

    cdef int read_on_closing(self, size_t size) except -1:
        if discard_plain(self):
            return self.peer_closed()
        self.discarded += size
        if self.discarded > TLS_DISCARD_LIMIT and self.state == TLS_SHUTDOWN:
            # It has had time to hear our close_notify, and sends on.
            self.abort_with(None)
        return 0

    cdef int after_reading(self) except -1:
        self.engine.settle()
        send_ciphertext(self)         # answers to what was read: tickets, alerts, key updates
        if self.waits_for_peer and self.out.count:
            self.waits_for_peer = False
            write_later(self)
        return 0

    def pause_reading(self):
        """Deliver nothing until `resume_reading`; the peer is held up by TCP's own flow control."""
        if self.state != TLS_OPEN or self.reading_paused:
            return
        self.reading_paused = True
        self.hold_lower(True)

    cdef int hold_lower(self, bint held) except -1:
        """Pause the transport below, or let it read again."""
        if held != self.lower_is_held:
            self.lower_is_held = held
            if held:
                self.lower.pause_reading()
            else:
                self.lower.resume_reading()
        return 0

    def resume_reading(self):
        """Deliver again."""
        if self.reading_paused:
            self.reading_paused = False
            self.loop.call_soon(self._read_on)

    def _read_on(self):
        if self.reading_paused or self.state != TLS_OPEN:
            return
        try:
            read_plain(self)
            self.after_reading()
        except BaseException as failure:
            self.failed(failure)
        if self.state == TLS_OPEN and not self.reading_paused:
            self.hold_lower(False)

    def is_reading(self):
        """Whether bytes that arrive are delivered."""
        return self.state < TLS_CLOSING and not self.reading_paused

    # --------------------------------------------------------------- writing --

    def write(self, data):
        """Send bytes-like `data`, without blocking; small writes of one turn share a TLS record.

        Raises TypeError for what is not bytes-like.  On a connection that is closed or lost
        it does nothing (the fifth time it logs a warning).
        """
        if not PyBytes_CheckExact(data) and not PyObject_CheckBuffer(data):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if self.can_write():
            enqueue_plain(self, data)
            write_soon(self)

    def writelines(self, list_of_data):
        """Send several bytes-like objects, in as few TLS records as they fit."""
        parts = list(list_of_data)
        for data in parts:
            if not PyObject_CheckBuffer(data):
                raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if self.can_write():
            for data in parts:
                enqueue_plain(self, data)
            write_soon(self)

    cdef bint can_write(self) except -1:
        if pl_unlikely(self.reactor.fork_depth != pl_fork_depth):
            self.reactor.forked()
        if self.state < TLS_CLOSING:
            return True
        self.written_too_late(WRITTEN_TOO_LATE)
        return False

    cdef int run(self, Reactor reactor) except -1:
        """The flush phase."""
        self.in_flush = False
        return write_plain(self)

    def write_eof(self):
        """Not possible with TLS: raises NotImplementedError."""
        raise NotImplementedError("a TLS connection cannot be closed by halves")

    def can_write_eof(self):
        """False: a TLS connection cannot be closed by halves."""
        return False

    def set_write_buffer_limits(self, high=None, low=None):
        """When `pause_writing` (above `high` bytes waiting) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 512 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
        self.set_limits(high, low, TLS_HIGH_WATER)
        if self.lower is not None:
            self.limit_lower()
        plain_pressure(self)

    cdef int limit_lower(self) except -1:
        """Have the transport below tell when it falls to our `low`: it must have been full above that."""
        self.lower.set_write_buffer_limits(
            min(self.low, <size_t>HIGH_WATER), min(self.low, <size_t>(HIGH_WATER // 4)))
        return 0

    def get_write_buffer_limits(self):
        """(low, high), in bytes."""
        return (self.low, self.high)

    def get_write_buffer_size(self):
        """Bytes written that have not left yet, encrypted or not."""
        return waiting_to_leave(self)

    # ------------------------------------------------------------ extra info --

    def get_extra_info(self, name, default=None):
        """'sslcontext'; once the handshake is done 'ssl_object', 'peercert', 'cipher', 'compression'.

        All else ('peername', 'socket', ...) is asked of the transport below.
        """
        if name == "sslcontext":
            return self.context_of_tls
        if self.extra is not None and name in self.extra:
            return self.extra[name]
        if name in ("ssl_object", "peercert", "cipher", "compression"):
            if not self.established:
                return default
            ssl_object = self.engine.ssl_object
            if name == "ssl_object":
                return ssl_object
            method = ssl_object.getpeercert if name == "peercert" else getattr(ssl_object, name)
            self.remember(name, method())
            return self.extra[name]
        return default if self.lower is None else self.lower.get_extra_info(name, default)


cdef object errno_of_reset = ECONNRESET
