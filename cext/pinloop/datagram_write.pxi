# The writing half of DatagramTransport.
#
# What is sent in a turn leaves in its flush phase, in one system call for many.  A
# datagram that the kernel refuses for good is told to error_received and costs only itself.

cdef double RETRY_DELAY = 0.001    # s, where the poller cannot tell that the receiver has room again


cdef int send_now_or_later(DatagramTransport self) except -1:
    """After something was queued: send if it is much, else with the turn's flush."""
    if not self.blocked and not self.in_flush:
        self.in_flush = True
        self.reactor.flush_later(self)
    if not self.blocked and not self.sending:
        # A closed loop has no flush phase any more: what can still leave leaves now.
        if self.out.count >= SEND_BATCH or self.out.size > self.high or self.loop.closed:
            send_parcels(self)
    return datagram_pressure(self)


cdef int send_parcels(DatagramTransport self) except -1:
    """Send what was queued when this began; what a callback adds meanwhile waits for the next flush."""
    cdef int left = self.out.count, error = 0, sent
    if self.sending:
        return 0
    self.sending = True
    self.blocked = False
    try:
        while left and self.state < STREAM_LOST:
            sent = send_some(self, left, &error)
            left -= sent
            if error == 0 or error == EINTR:
                continue
            if would_block(error):
                self.blocked = True
                break
            left -= 1
            parcels_drop(&self.out, 1)
            self.told_error(os_error(error, "sendto"))
    finally:
        self.sending = False
    return sent_parcels(self)


cdef int send_some(DatagramTransport self, int limit, int* error) except -1:
    """One system call's worth; how many left, and in `error` what stopped the next."""
    cdef PyObject* peer = self.out.parcels[self.out.head].peer
    cdef int sent
    if peer != NULL and (<Peer>peer).size == 0:
        return send_unparsed(self, error)
    sent = parcels_send(&self.out, self.fd, limit, error)
    parcels_drop(&self.out, sent)
    return sent


cdef int send_unparsed(DatagramTransport self, int* error) except -1:
    """The same for one whose address only Python's socket can make sense of."""
    data = <object>self.out.parcels[self.out.head].data
    name = (<Peer>self.out.parcels[self.out.head].peer).name
    error[0] = 0
    try:
        self.sock.sendto(data, name)
    except (BlockingIOError, InterruptedError) as failure:
        error[0] = failure.errno
        return 0
    except BaseException as failure:
        parcels_drop(&self.out, 1)
        if isinstance(failure, OSError):
            self.told_error(failure)
        else:
            self.report_fault_in("sendto()", failure)
        return 1
    parcels_drop(&self.out, 1)
    return 1


cdef bint send_at_once(DatagramTransport self, object data, object name) except -1:
    """Send to an address that only Python's socket can make sense of; false where it has to wait.

    Raises what that says of an address that is none at all.
    """
    if self.out.count and not self.blocked:
        send_parcels(self)
    if self.out.count:
        return False
    try:
        self.sock.sendto(data, name)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError as failure:
        self.told_error(failure)
    return True


cdef int send_again(DatagramTransport self) except -1:
    """The kernel said that there is room."""
    cdef PyObject* args[1]
    cdef int before = self.out.count
    if self.family == AF_UNIX and not self.connected:
        # It spoke of our own buffer: whether the receiver's queue is full the poller does
        # not look at without a connection, and would say so again at once, for ever.
        self.retry = self.loop.make_timer(self.loop.time() + RETRY_DELAY, self._retry, args, 0, self.context)
    send_parcels(self)
    if self.retry is not None and (self.out.count < before or not self.blocked):
        self.retry.cancel()
        self.retry = None
        self.want()
    return 0


cdef int sent_too_late(DatagramTransport self) except -1:
    self.lost_writes += 1
    if self.lost_writes == LOST_WRITES_TOLD:
        logger.warning("%r: sendto() on an endpoint that is closed", self)
    return 0


cdef int sent_parcels(DatagramTransport self) except -1:
    """Match everything to what is left."""
    if self.state >= STREAM_LOST:
        return 0
    self.want()
    if self.out.count and not self.blocked and not self.in_flush:
        self.in_flush = True
        self.reactor.flush_later(self)
    if self.writing_paused and self.out.size <= self.low:
        self.writing_paused = False
        tell_pressure(self, "resume_writing")
    if self.out.count == 0 and self.state == STREAM_CLOSING:
        return self.lose(None)
    return 0


cdef int datagram_pressure(DatagramTransport self) except -1:
    if self.writing_paused or self.out.size <= self.high or self.state >= STREAM_LOST:
        return 0
    self.writing_paused = True
    return tell_pressure(self, "pause_writing")


cdef int tell_pressure(DatagramTransport self, str method) except -1:
    cdef PyObject* result = self.tell_protocol(method, NULL)
    if result == NULL:
        return self.fault(method)
    Py_DECREF(<object>result)
    return 0
