# A Poller without a kernel: tests say what is ready when, and time is virtual.

cdef enum:
    SCRIPTED_SPIN_NS = 10_000    # what passes on the virtual clock between two questions of a spin


cdef class ScriptedPoller(Poller):
    """Drives a reactor from a script.

    `script` is an iterable with an entry per wait: a list of (fd, mask) or
    (fd, mask, generation), or a callable that returns one (and may do anything
    meanwhile: push from a thread, raise); a callable that returns None is a wake
    without events.  Without a generation an event carries the one registered now.  A
    wait with no events lets its timeout pass on the virtual clock; one that would
    block for ever raises RuntimeError, since nothing could ever wake it.
    """

    def __init__(self, script=(), *, start_ns=1_000_000_000):
        self.name = "scripted"
        self.script = iter(script)
        self.clock_ns = start_ns
        self.registered = {}
        self.calls = []

    @property
    def clock_ns(self):
        """The virtual time, in nanoseconds."""
        return self.clock

    @clock_ns.setter
    def clock_ns(self, int64_t value):
        self.clock = value

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1:
        self.calls.append(("add", fd, mask))
        if fd in self.registered:
            raise_os_error(EEXIST, f"cannot poll fd {fd}")
        self.registered[fd] = (mask, generation)
        return 0

    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1:
        self.calls.append(("modify", fd, mask))
        if fd not in self.registered:
            raise_os_error(ENOENT, f"cannot poll fd {fd}")
        self.registered[fd] = (mask, generation)
        return 0

    cdef int remove(self, int fd, uint32_t mask) except -1:
        self.calls.append(("remove", fd, mask))
        if self.registered.pop(fd, None) is None:
            raise_os_error(ENOENT, f"cannot stop polling fd {fd}")
        return 0

    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept:
        return fd in self.registered

    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1:
        cdef int n = 0
        entry = next(self.script, ())
        self.calls.append(("wait", timeout_ns))
        if callable(entry):
            entry = entry()
            if entry is None:
                return 0
        for item in entry[:capacity]:
            fd, mask = item[0], item[1]
            events[n].fd = fd
            events[n].mask = mask
            events[n].generation = item[2] if len(item) > 2 else self.registered.get(fd, (0, 0))[1]
            n += 1
        if n == 0 and timeout_ns > 0:
            self.clock += timeout_ns
        elif n == 0 and timeout_ns < 0:
            raise RuntimeError("nothing is scheduled and the script is silent: this wait would never return")
        return n

    cdef int spin(self, Event* events, int capacity, int64_t spin_ns, Inbox* inbox) except -1:
        cdef int64_t end = self.clock + spin_ns
        cdef int n
        self.calls.append(("spin", spin_ns))
        while True:
            n = self.wait(events, capacity, 0)
            if n or inbox_waiting(inbox) or self.clock >= end:
                return n
            self.clock = min(self.clock + SCRIPTED_SPIN_NS, end)

    cdef int64_t now(self) noexcept:
        return self.clock

    cdef int reset(self) except -1:
        self.calls.append(("reset",))
        self.registered.clear()
        return 0
