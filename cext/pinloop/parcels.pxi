# What a datagram transport has still to send: a queue of (bytes, address).

cdef enum:
    FIRST_PARCELS = 8
    KEPT_PARCELS = 64        # room that an emptied queue may keep
    SEND_BATCH = 64          # datagrams handed over in one system call: as many as a run may have
    RUN_SIZE = 65000         # bytes of a run: it has to fit into what IP could carry
    CONTROL_WORDS = 4        # room for the control message of a run

# A datagram in the queue counts for its bytes, since 3.13 for a header too (so that empty ones count).
cdef size_t HEADER_SIZE = 8 if sys.version_info >= (3, 13) else 0


cdef int parcels_push(ParcelQueue* queue, object data, Peer peer) except -1:
    """Queue the bytes object `data` for `peer` (None: the kernel knows), taking references to both."""
    cdef Parcel* parcel
    if queue.head + queue.count == queue.capacity:
        parcels_make_room(queue)
    parcel = &queue.parcels[queue.head + queue.count]
    Py_INCREF(data)
    parcel.data = <PyObject*>data
    parcel.peer = NULL
    if peer is not None:
        Py_INCREF(peer)
        parcel.peer = <PyObject*>peer
    queue.count += 1
    queue.size += PyBytes_GET_SIZE(data) + HEADER_SIZE
    return 0


cdef int parcels_make_room(ParcelQueue* queue) except -1:
    cdef int capacity = max(2 * queue.capacity, <int>FIRST_PARCELS)
    cdef Parcel* wider
    if queue.head >= queue.count and queue.count:
        # At least half of it has left: move the rest down before asking for memory.
        memcpy(queue.parcels, queue.parcels + queue.head, queue.count * sizeof(Parcel))
        queue.head = 0
        return 0
    wider = <Parcel*>PyMem_RawMalloc(capacity * sizeof(Parcel))
    if wider == NULL:
        raise MemoryError()
    if queue.count:
        memcpy(wider, queue.parcels + queue.head, queue.count * sizeof(Parcel))
    PyMem_RawFree(queue.parcels)
    queue.parcels, queue.capacity, queue.head = wider, capacity, 0
    return 0


cdef void parcels_drop(ParcelQueue* queue, int count) noexcept:
    """Take the first `count` off."""
    cdef Parcel parcel
    while count > 0 and queue.count:
        count -= 1
        parcel = queue.parcels[queue.head]
        queue.head += 1
        queue.count -= 1
        queue.size -= PyBytes_GET_SIZE(<object>parcel.data) + HEADER_SIZE
        if queue.count == 0:
            queue.head = 0
        # Released last: an address may be anybody's object, with a finalizer.
        Py_DECREF(<object>parcel.data)
        Py_XDECREF(parcel.peer)
    if queue.count == 0 and queue.capacity > KEPT_PARCELS:
        PyMem_RawFree(queue.parcels)
        queue.parcels, queue.capacity = NULL, 0


cdef void parcels_clear(ParcelQueue* queue) noexcept:
    parcels_drop(queue, queue.count)
    if queue.count == 0:
        PyMem_RawFree(queue.parcels)
        queue.parcels, queue.capacity = NULL, 0


cdef Dispatch parcels_send(ParcelQueue* queue, int fd, int limit, size_t segment_limit) noexcept:
    """Send up to `limit` of the queue in one system call.

    The first must not be for an address that only Python's socket knows.
    """
    cdef pl_mmsghdr messages[SEND_BATCH]
    cdef iovec vectors[SEND_BATCH]
    cdef uint64_t controls[SEND_BATCH][CONTROL_WORDS]
    cdef Dispatch done
    cdef Parcel* parcel = &queue.parcels[queue.head]
    cdef msghdr* message
    cdef Peer peer
    cdef int count = min(limit, queue.count, <int>SEND_BATCH), at = 0, n = 0, left, i
    done.joined = 1
    if count == 1:
        done.sent = parcel_send(parcel, fd, &done.error)
        return done
    for i in range(count):
        vectors[i].iov_base = PyBytes_AS_STRING(<object>parcel[i].data)
        vectors[i].iov_len = PyBytes_GET_SIZE(<object>parcel[i].data)
    while at < count:
        message = &messages[n].msg_hdr
        memset(message, 0, sizeof(msghdr))
        if parcel[at].peer != NULL:
            peer = <Peer>parcel[at].peer
            if peer.size == 0:
                break
            message.msg_name = &peer.address
            message.msg_namelen = peer.size
        message.msg_iov = &vectors[at]
        message.msg_iovlen = run_length(&parcel[at], count - at, segment_limit)
        if message.msg_iovlen > 1:
            pl_set_segment(message, controls[n], vectors[at].iov_len)
        at += <int>message.msg_iovlen
        n += 1
    left = pl_send_many(fd, messages, n, &done.error)
    done.sent = 0
    for i in range(left):
        done.sent += <int>messages[i].msg_hdr.msg_iovlen
    if left < n:
        done.joined = <int>messages[left].msg_hdr.msg_iovlen
    return done


cdef inline int run_length(Parcel* parcel, int count, size_t segment_limit) noexcept:
    """How many of these may leave as one message that the kernel cuts up: of one size, but for the last."""
    cdef size_t segment = PyBytes_GET_SIZE(<object>parcel.data), size, total = segment
    cdef int n = 1
    if segment == 0 or segment > segment_limit:
        return 1
    while n < count and parcel[n].peer == parcel.peer:
        size = PyBytes_GET_SIZE(<object>parcel[n].data)
        total += size
        if size == 0 or size > segment or total > RUN_SIZE:
            break
        n += 1
        if size < segment:
            break
    return n


cdef int parcel_send(Parcel* parcel, int fd, int* error) noexcept:
    cdef char* data = PyBytes_AS_STRING(<object>parcel.data)
    cdef size_t size = PyBytes_GET_SIZE(<object>parcel.data)
    cdef Peer peer
    cdef ssize_t sent
    if parcel.peer == NULL:
        sent = send(fd, data, size, MSG_NOSIGNAL)
    else:
        peer = <Peer>parcel.peer
        sent = sendto(fd, data, size, MSG_NOSIGNAL, <sockaddr*>&peer.address, peer.size)
    error[0] = errno if sent < 0 else 0
    return sent >= 0
