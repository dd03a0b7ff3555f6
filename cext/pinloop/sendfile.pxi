# A file on its way through a stream transport: sendfile(2), a piece each time that there is room.
#
# It goes after what was written before; what would be written meanwhile is refused, as
# asyncio does.  The transport counts as blocked all the while, so its registration waits for
# room and its queue stays where it is.

cdef enum:
    SENDFILE_PIECE = 1 << 30


@cython.final
cdef class FileSend:
    """What `send_file` returns."""

    @property
    def done(self):
        """A future of the number of bytes sent; ConnectionError if the transport is closed meanwhile."""
        return self.future

    @property
    def bytes_sent(self):
        """So far."""
        return self.sent

    def cancel(self):
        """Send no more.  Has no effect once all is sent."""
        if self.transport is not None:
            self.let_go()
        if self.future.done() and not self.future.cancelled():
            self.future.exception()        # seen, as far as the future is concerned

    cdef int proceed(self) except -1:
        """The transport's queue is empty and there may be room: send a piece."""
        cdef StreamTransport transport = self.transport
        cdef size_t piece = SENDFILE_PIECE
        cdef int64_t offset = self.offset + self.sent
        cdef int fd = transport.fd, file = self.file
        cdef ssize_t n
        if transport.state >= STREAM_CLOSING:
            return self.fail(None)
        if self.size >= 0:
            piece = min(piece, <size_t>(self.size - self.sent))
        n = 0
        if piece:
            with nogil:            # the disk may take its time
                n = pl_sendfile(fd, file, offset, piece)
        if n < 0 and not would_block(errno):
            return self.fail(plain_os_error(errno))
        if n > 0:
            self.sent += n
            transport.loop.counts.sent += n
        if n == 0 or self.sent == self.size:
            return self.complete()
        if not transport.blocked:
            transport.blocked = True
            transport.want()
        return 0

    cdef int complete(self) except -1:
        cdef object future = self.future
        if not future.done():
            future.set_result(self.sent)
        return self.let_go()

    cdef int fail(self, object exception) except -1:
        """The connection is closed, or the system call failed."""
        if not self.future.done():
            self.future.set_exception(exception or ConnectionError("Connection closed during sendfile"))
        return self.let_go()

    cdef int let_go(self) except -1:
        """The transport goes on as before."""
        cdef StreamTransport transport = self.transport
        self.transport = None
        transport.file_send = None
        if transport.state < STREAM_LOST:
            return queue_drained(transport) if transport.out.count == 0 else 0
        return 0


def send_file(StreamTransport transport, int file, offset, count):
    """Send from the fd `file`: `count` bytes (None: up to its end) from `offset` on, after what was written.

    The file's own position plays no part.  RuntimeError if another is being sent.
    """
    cdef FileSend sending
    if transport.file_send is not None:
        raise RuntimeError("sendfile is in progress already")
    if transport.reactor.fork_depth != pl_fork_depth:
        transport.reactor.forked()
    sending = FileSend.__new__(FileSend)
    sending.file = file
    sending.offset = offset
    sending.size = -1 if count is None else count
    sending.future = make_future(transport.loop)
    if transport.state >= STREAM_CLOSING:
        sending.future.set_exception(ConnectionError("Connection closed during sendfile"))
        return sending
    sending.transport = transport
    transport.file_send = sending
    if transport.out.count == 0:
        sending.proceed()
    elif not transport.blocked:
        send_queue(transport)
    return sending
