# What a transport has still to send: a queue of chunks that keep bytes by reference.

cdef enum:
    FIRST_CHUNKS = 2         # a response's head and body fit without an allocation
    KEPT_CHUNKS = 64         # room that an emptied queue may keep
    MAX_IOVECS = 64

cdef inline void out_init(OutQueue* out) noexcept:
    out.chunks = out.first
    out.capacity = FIRST_CHUNKS
    out.head = out.count = 0
    out.size = 0


cdef int out_make_room(OutQueue* out) except -1:
    cdef Chunk* wider
    if out.head:
        # The front has gone out: move the rest down before asking for memory.
        memmove(out.chunks, out.chunks + out.head, out.count * sizeof(Chunk))
        out.head = 0
        if out.count < out.capacity:
            return 0
    wider = <Chunk*>PyMem_RawMalloc(2 * out.capacity * sizeof(Chunk))
    if wider == NULL:
        raise MemoryError()
    memcpy(wider, out.chunks, out.count * sizeof(Chunk))
    if out.chunks != out.first:
        PyMem_RawFree(out.chunks)
    out.chunks = wider
    out.capacity *= 2
    return 0


cdef inline int out_push(OutQueue* out, object data, size_t start) except -1:
    """Queue the bytes object `data` from `start` on, taking a reference to it."""
    cdef Chunk* chunk
    if out.head + out.count == out.capacity:
        out_make_room(out)
    chunk = &out.chunks[out.head + out.count]
    Py_INCREF(data)
    chunk.owner = <PyObject*>data
    chunk.data = PyBytes_AS_STRING(data) + start
    chunk.size = PyBytes_GET_SIZE(data) - start
    out.count += 1
    out.size += chunk.size
    return 0


cdef size_t out_gather(OutQueue* out, char* target, size_t room) noexcept:
    """Copy as many whole chunks from the front as fit; they stay queued.  How many bytes."""
    cdef size_t size = 0
    cdef int i
    for i in range(out.head, out.head + out.count):
        if out.chunks[i].size > room - size:
            break
        memcpy(target + size, out.chunks[i].data, out.chunks[i].size)
        size += out.chunks[i].size
    return size


cdef void out_consume(OutQueue* out, size_t sent) noexcept:
    """Take `sent` bytes off the front."""
    cdef Chunk* chunk
    cdef PyObject* owner
    out.size -= sent
    while out.count:
        chunk = &out.chunks[out.head]
        if chunk.size > sent:
            chunk.data += sent
            chunk.size -= sent
            return
        sent -= chunk.size
        owner = chunk.owner
        out.head += 1
        out.count -= 1
        Py_DECREF(<object>owner)
    out.head = 0
    if out.capacity > KEPT_CHUNKS:
        out_forget_room(out)


cdef void out_clear(OutQueue* out) noexcept:
    out_consume(out, out.size)
    out_forget_room(out)


cdef void out_forget_room(OutQueue* out) noexcept:
    if out.chunks != out.first:
        PyMem_RawFree(out.chunks)
        out.chunks = out.first
        out.capacity = FIRST_CHUNKS


cdef inline int out_vectors(OutQueue* out, iovec* vectors, size_t* offered) noexcept nogil:
    """Point `vectors` at the front of the queue; how many, and the bytes in them."""
    cdef Chunk* chunk = &out.chunks[out.head]
    cdef int n = min(out.count, <int>MAX_IOVECS)
    cdef int i
    offered[0] = 0
    for i in range(n):
        vectors[i].iov_base = chunk[i].data
        vectors[i].iov_len = chunk[i].size
        offered[0] += chunk[i].size
    return n


cdef ssize_t out_send(OutQueue* out, int fd, size_t* offered) noexcept nogil:
    """One system call's worth of the queue; the bytes taken of those offered, or -1 with errno set."""
    cdef iovec vectors[MAX_IOVECS]
    cdef msghdr message
    cdef Chunk* chunk = &out.chunks[out.head]
    if out.count == 1:
        offered[0] = chunk.size
        return send(fd, chunk.data, chunk.size, MSG_NOSIGNAL)
    memset(&message, 0, sizeof(message))
    message.msg_iov = vectors
    message.msg_iovlen = out_vectors(out, vectors, offered)
    return sendmsg(fd, &message, MSG_NOSIGNAL)


cdef ssize_t out_write(OutQueue* out, int fd, size_t* offered) noexcept nogil:
    """The same for an fd that need not be a socket's."""
    cdef iovec vectors[MAX_IOVECS]
    cdef int n = out_vectors(out, vectors, offered)
    return writev(fd, vectors, n)
