# The reading half of StreamTransport.
#
# Small reads land in the loop's scratch buffer and are copied into bytes of the right
# size; after a large one the next is read straight into the bytes handed over.
# Pausing is lazy: the registration ends only when an event arrives meanwhile, so a
# pause and resume between two events costs no system call.

cdef enum:
    SCRATCH_SIZE = 256 * 1024
    LARGE_READ = 32 * 1024     # a read this large makes the next a large read
    SMALL_READ = 16 * 1024     # and one below this ends that


cdef int read_ready(StreamTransport self) except -1:
    if self.state != STREAM_OPEN or self.reading_paused or self.eof_received:
        return self.want()
    if self.tls is not None:
        return read_ciphertext(self)
    if self.buffered:
        return read_into_buffer(self)
    if self.large_reads:
        return read_large(self)
    return read_small(self)


cdef int read_small(StreamTransport self) except -1:
    cdef char* scratch = self.loop.scratch
    cdef ssize_t n = recv(self.fd, scratch, SCRATCH_SIZE, 0)
    if n <= 0:
        return read_nothing(self, n, errno)
    self.loop.counts.received += n
    self.large_reads = n >= LARGE_READ
    return deliver(self, pool_take(&self.loop.pool, self.reactor.polls, scratch, n))


cdef int read_ciphertext(StreamTransport self) except -1:
    """For the TLS transport above, which decrypts it where it is."""
    cdef char* scratch = self.loop.scratch
    cdef TlsTransport tls = self.tls
    cdef ssize_t n = recv(self.fd, scratch, SCRATCH_SIZE, 0)
    if n <= 0:
        return read_nothing(self, n, errno)
    self.loop.counts.received += n
    return tls.receive_ciphertext(scratch, n)


cdef int read_large(StreamTransport self) except -1:
    cdef PyObject* data = PyBytes_AllocRaw(NULL, SCRATCH_SIZE)
    cdef ssize_t n
    cdef int error
    if data == NULL:
        raise MemoryError()
    n = recv(self.fd, PyBytes_AS_STRING(<object>data), SCRATCH_SIZE, 0)
    if n <= 0:
        error = errno
        Py_DECREF(<object>data)
        return read_nothing(self, n, error)
    self.loop.counts.received += n
    self.large_reads = n >= SMALL_READ
    return deliver(self, take_bytes(data, n))


cdef int deliver(StreamTransport self, object data) except -1:
    cdef object receive = self.receive   # held: the callback may set another protocol
    cdef PyObject* result
    if self.streams is not None and self.streams.native_reader is not None:
        return deliver_to_streams(self, data)
    result = self.tell(receive, <PyObject*>data)     # not by hand_over: a call per packet less
    if result == NULL:
        return self.protocol_failed("data_received")
    Py_DECREF(<object>result)
    return 0


cdef int deliver_to_streams(StreamTransport self, object data) except -1:
    """What a StreamReader of ours does with it needs no context: it runs no code of the program's."""
    try:
        return self.streams.receive(data)
    except BaseException as failure:
        return self.protocol_failed("data_received", failure)


cdef int read_into_buffer(StreamTransport self) except -1:
    cdef Py_buffer view
    cdef PyObject* buffer
    cdef object received = self.received
    cdef object hint = -1
    cdef object count
    cdef ssize_t n
    cdef int error
    buffer = self.tell(self.receive, <PyObject*>hint)
    if buffer == NULL:
        return self.protocol_failed("get_buffer")
    owner = <object>buffer
    Py_DECREF(owner)
    try:
        PyObject_GetBuffer(owner, &view, PyBUF_WRITABLE)
        if view.len == 0:
            PyBuffer_Release(&view)
            raise RuntimeError("get_buffer() returned an empty buffer")
    except BaseException as failure:
        return self.protocol_failed("get_buffer", failure)
    if self.state != STREAM_OPEN:
        PyBuffer_Release(&view)
        return 0              # closed by get_buffer itself
    n = recv(self.fd, view.buf, view.len, 0)
    error = errno
    PyBuffer_Release(&view)
    if n <= 0:
        return read_nothing(self, n, error)
    self.loop.counts.received += n
    count = n
    return self.hand_over(received, "buffer_updated", <PyObject*>count)


cdef int read_nothing(StreamTransport self, ssize_t result, int error) except -1:
    if result == 0:
        return read_eof(self)
    if would_block(error):
        return 0
    return self.io_failed(error, "recv")


cdef int read_eof(StreamTransport self) except -1:
    cdef PyObject* result
    cdef int keep_open
    self.eof_received = True
    self.want()
    result = self.tell_protocol("eof_received", NULL)
    if result == NULL:
        return self.protocol_failed("eof_received")
    keep_open = PyObject_IsTrue(result)
    Py_DECREF(<object>result)
    if keep_open < 0:
        return self.protocol_failed("eof_received")
    if not keep_open:
        self.close()
    return 0
