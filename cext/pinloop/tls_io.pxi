# What flows through a TlsTransport.
#
# Reading: the ciphertext of one receive is decrypted where it lies, into the bytes that
# are handed over, or into the protocol's own buffer.  Writing: small writes of a turn are
# gathered into shared records in the flush phase; what is encrypted goes from a scratch
# buffer of the loop straight to the kernel, and only what that does not take is copied.

cdef enum:
    TLS_BATCH = 128 * 1024      # plaintext encrypted before it is sent
    TLS_ROOM = TLS_BATCH + 16 * 1024    # what that becomes, and to spare


# ------------------------------------------------------------------ reading --

cdef int read_plain(TlsTransport self) except -1:
    """Deliver what can be decrypted, for as long as the protocol wants it."""
    cdef size_t room
    cdef int more = 1
    while more and self.state == TLS_OPEN and not self.reading_paused:
        room = self.engine.unread()
        if room == 0:
            return 0
        if self.buffered:
            more = read_into_protocol(self)
        elif room <= 2 * TLS_RECORD:
            more = read_small_plain(self)
        else:
            more = read_large_plain(self, room - TLS_RECORD)
    return 0


cdef enum:
    FILL_CLOSED = -1    # the peer sent close_notify
    FILL_EMPTY = 0      # no whole record is left
    FILL_FULL = 1
    FILL_FAULT = 2      # self.fault, to be raised once what came before it is delivered


cdef int fill(TlsTransport self, char* target, size_t room, size_t* total) except -2:
    """Decrypt into `target` as much as fits and is there."""
    cdef ssize_t n
    total[0] = 0
    try:
        while total[0] < room:
            n = self.engine.decrypt(target + total[0], room - total[0])
            if n <= 0:
                return FILL_CLOSED if n == 0 else FILL_EMPTY
            total[0] += n
            if self.engine.unread() == 0:
                return FILL_EMPTY
    except Exception as fault:
        if total[0] == 0:
            raise
        self.fault = fault
        return FILL_FAULT
    return FILL_FULL


cdef int read_small_plain(TlsTransport self) except -1:
    """1 if there may be more to read."""
    cdef char* scratch = tls_scratch(self.loop)
    cdef size_t total
    cdef int ended = fill(self, scratch, TLS_RECORD, &total)
    if total:
        deliver_plain(self, PyBytes_FromStringAndSize(scratch, total))
    return ended_reading(self, ended)


cdef int read_large_plain(TlsTransport self, size_t room) except -1:
    cdef PyObject* data = PyBytes_AllocRaw(NULL, room)
    cdef size_t total
    cdef int ended
    if data == NULL:
        raise MemoryError()
    try:
        ended = fill(self, PyBytes_AS_STRING(<object>data), room, &total)
    except BaseException:
        Py_DECREF(<object>data)
        raise
    whole = take_bytes(data, total)
    if total:
        deliver_plain(self, whole)
    return ended_reading(self, ended)


cdef int ended_reading(TlsTransport self, int ended) except -1:
    if ended == FILL_CLOSED:
        self.peer_closed()
    elif ended == FILL_FAULT:
        fault, self.fault = self.fault, None
        raise fault
    return ended == FILL_FULL


cdef int deliver_plain(TlsTransport self, object data) except -1:
    cdef object receive = self.receive    # held: the callback may set another protocol
    return self.hand_over(receive, "data_received", <PyObject*>data)


cdef int read_into_protocol(TlsTransport self) except -1:
    """One buffer of a BufferedProtocol; 1 if there may be more to read."""
    cdef Py_buffer view
    cdef size_t total
    cdef int ended
    cdef object hint = -1, count, received = self.received
    cdef PyObject* buffer = self.tell(self.receive, <PyObject*>hint)
    cdef PyObject* result
    if buffer == NULL:
        self.protocol_failed("get_buffer")
        return 0
    owner = <object>buffer
    Py_DECREF(owner)
    try:
        PyObject_GetBuffer(owner, &view, PyBUF_WRITABLE)
        if view.len == 0:
            PyBuffer_Release(&view)
            raise RuntimeError("get_buffer() returned an empty buffer")
    except BaseException as failure:
        self.protocol_failed("get_buffer", failure)
        return 0
    if self.state != TLS_OPEN:
        PyBuffer_Release(&view)
        return 0                  # closed by get_buffer itself
    try:
        ended = fill(self, <char*>view.buf, view.len, &total)
    finally:
        PyBuffer_Release(&view)
    if total:
        count = total
        result = self.tell(received, <PyObject*>count)
        if result == NULL:
            self.protocol_failed("buffer_updated")
            return 0
        Py_DECREF(<object>result)
    return ended_reading(self, ended)


cdef bint discard_plain(TlsTransport self) except -1:
    """Read and drop what nobody wants any more; true once the peer's close_notify was met."""
    cdef char* scratch = tls_scratch(self.loop)
    cdef size_t total
    cdef int ended = FILL_FULL
    while ended == FILL_FULL:
        ended = fill(self, scratch, TLS_RECORD, &total)
    if ended == FILL_FAULT:
        ended_reading(self, ended)
    return ended == FILL_CLOSED


cdef char* tls_scratch(Loop loop) except NULL:
    """Room for one record of plaintext, and behind it TLS_ROOM for ciphertext."""
    if loop.tls_scratch == NULL:
        loop.tls_scratch = <char*>PyMem_RawMalloc(TLS_RECORD + TLS_ROOM)
        if loop.tls_scratch == NULL:
            raise MemoryError()
    return loop.tls_scratch


# ------------------------------------------------------------------ writing --

cdef int enqueue_plain(TlsTransport self, object data) except -1:
    """Keep bytes by reference and copy what may change."""
    if not PyBytes_CheckExact(data):
        data = PyBytes_FromObject(data)
    if PyBytes_GET_SIZE(data):
        out_push(&self.out, data, 0)
    return 0


cdef int write_soon(TlsTransport self) except -1:
    """Encrypt now if it is much, else in this turn's flush phase."""
    if self.state == TLS_OPEN and self.out.count:
        if self.out.size >= LARGE_WRITE or self.out.size > self.high or self.loop.closed:
            write_plain(self)
        else:
            write_later(self)
    return plain_pressure(self)


cdef int write_later(TlsTransport self) except -1:
    if self.out.count and not self.in_flush:
        self.in_flush = True
        self.reactor.flush_later(self)
    return 0


cdef int write_plain(TlsTransport self) except -1:
    """Encrypt and send what was written, for as long as the transport below takes it."""
    if self.state != TLS_OPEN and self.state != TLS_CLOSING:
        return 0
    try:
        while self.out.count and not self.lower_is_full and not self.waits_for_peer:
            encrypt_some(self)
        relieve_plain_pressure(self)
        if self.state == TLS_CLOSING and self.out.count == 0:
            self.shut_down()
    except BaseException as failure:
        return self.failed(failure)
    return 0


cdef int encrypt_some(TlsTransport self) except -1:
    """One batch: encrypted into the loop's scratch buffer, and sent from there."""
    cdef char* scratch = tls_scratch(self.loop)
    cdef size_t left = TLS_BATCH
    self.engine.lend(scratch + TLS_RECORD, TLS_ROOM)
    while left and self.out.count and not self.waits_for_peer and self.state < TLS_LOST:
        left -= encrypt_next(self, scratch, left)
    return send_ciphertext(self)


cdef size_t encrypt_next(TlsTransport self, char* scratch, size_t most) except? 0:
    """What makes the next record or records; the plaintext taken, at most `most` bytes."""
    cdef Chunk* chunk = &self.out.chunks[self.out.head]
    cdef object owner = <object>chunk.owner    # held: a message callback may abort the connection
    cdef const char* data = chunk.data
    cdef size_t size = min(chunk.size, most)
    cdef ssize_t taken
    if size == chunk.size < TLS_RECORD and self.out.count > 1:
        data, size = scratch, out_gather(&self.out, scratch, min(most, <size_t>TLS_RECORD))
    taken = self.engine.encrypt(data, size)
    if taken == TLS_WANTS_MORE:
        self.waits_for_peer = True
        return 0
    if self.state < TLS_LOST:
        out_consume(&self.out, taken)
    return taken


cdef int send_ciphertext(TlsTransport self) except -1:
    """Hand the engine's output to the transport below."""
    cdef char* data
    cdef size_t size
    cdef PyObject* owner = self.engine.output(&data, &size)
    cdef StreamTransport stream
    try:
        if size == 0:
            return 0
        if type(self.lower) is StreamTransport:
            stream = <StreamTransport>self.lower
            return send_or_queue(stream, data, size, owner)
        if self.lower is not None:
            self.lower.write(
                <object>owner if owner != NULL else PyBytes_FromStringAndSize(data, size))
    finally:
        self.engine.output_taken()
    return 0


cdef int plain_pressure(TlsTransport self) except -1:
    # Once it is lost, what the transport below still holds is no concern of the protocol's.
    if self.writing_paused or self.state >= TLS_LOST:
        return 0
    return self.check_pressure(waiting_to_leave(self))


cdef int relieve_plain_pressure(TlsTransport self) except -1:
    return self.relieve_pressure(waiting_to_leave(self)) if self.writing_paused else 0


cdef size_t waiting_to_leave(TlsTransport self) except? 0:
    cdef size_t below = 0
    if type(self.lower) is StreamTransport:
        below = (<StreamTransport>self.lower).out.size
    elif self.lower is not None:
        below = self.lower.get_write_buffer_size()
    return self.out.size + below
