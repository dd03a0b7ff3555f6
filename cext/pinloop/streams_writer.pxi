# The protocol between a transport and a StreamReader, and the StreamWriter.

cdef class StreamProtocol:
    """The native half of `pinloop.StreamReaderProtocol`."""

    def __init__(self, reader, loop):
        self.loop = loop
        self._stream_reader = reader

    @property
    def _stream_reader(self):
        return self.reader

    @_stream_reader.setter
    def _stream_reader(self, reader):
        self.reader = reader
        self.native_reader = None
        if isinstance(reader, StreamReader) and type(reader).feed_data is FEED_DATA:
            self.native_reader = <StreamReader>reader

    def data_received(self, data):
        """Feed the reader."""
        if self.native_reader is not None and PyBytes_CheckExact(data) and PyBytes_GET_SIZE(data):
            self.receive(data)
        elif self.reader is not None:
            self.reader.feed_data(data)

    cdef int receive(self, object data) except -1:
        """data_received of an exact bytes object that is not empty, where `native_reader` is set."""
        assert not self.native_reader.eof, "feed_data after feed_eof"
        return self.native_reader.feed(data)

    def eof_received(self):
        """Tell the reader; the connection stays open for writing, but not with TLS."""
        if self.reader is not None:
            self.reader.feed_eof()
        return not self.over_tls

    def pause_writing(self):
        """From now on `drain` waits."""
        assert not self.writing_paused
        self.writing_paused = True
        if self.loop.get_debug():
            logger.debug("%r pauses writing", self)

    def resume_writing(self):
        """What waits in `drain` goes on."""
        assert self.writing_paused
        self.writing_paused = False
        if self.loop.get_debug():
            logger.debug("%r resumes writing", self)
        self._wake_drains(None)

    def _wake_drains(self, exception):
        """Let what waits in `drain` go on, or raise."""
        for waiter in self.drain_waiters or ():
            if waiter.done():
                continue
            if exception is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(exception)

    # By asyncio's names, for its StreamWriter and for tools.

    @property
    def _loop(self):
        return self.loop

    @property
    def _paused(self):
        return self.writing_paused

    @property
    def _drain_waiters(self):
        if self.drain_waiters is None:
            self.drain_waiters = collections.deque()
        return self.drain_waiters

    @property
    def _connection_lost(self):
        return self.lost

    @_connection_lost.setter
    def _connection_lost(self, bint lost):
        self.lost = lost

    @property
    def _over_ssl(self):
        return self.over_tls

    @_over_ssl.setter
    def _over_ssl(self, bint over_tls):
        self.over_tls = over_tls


cdef object DATA_RECEIVED = StreamProtocol.data_received


cdef StreamProtocol direct_protocol(object protocol):
    """The protocol if what arrives may go to it without a call in Python, else None."""
    if isinstance(protocol, StreamProtocol) and type(protocol).data_received is DATA_RECEIVED:
        return <StreamProtocol>protocol
    return None


cdef class StreamWriter:
    """The native half of `pinloop.StreamWriter`."""

    def __init__(self, transport, protocol, reader, loop):
        self.loop = loop
        self.bind_transport(transport)
        assert reader is None or isinstance(reader, (StreamReader, asyncio.StreamReader))
        self.protocol = protocol
        self.native_protocol = <StreamProtocol>protocol if isinstance(protocol, StreamProtocol) else None
        self.reader = reader
        self.native_reader = <StreamReader>reader if isinstance(reader, StreamReader) else None

    cdef int bind_transport(self, object transport) except -1:
        self.transport = transport
        self.native_transport = <StreamTransport>transport if type(transport) is StreamTransport else None
        return 0

    cdef bint closing(self) except -1:
        if self.native_transport is not None:
            return self.native_transport.state >= STREAM_CLOSING
        return self.transport.is_closing()

    def write(self, data):
        """Send bytes-like `data` without waiting; what cannot leave at once is queued.

        Follow it by `await drain()`, which keeps the queue short. Raises what the transport's
        `write` does: TypeError for what is not bytes-like, RuntimeError after `write_eof`.
        """
        if self.native_transport is not None:
            write_data(self.native_transport, data)
        else:
            self.transport.write(data)

    def writelines(self, data):
        """Send several bytes-like objects. As `write`."""
        self.transport.writelines(data)

    def write_eof(self):
        """Shut the write side once all that was written has left; reading goes on."""
        return self.transport.write_eof()

    def can_write_eof(self):
        """Whether the transport can be closed by halves (with TLS it cannot)."""
        return self.transport.can_write_eof()

    def close(self):
        """Send what was written, then close. Follow it by `await wait_closed()`."""
        return self.transport.close()

    def is_closing(self):
        """Whether it is closed or about to be."""
        return self.transport.is_closing()

    def get_extra_info(self, name, default=None):
        """What the transport tells: 'peername', 'sockname', 'socket', 'sslcontext' and others."""
        return self.transport.get_extra_info(name, default)

    def drain(self):
        """Wait while more is queued than the transport's high-water mark.

        Raises what the reader's `set_exception` was given, and ConnectionResetError once the
        connection is lost. Where nothing need be waited for the task goes on at once.
        Cancelled, nothing is taken back of what was written.
        """
        cdef StreamCall call
        if self.native_protocol is None:
            return self._drain_by_protocol()
        call = make_stream_call(STREAM_DRAIN, None, None)
        call.writer = self
        return call

    # By asyncio's names, for what is left to its StreamWriter, for tools and for tests.

    @property
    def _transport(self):
        return self.transport

    @_transport.setter
    def _transport(self, transport):
        self.bind_transport(transport)

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _reader(self):
        return self.reader

    @property
    def _loop(self):
        return self.loop
