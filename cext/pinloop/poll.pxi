# The Poller contract.
#
# add/modify/remove change one fd's registration; wait fills events and returns how
# many.  Level-triggered unless EV_EDGE is asked.  An error or a hang-up is reported
# as EV_READ | EV_WRITE, of which the reactor passes on what was asked for: the next
# system call on the fd tells what it was.  EV_OTHER, which only some backends tell
# (`tells_other`) comes along whether asked for or not when a stream's data is not all that
# there is to read; urgent bytes are listened for where it is asked for.  A signal ends a wait with no events,
# after its Python handler ran.  The GIL is dropped only for a wait that may block, and for
# spin, which asks again and again without waiting until there is an event, something in
# the inbox, or the time is up.

cdef class Poller:

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1:
        raise NotImplementedError(f"{type(self).__name__}.add")

    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1:
        raise NotImplementedError(f"{type(self).__name__}.modify")

    cdef int remove(self, int fd, uint32_t mask) except -1:
        raise NotImplementedError(f"{type(self).__name__}.remove")

    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept:
        """Whether a registration made before still stands: false once its fd was closed."""
        return False

    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1:
        raise NotImplementedError(f"{type(self).__name__}.wait")

    cdef int spin(self, Event* events, int capacity, int64_t spin_ns, Inbox* inbox) except -1:
        raise NotImplementedError(f"{type(self).__name__}.spin")

    cdef int64_t now(self) noexcept:
        return pl_monotonic_ns()

    cdef int reset(self) except -1:
        """Forget every registration; the reactor adds them again."""
        raise NotImplementedError(f"{type(self).__name__}.reset")

    cdef void shut(self) noexcept:
        pass

    # The same contract for Python: what the contract tests and tools call.

    def register(self, int fd, uint32_t mask, uint32_t generation=0):
        """Watch `fd` for `mask` (EV_READ | EV_WRITE | EV_EDGE).

        Raises FileExistsError if it is registered already, and the kernel's OSError
        (EBADF, EPERM) for an fd that is closed or cannot be polled.
        """
        self.add(fd, mask, generation)

    def change(self, int fd, uint32_t old, uint32_t mask, uint32_t generation=0):
        """Watch a registered `fd`, whose mask is `old`, for `mask` instead."""
        self.modify(fd, old, mask, generation)

    def unregister(self, int fd, uint32_t mask):
        """Stop watching `fd`, whose mask is `mask`."""
        self.remove(fd, mask)

    def poll(self, timeout=None, int capacity=64):
        """Wait up to `timeout` seconds (None: for ever); a list of (fd, mask, generation)."""
        cdef int64_t timeout_ns = -1 if timeout is None else <int64_t>ceil(max(0.0, timeout) * 1e9)
        cdef Event* events = <Event*>PyMem_RawMalloc(capacity * sizeof(Event))
        cdef int n, i
        if events == NULL:
            raise MemoryError()
        try:
            n = self.wait(events, capacity, timeout_ns)
            return [(events[i].fd, events[i].mask, events[i].generation) for i in range(n)]
        finally:
            PyMem_RawFree(events)

    def clock(self):
        """This poller's clock, in nanoseconds."""
        return self.now()

    def close(self):
        """Give the kernel object back.  May be called twice."""
        self.shut()


def default_poller():
    """The best Poller of this platform: epoll on Linux, kqueue on macOS and the BSDs."""
    return EpollPoller() if PL_HAVE_EPOLL else KqueuePoller()


def available_pollers():
    """The classes of the kernel-backed Pollers that work on this machine."""
    return [cls for cls, there in ((EpollPoller, PL_HAVE_EPOLL), (KqueuePoller, PL_HAVE_KQUEUE)) if there]
