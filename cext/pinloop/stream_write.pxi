# The writing half of StreamTransport.
#
# Small writes are gathered and leave in one system call in the flush phase of the
# turn; large ones go at once.  bytes are kept by reference; anything mutable is copied
# when it cannot be sent at once.

cdef enum:
    LARGE_WRITE = 32 * 1024    # gathered bytes that are not worth holding back
    HIGH_WATER = 64 * 1024

cdef str WRITTEN_TOO_LATE = "write() on a connection that is closed or lost"


cdef int write_data(StreamTransport self, object data) except -1:
    """`write`, for calls from the floors above."""
    if PyBytes_CheckExact(data) and takes_plain_write(self, PyBytes_GET_SIZE(data)):
        out_push(&self.out, data, 0)
        self.in_flush = True
        return self.reactor.flush_later(self)
    if pl_unlikely(self.reactor.fork_depth != pl_fork_depth):
        self.reactor.forked()
    if not PyBytes_CheckExact(data) and not PyObject_CheckBuffer(data):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    if self.eof_requested:
        raise RuntimeError("Cannot call write() after write_eof()")
    if pl_unlikely(self.file_send is not None):
        raise RuntimeError("unable to write; sendfile is in progress")
    if self.state >= STREAM_CLOSING:
        return self.written_too_late(WRITTEN_TOO_LATE)
    enqueue(self, data)
    return push_out(self) if self.out.count else 0


cdef inline bint takes_plain_write(StreamTransport self, Py_ssize_t size) noexcept:
    """Whether bytes of that size only have to be queued for the flush: the first write of a turn, mostly."""
    return (
        self.out.count == 0 and 0 < size < LARGE_WRITE and <size_t>size <= self.high
        and self.state == STREAM_OPEN and not self.in_flush and not self.blocked and not self.eof_requested
        and self.file_send is None and not self.loop.closed and self.reactor.fork_depth == pl_fork_depth)


cdef int enqueue(StreamTransport self, object data) except -1:
    if not PyBytes_CheckExact(data):
        return enqueue_copy(self, data)
    if PyBytes_GET_SIZE(data):
        out_push(&self.out, data, 0)
    return 0


cdef int enqueue_copy(StreamTransport self, object data) except -1:
    """Queue what may change after write() returns; a large one is sent first, only the rest copied."""
    cdef Py_buffer view
    cdef ssize_t sent = 0
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len >= LARGE_WRITE and self.out.count == 0 and self.state == STREAM_OPEN:
            sent = send(self.fd, view.buf, view.len, MSG_NOSIGNAL)
            if sent < 0:
                if not would_block(errno):
                    return self.io_failed(errno, "send")
                sent = 0
            self.loop.counts.sent += sent
        if sent < view.len:
            out_push(&self.out, PyBytes_FromStringAndSize(<char*>view.buf + sent, view.len - sent), 0)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int push_out(StreamTransport self) except -1:
    """Send the queue now if it is large, else with the turn's flush."""
    if not self.blocked and self.state != STREAM_NEW:
        # A closed loop has no flush phase any more: what can still leave leaves now.
        if self.out.size >= LARGE_WRITE or self.out.size > self.high or self.loop.closed:
            self.reactor.sent = True
            send_queue(self)
        elif not self.in_flush:
            self.in_flush = True
            self.reactor.flush_later(self)
    return self.check_pressure(self.out.size)


cdef int send_or_queue(StreamTransport self, const char* data, size_t size, PyObject* owner) except -1:
    """Send what the kernel takes of `data`, whose bytes object is `owner` or NULL; queue the rest."""
    cdef ssize_t sent = 0
    cdef bint tried = self.out.count == 0 and not self.blocked
    if self.state >= STREAM_CLOSING:
        return 0
    if tried:
        sent = send(self.fd, data, size, MSG_NOSIGNAL)
        if sent < 0:
            if not would_block(errno):
                return self.io_failed(errno, "send")
            sent = 0
        self.loop.counts.sent += sent
        if <size_t>sent == size:
            return 0
        self.blocked = True
        self.want()
    if owner != NULL:
        out_push(&self.out, <object>owner, sent)
    else:
        out_push(&self.out, PyBytes_FromStringAndSize(data + sent, size - sent), 0)
    return self.check_pressure(self.out.size) if tried else push_out(self)


cdef int send_one(StreamTransport self) except -1:
    """send_queue for a single chunk, as most flushes find it: it leaves whole, and that is all."""
    cdef Chunk* chunk = &self.out.chunks[self.out.head]
    cdef size_t size = chunk.size
    cdef ssize_t sent = send(self.fd, chunk.data, size, MSG_NOSIGNAL)
    cdef PyObject* owner
    if pl_unlikely(sent < 0):
        # A second attempt would not meet the same error: a reset is told once.
        return send_queue(self) if errno == EINTR else send_refused(self, errno, size)
    self.loop.counts.sent += sent
    if pl_unlikely(<size_t>sent < size or self.out.capacity > KEPT_CHUNKS):
        return sent_some(self, sent, size)
    owner = chunk.owner
    self.out.head = self.out.count = 0
    self.out.size = 0
    Py_DECREF(<object>owner)
    if pl_unlikely(self.state != STREAM_OPEN or self.file_send is not None or self.writing_paused
                   or self.eof_requested):
        return queue_drained(self)
    return 0


cdef int send_queue(StreamTransport self) except -1:
    cdef size_t offered
    cdef ssize_t sent
    while self.out.count:
        sent = out_send(&self.out, self.fd, &offered)
        if sent < 0:
            if errno == EINTR:
                continue
            return send_refused(self, errno, offered)
        self.loop.counts.sent += sent
        if <size_t>sent < offered:
            return sent_some(self, sent, offered)
        out_consume(&self.out, sent)
    return queue_drained(self)


cdef int send_refused(StreamTransport self, int error, size_t offered) except -1:
    return sent_some(self, 0, offered) if would_block(error) else self.io_failed(error, "send")


cdef int sent_some(StreamTransport self, size_t sent, size_t offered) except -1:
    out_consume(&self.out, sent)
    if sent == offered:
        return queue_drained(self)
    self.blocked = True
    self.want()
    return self.relieve_pressure(self.out.size)


cdef int queue_drained(StreamTransport self) except -1:
    if self.file_send is not None:
        return self.file_send.proceed()
    if self.blocked:
        self.blocked = False
        self.want()
    self.relieve_pressure(self.out.size)
    if self.out.count or self.state >= STREAM_LOST:
        return 0              # resume_writing wrote again, or closed
    if self.state == STREAM_CLOSING:
        return self.lose(None)
    if self.eof_requested:
        return shut_write_side(self)
    return 0


cdef int shut_write_side(StreamTransport self) except -1:
    self.reactor.sent = True
    # A peer that is gone may have left bytes to be read: reading finds out what became of it.
    if shutdown(self.fd, SHUT_WR) < 0 and errno != ENOTCONN:
        return self.io_failed(errno, "shutdown")
    return 0
