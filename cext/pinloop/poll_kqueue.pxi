# kqueue(2), macOS and the BSDs.
#
# - Reading and writing are two filters, hence up to two kernel events for one fd in a
#   batch; each is reported by itself.
# - Closing an fd drops its filters at once; a duplicate does not keep them alive.
# - A change is handed over at once, not with the next wait: an error (EBADF) belongs
#   to the call that made it.
# - EV_ADD of a filter that exists changes it silently; FileExistsError is the
#   reactor's own business, which keeps the masks.
# - EV_EOF is a hang-up: the filter is readable (or writable) and the next system
#   call says why.

cdef enum:
    KQUEUE_BATCH = 256       # events taken in one system call


cdef class KqueuePoller(Poller):

    def __cinit__(self):
        self.name = "kqueue"
        self.kq = kqueue()
        if self.kq < 0:
            raise_os_error(errno, "kqueue")

    def __dealloc__(self):
        self.shut()

    def fileno(self):
        """The kqueue fd, -1 once closed."""
        return self.kq

    cdef int control(self, int fd, int filter, int flags, uint32_t generation) noexcept:
        cdef kevent_t change
        pl_kev_set(&change, fd, filter, flags, generation)
        return 0 if kevent(self.kq, &change, 1, NULL, 0, NULL) >= 0 else errno

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1:
        return self.modify(fd, 0, mask, generation)

    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1:
        cdef int flags = EV_ADD | (EV_CLEAR if mask & EV_EDGE else 0)
        cdef int error = 0
        if mask & EV_READ:
            error = self.control(fd, EVFILT_READ, flags, generation)
        if mask & EV_WRITE and not error:
            error = self.control(fd, EVFILT_WRITE, flags, generation)
        if error:
            raise_os_error(error, f"cannot poll fd {fd}")
        return self.remove(fd, old & ~mask)

    cdef int remove(self, int fd, uint32_t mask) except -1:
        cdef int error = 0
        if mask & EV_READ:
            error = self.control(fd, EVFILT_READ, EV_DELETE, 0)
        if mask & EV_WRITE:
            error = self.control(fd, EVFILT_WRITE, EV_DELETE, 0) or error
        return raise_os_error(error, f"cannot stop polling fd {fd}") if error else 0

    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept:
        return self.control(fd, EVFILT_READ if mask & EV_READ else EVFILT_WRITE, EV_ENABLE, generation) == 0

    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1:
        cdef kevent_t batch[KQUEUE_BATCH]
        cdef timespec timeout
        cdef timespec* limit = NULL if timeout_ns < 0 else &timeout
        cdef int n, error
        capacity = min(capacity, KQUEUE_BATCH)
        timeout.tv_sec = timeout_ns // 1000000000
        timeout.tv_nsec = timeout_ns % 1000000000
        if timeout_ns == 0:
            n = kevent(self.kq, NULL, 0, batch, capacity, limit)
            error = errno
        else:
            with nogil:
                n = kevent(self.kq, NULL, 0, batch, capacity, limit)
                error = errno
        return self.take(batch, n, error, events)

    cdef int spin(self, Event* events, int capacity, int64_t spin_ns, Inbox* inbox) except -1:
        cdef kevent_t batch[KQUEUE_BATCH]
        cdef timespec at_once
        cdef int64_t end = pl_monotonic_ns() + spin_ns
        cdef int n, error
        capacity = min(capacity, KQUEUE_BATCH)
        at_once.tv_sec = at_once.tv_nsec = 0
        with nogil:
            n = kevent(self.kq, NULL, 0, batch, capacity, &at_once)
            while n == 0 and not inbox_waiting(inbox) and pl_monotonic_ns() < end:
                n = kevent(self.kq, NULL, 0, batch, capacity, &at_once)
            error = errno
        return self.take(batch, n, error, events)

    @cython.final
    cdef int take(self, kevent_t* batch, int count, int error, Event* events) except -1:
        cdef int i
        if count < 0:
            if error != EINTR:
                raise_os_error(error, "kevent")
            PyErr_CheckSignals()
            return 0
        for i in range(count):
            events[i].fd = <int>batch[i].ident
            events[i].generation = pl_kev_tag(&batch[i])
            events[i].mask = EV_READ if batch[i].filter == EVFILT_READ else EV_WRITE
        return count

    cdef int reset(self) except -1:
        cdef int fresh = kqueue()
        if fresh < 0:
            raise_os_error(errno, "kqueue")
        self.shut()
        self.kq = fresh
        return 0

    cdef void shut(self) noexcept:
        if self.kq >= 0:
            close(self.kq)
            self.kq = -1
