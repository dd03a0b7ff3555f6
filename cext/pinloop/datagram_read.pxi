# The reading half of DatagramTransport.
#
# One datagram per event while they come one at a time; as soon as several wait, up to 32
# in one system call.  The kernel does not tell how many wait, so every eighth event asks
# for a batch to find out.

cdef enum:
    DATAGRAM_ROOM = 65536          # larger than any over IP
    # Between the starts of two buffers.  A power of two would put all of them into the
    # same few lines of the processor's cache.
    DATAGRAM_STRIDE = DATAGRAM_ROOM + 320
    PROBE_EVERY = 8


cdef ReceiveBuffers receive_buffers(Loop loop):
    """The loop's buffers for batches, made when first asked for."""
    cdef ReceiveBuffers buffers = loop.buffers
    cdef int i
    if buffers is not None:
        return buffers
    buffers = ReceiveBuffers.__new__(ReceiveBuffers)
    # Of these 2 MiB only the pages that datagrams touch become memory.
    buffers.room = <char*>PyMem_RawMalloc(RECEIVE_BATCH * DATAGRAM_STRIDE)
    if buffers.room == NULL:
        raise MemoryError()
    memset(buffers.messages, 0, sizeof(buffers.messages))
    for i in range(RECEIVE_BATCH):
        buffers.vectors[i].iov_base = buffers.room + i * DATAGRAM_STRIDE
        buffers.vectors[i].iov_len = DATAGRAM_ROOM
        buffers.messages[i].msg_hdr.msg_iov = &buffers.vectors[i]
        buffers.messages[i].msg_hdr.msg_iovlen = 1
        buffers.messages[i].msg_hdr.msg_name = &buffers.sources[i]
        buffers.messages[i].msg_hdr.msg_namelen = sizeof(Address)
    loop.buffers = buffers
    return buffers


@cython.final
@cython.no_gc
cdef class ReceiveBuffers:

    def __dealloc__(self):
        PyMem_RawFree(self.room)


cdef inline bint listens(DatagramTransport self) noexcept:
    return self.state == STREAM_OPEN and not self.reading_paused


cdef int read_datagrams(DatagramTransport self) except -1:
    cdef int count = 0, wanted = 1
    if self.undelivered is not None:
        deliver_rest(self)
    if not listens(self):
        return self.want()
    if self.batching or self.singles >= PROBE_EVERY:
        wanted = RECEIVE_BATCH
    if wanted > 1 and (self.family == AF_INET or self.family == AF_INET6):
        count = receive_batch(self)
    else:
        while count < wanted and listens(self) and receive_one(self):
            count += 1
    if count > 1:
        self.batching = True
        self.singles = 0
    elif self.singles < PROBE_EVERY:
        self.singles += 1
    else:
        self.batching = False
        self.singles = 0
    return 0


cdef Peer sender(DatagramTransport self, sockaddr* address, socklen_t size):
    """Who sent it; most often who sent the one before."""
    if self.last is None or size == 0 or not same_address(self.last, address, size):
        self.last = self.addresses.received(address, size)
    return self.last


cdef int receive_one(DatagramTransport self) except -1:
    """Take one datagram in and deliver it; 0 when there was none."""
    cdef sockaddr_storage source
    cdef socklen_t size = sizeof(source)
    cdef ssize_t n
    cdef PyObject* data
    cdef PyObject* name
    if self.family != AF_INET and self.family != AF_INET6:
        return receive_other(self)
    n = recvfrom(self.fd, self.loop.scratch, SCRATCH_SIZE, 0, <sockaddr*>&source, &size)
    if n < 0:
        return receive_failed(self, errno)
    self.loop.counts.received += n
    return deliver_one(
        self, PyBytes_FromStringAndSize(self.loop.scratch, n), sender(self, <sockaddr*>&source, size).name)


cdef int deliver_one(DatagramTransport self, object data, object name) except -1:
    cdef PyObject* datas[1]
    cdef PyObject* names[1]
    Py_INCREF(data)
    Py_INCREF(name)
    datas[0], names[0] = <PyObject*>data, <PyObject*>name
    deliver_batch(self, datas, names, 1)
    return 1


cdef int receive_other(DatagramTransport self) except -1:
    """The same for families whose datagrams may be larger, or whose addresses are Python's business."""
    cdef sockaddr_storage source
    cdef iovec vectors[2]
    cdef msghdr message
    cdef ssize_t n
    if self.family != AF_UNIX:
        try:
            data, name = self.sock.recvfrom(SCRATCH_SIZE)
        except OSError as failure:
            return receive_failed(self, failure.errno)
        self.loop.counts.received += len(data)
        return deliver_one(self, data, name)
    # Over a Unix socket a datagram may be as large as the sender's buffer.
    vectors[0].iov_base, vectors[0].iov_len = self.loop.scratch, SCRATCH_SIZE
    vectors[1].iov_base, vectors[1].iov_len = self.buffers.room, RECEIVE_BATCH * DATAGRAM_STRIDE
    memset(&message, 0, sizeof(message))
    message.msg_name, message.msg_namelen = &source, sizeof(source)
    message.msg_iov, message.msg_iovlen = vectors, 2
    n = recvmsg(self.fd, &message, 0)
    if n < 0:
        return receive_failed(self, errno)
    self.loop.counts.received += n
    data = PyBytes_FromStringAndSize(self.loop.scratch, min(n, <ssize_t>SCRATCH_SIZE))
    if n > SCRATCH_SIZE:
        data += PyBytes_FromStringAndSize(self.buffers.room, n - SCRATCH_SIZE)
    return deliver_one(self, data, sender(self, <sockaddr*>&source, message.msg_namelen).name)


cdef int receive_failed(DatagramTransport self, int error) except -1:
    if not would_block(error):
        self.told_error(os_error(error, "recvfrom"))
    return 0


cdef int receive_batch(DatagramTransport self) except -1:
    """Take in what waits, up to a batch, and deliver it; how many there were."""
    cdef pl_mmsghdr* messages = self.buffers.messages
    cdef PyObject* datas[RECEIVE_BATCH]
    cdef PyObject* names[RECEIVE_BATCH]
    cdef int error, i, count, taken = 0
    count = pl_recv_many(self.fd, messages, RECEIVE_BATCH, &error)
    try:
        # All are objects before the first is delivered: a callback may make the loop read again.
        for i in range(count):
            name = sender(self, &self.buffers.sources[i].any, messages[i].msg_hdr.msg_namelen).name
            messages[i].msg_hdr.msg_namelen = sizeof(Address)
            datas[i] = PyBytes_AllocRaw(<char*>self.buffers.vectors[i].iov_base, messages[i].msg_len)
            if datas[i] == NULL:
                raise MemoryError()
            Py_INCREF(name)
            names[i] = <PyObject*>name
            self.loop.counts.received += messages[i].msg_len
            taken += 1
    except BaseException:
        drop_datagrams(datas, names, 0, taken)
        raise
    if count:
        deliver_batch(self, datas, names, count)
    if error and self.state == STREAM_OPEN:
        receive_failed(self, error)
    return count


cdef void drop_datagrams(PyObject** datas, PyObject** names, int start, int end) noexcept:
    cdef int i
    for i in range(start, end):
        Py_DECREF(<object>datas[i])
        Py_DECREF(<object>names[i])


cdef int deliver_batch(DatagramTransport self, PyObject** datas, PyObject** names, int count) except -1:
    """Call datagram_received for each, all within one entry of the context.  Takes the references over."""
    cdef PyObject* stack[3]
    cdef PyObject* result
    cdef object context = self.context, receive
    cdef bint entered = self.in_context
    cdef int i = 0
    if not entered:
        if PyContext_Enter(<PyObject*>context) < 0:
            PyErr_Clear()         # the caller itself runs in this context
            entered = True
        else:
            self.in_context = True
    try:
        while i < count and listens(self):
            receive = self.receive      # anew each time: a callback may set another protocol
            stack[1], stack[2] = datas[i], names[i]
            result = PyObject_Vectorcall(
                <PyObject*>receive, &stack[1], 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
            drop_datagrams(datas, names, i, i + 1)
            i += 1
            if result == NULL:
                self.protocol_failed("datagram_received")
            else:
                Py_DECREF(<object>result)
    finally:
        if not entered:
            self.in_context = False
            PyContext_Exit(<PyObject*>context)
        if i < count:
            put_back(self, datas, names, i, count)
    return 0


cdef int put_back(DatagramTransport self, PyObject** datas, PyObject** names, int start, int end) except -1:
    """Keep what was not delivered since a callback paused reading, or left the loop (KeyboardInterrupt)."""
    cdef int i
    rest = [(<object>datas[i], <object>names[i]) for i in range(start, end)]
    drop_datagrams(datas, names, start, end)
    return keep_rest(self, rest)


cdef int keep_rest(DatagramTransport self, list rest) except -1:
    if self.state != STREAM_OPEN:
        return 0
    self.undelivered = rest if self.undelivered is None else rest + self.undelivered
    if self.reading_paused:
        return 0
    return self.loop.soon(self._deliver_rest, <PyObject*>None, None)


cdef int deliver_rest(DatagramTransport self) except -1:
    cdef list rest = self.undelivered
    cdef Py_ssize_t i = 0
    if rest is None or not listens(self):
        return 0
    self.undelivered = None
    try:
        while i < len(rest) and listens(self):
            data, name = rest[i]
            i += 1
            deliver_one(self, data, name)
    finally:
        if i < len(rest):
            keep_rest(self, rest[i:])
    return 0
