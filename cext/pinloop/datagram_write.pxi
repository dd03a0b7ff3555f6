# The writing half of DatagramTransport.
#
# What is sent in a turn leaves in its flush phase, in one system call for many.  A
# datagram that the kernel refuses for good is told to error_received and costs only itself.

cdef enum:
    SEGMENT_FAULTS = 8         # runs refused until no more are tried

# Seconds between attempts where the poller cannot tell that the receiver has room again.
cdef double FIRST_RETRY = 0.001
cdef double LONGEST_RETRY = 0.016


cdef int send_now_or_later(DatagramTransport self) except -1:
    """After something was queued: send if it is much, else with the turn's flush."""
    if not self.blocked and not self.in_flush:
        self.in_flush = True
        self.reactor.flush_later(self)
    if not self.blocked and not self.sending:
        # A closed loop has no flush phase any more: what can still leave leaves now.
        if self.out.count >= SEND_BATCH or self.out.size > self.high or self.loop.closed:
            send_parcels(self)
    return self.check_pressure(self.out.size)


cdef int send_parcels(DatagramTransport self) except -1:
    """Send what was queued when this began; what a callback adds meanwhile waits for the next flush."""
    cdef int left = self.out.count
    cdef Dispatch done
    if self.sending:
        return 0
    self.sending = True
    self.blocked = False
    try:
        while left and self.state < STREAM_LOST:
            done = send_some(self, left)
            left -= done.sent
            if done.sent or done.error == 0 or done.error == EINTR:
                continue          # an error after some had left is told again to the next one
            if would_block(done.error):
                self.blocked = True
                break
            if done.joined > 1 and run_refused(self, done.error):
                continue
            left -= 1
            parcels_drop(&self.out, 1)
            self.told_error(os_error(done.error, "sendto"))
    finally:
        self.sending = False
    return sent_parcels(self)


cdef Dispatch send_some(DatagramTransport self, int limit) except *:
    """One system call's worth of the queue."""
    cdef PyObject* peer = self.out.parcels[self.out.head].peer
    cdef Dispatch done
    cdef size_t queued
    if peer != NULL and (<Peer>peer).size == 0:
        done.joined = 1
        done.sent = send_unparsed(self, &done.error)
        return done
    queued = self.out.size
    done = parcels_send(&self.out, self.fd, limit, self.segment_limit)
    parcels_drop(&self.out, done.sent)
    self.loop.counts.sent += queued - self.out.size - done.sent * HEADER_SIZE
    return done


cdef bint run_refused(DatagramTransport self, int error) noexcept:
    """Whether it was the joining that the kernel refused; no run of that size is tried again then.

    The segments of a run are not fragmented, so each has to fit the path (EMSGSIZE, EINVAL on
    older kernels), and some devices cannot do it at all (EIO).
    """
    if error != EMSGSIZE and error != EINVAL and error != EIO:
        return False
    self.segment_faults += 1
    if error == EIO or self.segment_faults == SEGMENT_FAULTS:
        self.segment_limit = 0
    else:
        self.segment_limit = PyBytes_GET_SIZE(<object>self.out.parcels[self.out.head].data) - 1
    return True


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
    self.loop.counts.sent += PyBytes_GET_SIZE(data)
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
        self.loop.counts.sent += <ssize_t>self.sock.sendto(data, name)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError as failure:
        self.told_error(failure)
    return True


cdef int send_again(DatagramTransport self) except -1:
    """The kernel said that there is room."""
    cdef int before = self.out.count
    if self.family == AF_UNIX and not self.connected:
        # It spoke of our own buffer: whether the receiver's queue is full the poller does
        # not look at without a connection, and would say so again at once, for ever.
        self.retry_delay = min(2 * self.retry_delay, LONGEST_RETRY) if self.retry_delay else FIRST_RETRY
        self.retry = self.loop.later(self.retry_delay, self._retry, self.context)
    send_parcels(self)
    if self.retry is not None and (self.out.count < before or not self.blocked):
        self.retry_delay = 0
        self.retry.cancel()
        self.retry = None
        self.want()
    return 0


cdef int sent_parcels(DatagramTransport self) except -1:
    """Match everything to what is left."""
    if self.state >= STREAM_LOST:
        return 0
    if (self.blocked and self.retry is None) != ((self.interest & EV_WRITE) != 0):
        self.want()
    if self.out.count and not self.blocked and not self.in_flush:
        self.in_flush = True
        self.reactor.flush_later(self)
    self.relieve_pressure(self.out.size)
    if self.out.count == 0 and self.state == STREAM_CLOSING:
        return self.lose(None)
    return 0
