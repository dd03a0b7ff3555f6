# The system calls behind the sock_* methods: each gives its result, or WOULD_BLOCK.

cdef object SocketType = _socket.socket
cdef object socket_fileno = _socket.socket.fileno


cdef int fileno_of(SocketCall call) except? -1:
    cdef PyObject* stack[1]
    cdef PyObject* number
    if not call.native:
        return call.sock.fileno()
    stack[0] = <PyObject*>call.sock
    number = PyObject_Vectorcall(<PyObject*>socket_fileno, stack, 1, NULL)
    if number == NULL:
        raise take_exception()
    result = <object>number
    Py_DECREF(result)
    return result


def refuse_tls_socket(sock):
    """Raise TypeError for an ssl.SSLSocket: its bytes are not those that go over the wire."""
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


cdef object try_method(SocketCall call, str name, tuple arguments):
    """The socket's own method."""
    try:
        return getattr(call.sock, name)(*arguments)
    except (BlockingIOError, InterruptedError):
        return WOULD_BLOCK


cdef object try_counted(SocketCall call, str name, tuple arguments):
    """The same for one that gives bytes or their number, alone or beside an address."""
    result = try_method(call, name, arguments)
    moved = result[0] if type(result) is tuple else result
    if moved is not WOULD_BLOCK:
        count_moved(call, len(moved) if isinstance(moved, bytes) else moved)
    return result


cdef inline void count_moved(SocketCall call, ssize_t count) noexcept:
    if call.direction == EV_READ:
        call.loop.counts.received += count
    else:
        call.loop.counts.sent += count


cdef ssize_t receive_now(int fd, void* buffer, size_t size) noexcept nogil:
    cdef ssize_t n
    while True:
        n = recv(fd, buffer, size, MSG_DONTWAIT)
        if n >= 0 or errno != EINTR:
            return n


cdef inline void note_read(SocketWatcher watcher, ssize_t n, size_t size) noexcept:
    """Remember what a read has told of the socket."""
    if watcher is not None:
        watcher.large_reads = n >= (SMALL_READ if watcher.large_reads else LARGE_READ)
        if 0 < n < <ssize_t>size and watcher.trusts_short:
            watcher.ready &= ~<uint32_t>EV_READ


cdef object try_recv(SocketCall call, int fd, SocketWatcher watcher):
    cdef Loop loop = call.loop
    cdef ssize_t n
    if call.size == 0:
        return b""
    if call.size > SCRATCH_SIZE or (watcher is not None and watcher.large_reads and call.size > SMALL_READ):
        return try_recv_large(call, fd, watcher)
    n = receive_now(fd, loop.scratch, call.size)
    if n < 0:
        return read_failed(errno)
    call.loop.counts.received += n
    note_read(watcher, n, call.size)
    return PyBytes_FromStringAndSize(loop.scratch, n)


cdef object try_recv_large(SocketCall call, int fd, SocketWatcher watcher):
    """Straight into the bytes object that is handed over."""
    cdef PyObject* data = PyBytes_AllocRaw(NULL, call.size)
    cdef ssize_t n
    cdef int error
    if data == NULL:
        raise take_exception()
    n = receive_now(fd, PyBytes_AS_STRING(<object>data), call.size)
    if n < 0:
        error = errno
        Py_DECREF(<object>data)
        return read_failed(error)
    call.loop.counts.received += n
    note_read(watcher, n, call.size)
    return take_bytes(data, n)


cdef object read_failed(int error):
    if would_block(error):
        return WOULD_BLOCK
    raise plain_os_error(error)


cdef object try_recv_into(SocketCall call, int fd, SocketWatcher watcher):
    cdef Py_buffer view
    cdef ssize_t n = 0
    cdef int error
    try:
        PyObject_GetBuffer(call.argument, &view, PyBUF_WRITABLE)
    except BufferError:
        raise TypeError(
            f"recv_into() argument 1 must be read-write bytes-like object, "
            f"not {type(call.argument).__name__}") from None
    if view.len:
        n = receive_now(fd, view.buf, view.len)
    error = errno
    PyBuffer_Release(&view)
    if n < 0:
        return read_failed(error)
    call.loop.counts.received += n
    note_read(watcher, n, view.len)
    return n


cdef object try_sendall(SocketCall call, int fd, SocketWatcher watcher):
    """Send what the kernel takes; the rest is kept, by a memoryview if it is not bytes."""
    cdef Py_buffer view
    cdef object data = call.argument
    cdef bint done
    if PyBytes_CheckExact(data):
        done = send_what_fits(call, fd, watcher, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return None if done else WOULD_BLOCK
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if send_what_fits(call, fd, watcher, <char*>view.buf, view.len):
            return None
        if type(data) is not memoryview:
            call.argument = memoryview(data)
        return WOULD_BLOCK
    finally:
        PyBuffer_Release(&view)


cdef bint send_what_fits(SocketCall call, int fd, SocketWatcher watcher, char* data,
                         Py_ssize_t size) except -1:
    """Whether all has left."""
    cdef ssize_t n
    while True:
        if call.native:
            n = send(fd, data + call.sent, size - call.sent, MSG_DONTWAIT | MSG_NOSIGNAL)
            if n < 0:
                if errno == EINTR:
                    continue
                if would_block(errno):
                    return False
                raise plain_os_error(errno)
        else:
            n = send_by_method(call)
            if n < 0:
                return False
        call.loop.counts.sent += n
        call.sent += n
        if call.sent >= size:
            return True
        if watcher is not None and watcher.trusts_short:
            return False


cdef ssize_t send_by_method(SocketCall call) except? -1:
    """What the socket's own send takes of the rest, -1 if it would block."""
    rest = call.argument
    if call.sent:
        rest = memoryview(rest).cast("B")[call.sent:]
    sent = try_method(call, "send", (rest,))
    return -1 if sent is WOULD_BLOCK else sent


cdef object try_accept(SocketCall call, int fd):
    """A connection, non-blocking from the start where the address is one that we can read."""
    cdef Address address
    cdef sockaddr_storage storage
    cdef socklen_t size = sizeof(storage)
    cdef int accepted
    if not call.native or not is_internet(fd):
        return accepted_by_method(call)
    with nogil:                # a blocking socket must not stop the other threads
        accepted = pl_accept(fd, &storage, &size)
    if accepted < 0:
        return read_failed(errno)
    memcpy(&address, &storage, sizeof(address))
    try:
        conn = SocketType(
            storage.ss_family, _socket.SOCK_STREAM | NONBLOCK_TYPE, call.sock.proto, fileno=accepted)
    except BaseException:
        close(accepted)
        raise
    if not NONBLOCK_TYPE:
        conn.setblocking(False)
    return conn, address_tuple(&address)


cdef object accepted_by_method(SocketCall call):
    pair = try_method(call, "accept", ())
    if pair is not WOULD_BLOCK:
        pair[0].setblocking(False)
    return pair


# Given as part of a socket's type it spares a system call.
cdef int NONBLOCK_TYPE = getattr(_socket, "SOCK_NONBLOCK", 0)


cdef bint is_internet(int fd) noexcept nogil:
    cdef Address address
    cdef socklen_t size = sizeof(address)
    return getsockname(fd, &address.any, &size) == 0 and (
        address.any.sa_family == AF_INET or address.any.sa_family == AF_INET6)


cdef object try_connected(int fd):
    """Whether a connect that was begun has come to its end, good or bad."""
    cdef pollfd asked
    asked.fd = fd
    asked.events = POLLOUT
    asked.revents = 0
    poll(&asked, 1, 0)
    return None if asked.revents else WOULD_BLOCK


cdef object try_sendfile(SocketCall call, int fd):
    """Send one piece of the file; the number of bytes sent, once all have been."""
    cdef ssize_t n
    cdef size_t piece
    while True:
        piece = SENDFILE_PIECE if call.size < 0 else min(call.size - call.sent, <Py_ssize_t>SENDFILE_PIECE)
        if piece == 0:
            return call.sent
        with nogil:            # the disk may take its time
            n = pl_sendfile(fd, call.file, call.offset, piece)
        if n < 0:
            if errno == EINTR:
                continue
            if would_block(errno):
                return WOULD_BLOCK
            raise plain_os_error(errno)
        if n == 0:
            return call.sent
        call.loop.counts.sent += n
        call.offset += n
        call.sent += n
        if <size_t>n < piece:
            return WOULD_BLOCK     # or at the end of the file: it listens anew, and finds out
