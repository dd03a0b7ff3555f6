# A Poller whose clock does not pass: who drives the loop says what time it is.

cdef class VirtualPoller(Poller):
    """The kernel's readiness on a clock of its own, which starts at 0 and stands still.

    `kernel` is the Poller that is asked for events, the platform's best by default.
    """

    def __init__(self, Poller kernel=None):
        self.kernel = default_poller() if kernel is None else kernel
        self.name = f"virtual, {self.kernel.name}"
        self.tells_other = self.kernel.tells_other

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1:
        self.kernel.add(fd, mask, generation)
        self.registrations += 1
        return 0

    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1:
        return self.kernel.modify(fd, old, mask, generation)

    cdef int remove(self, int fd, uint32_t mask) except -1:
        self.registrations -= 1       # a closed fd, for which the kernel refuses this, is none either
        return self.kernel.remove(fd, mask)

    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept:
        return self.kernel.holds(fd, mask, generation)

    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1:
        return self.kernel.wait(events, capacity, timeout_ns)

    cdef int spin(self, Event* events, int capacity, int64_t spin_ns, Inbox* inbox) except -1:
        return self.kernel.spin(events, capacity, spin_ns, inbox)

    cdef int64_t now(self) noexcept:
        return self.virtual_ns

    cdef int reset(self) except -1:
        self.registrations = 0
        return self.kernel.reset()

    cdef void shut(self) noexcept:
        self.kernel.shut()
