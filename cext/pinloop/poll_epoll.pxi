# epoll(7), Linux.
#
# - A registration belongs to the open file, not to the number: it outlives close()
#   while a duplicate is open (a forked child, dup), and its events then carry a stale
#   generation, which the reactor drops.  Hence EPOLL_CTL_DEL before each close.
# - EPOLLERR and EPOLLHUP are reported whether asked for or not, and level-triggered:
#   an fd that waits for nothing is taken out, or a hung-up peer would spin the loop.
# - Regular files and directories cannot be added (EPERM).
# - epoll_wait has a millisecond clock; epoll_pwait2 (5.11) has nanoseconds.  Without
#   it timeouts are rounded up, so that a timer is never early.
# - An eventfd registered EPOLLET tells each write once and need never be read.

cdef enum:
    EPOLL_BATCH = 256        # events taken in one system call


cdef uint32_t told_mask(uint32_t events) noexcept:
    cdef uint32_t mask = 0
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP):
        mask |= EV_READ
    if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
        mask |= EV_WRITE
    if events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP | EPOLLPRI):
        mask |= EV_OTHER
    return mask


cdef class EpollPoller(Poller):

    def __cinit__(self):
        self.name = "epoll"
        self.has_pwait2 = True
        self.tells_other = True
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise_os_error(errno, "epoll_create1")

    def __dealloc__(self):
        self.shut()

    def fileno(self):
        """The epoll fd, -1 once closed."""
        return self.epfd

    cdef int control(self, int operation, int fd, uint32_t mask, uint32_t generation) noexcept:
        cdef epoll_event event
        event.events = 0
        if mask & EV_READ:
            event.events |= EPOLLIN | EPOLLRDHUP
        if mask & EV_WRITE:
            event.events |= EPOLLOUT
        if mask & EV_EDGE:
            event.events |= EPOLLET
        if mask & EV_OTHER:
            event.events |= EPOLLPRI
        event.data.u64 = (<uint64_t>generation << 32) | <uint32_t>fd
        return 0 if epoll_ctl(self.epfd, operation, fd, &event) == 0 else errno

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1:
        cdef int error = self.control(EPOLL_CTL_ADD, fd, mask, generation)
        return raise_os_error(error, f"cannot poll fd {fd}") if error else 0

    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1:
        cdef int error = self.control(EPOLL_CTL_MOD, fd, mask, generation)
        return raise_os_error(error, f"cannot poll fd {fd}") if error else 0

    cdef int remove(self, int fd, uint32_t mask) except -1:
        cdef int error = self.control(EPOLL_CTL_DEL, fd, mask, 0)
        return raise_os_error(error, f"cannot stop polling fd {fd}") if error else 0

    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept:
        return self.control(EPOLL_CTL_MOD, fd, mask, generation) == 0

    cdef int wait_ns(self, epoll_event* events, int capacity, int64_t timeout_ns) noexcept nogil:
        cdef int64_t ms
        cdef int n
        if timeout_ns > 0 and self.has_pwait2:
            n = pl_epoll_pwait2(self.epfd, events, capacity, timeout_ns)
            # EPERM is what some container sandboxes answer to a call they do not know.
            if n >= 0 or (errno != ENOSYS and errno != EPERM):
                return n
            self.has_pwait2 = False
        if timeout_ns <= 0:
            ms = timeout_ns
        else:
            ms = min(timeout_ns // 1000000 + (timeout_ns % 1000000 != 0), <int64_t>2147483647)
        return epoll_wait(self.epfd, events, capacity, <int>(ms if ms >= 0 else -1))

    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1:
        cdef epoll_event batch[EPOLL_BATCH]
        cdef int n, error
        capacity = min(capacity, EPOLL_BATCH)
        if timeout_ns == 0:
            n = epoll_wait(self.epfd, batch, capacity, 0)
            error = errno
        else:
            with nogil:
                n = self.wait_ns(batch, capacity, timeout_ns)
                error = errno
        return self.take(batch, n, error, events)

    cdef int spin(self, Event* events, int capacity, int64_t spin_ns, Inbox* inbox) except -1:
        cdef epoll_event batch[EPOLL_BATCH]
        cdef int64_t end = pl_monotonic_ns() + spin_ns
        cdef int n, error
        capacity = min(capacity, EPOLL_BATCH)
        with nogil:
            n = epoll_wait(self.epfd, batch, capacity, 0)
            while n == 0 and not inbox_waiting(inbox) and pl_monotonic_ns() < end:
                n = epoll_wait(self.epfd, batch, capacity, 0)
            error = errno
        return self.take(batch, n, error, events)

    @cython.final
    cdef int take(self, epoll_event* batch, int count, int error, Event* events) except -1:
        cdef int i
        if count < 0:
            if error != EINTR:
                raise_os_error(error, "epoll_wait")
            PyErr_CheckSignals()
            return 0
        for i in range(count):
            events[i].fd = <int>(batch[i].data.u64 & 0xFFFFFFFF)
            events[i].generation = <uint32_t>(batch[i].data.u64 >> 32)
            events[i].mask = EV_READ if batch[i].events == EPOLLIN else told_mask(batch[i].events)
        return count

    cdef int reset(self) except -1:
        cdef int fresh = epoll_create1(EPOLL_CLOEXEC)
        if fresh < 0:
            raise_os_error(errno, "epoll_create1")
        self.shut()
        self.epfd = fresh
        return 0

    cdef void shut(self) noexcept:
        if self.epfd >= 0:
            close(self.epfd)
            self.epfd = -1
