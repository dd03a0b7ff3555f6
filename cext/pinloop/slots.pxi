# Who watches which fd: a slot per fd number, kept in step with what the poller holds.
#
# An fd's number may be closed and opened again while somebody is registered for it, by code that knows
# nothing of the loop.  Generations tell such registrations apart.


cdef class Watcher(Runnable):

    def __cinit__(self):
        self.fd = -1

    cdef int on_ready(self, uint32_t mask) except -1:
        raise NotImplementedError(f"{type(self).__name__}.on_ready")

    cdef bint gives_way(self) noexcept:
        """Whether another watcher may take over its fd while it is registered."""
        return False

    cdef int evicted(self) except -1:
        """The fd's number is another's now."""
        return 0


cdef class SlotTable:

    def __dealloc__(self):
        PyMem_RawFree(self.slots)

    @cython.final
    cdef void drop_watchers(self) noexcept:
        """Shut the poller and forget all who were registered with it."""
        cdef int fd
        cdef PyObject* watcher
        if self.poller is not None:
            self.poller.shut()
        for fd in range(self.slot_count):
            watcher = self.slots[fd].watcher
            self.slots[fd].watcher = NULL
            if watcher != NULL:
                (<Watcher>watcher).interest = 0
                Py_DECREF(<object>watcher)

    @cython.final
    cdef int watch(self, Watcher watcher, uint32_t mask) except -1:
        """Register `watcher` for `mask`, or change what a registered one waits for."""
        cdef Slot* slot = &self.slots[watcher.fd] if watcher.fd < self.slot_count else NULL
        if slot != NULL and slot.watcher == <PyObject*>watcher:
            return self.settle(watcher, mask)
        if mask:
            self.register(watcher, mask, slot)
        elif slot != NULL and slot.watcher != NULL:
            self.settle(<Watcher>slot.watcher, 0)
        if slot == NULL:
            # Only now: a number that no fd has must not cost a table of that size.
            self.widen_slots(watcher.fd)
            slot = &self.slots[watcher.fd]
        # The kernel took it, so whatever held the slot had lost its fd to a close.
        previous = <object>slot.watcher if slot.watcher != NULL else None
        if previous is not None:
            (<Watcher>previous).interest = 0
            (<Watcher>previous).fd = -1     # so that it never closes what is another's now
            Py_DECREF(previous)
        Py_INCREF(watcher)
        slot.watcher = <PyObject*>watcher
        slot.generation += 1
        slot.changed = self.polls
        watcher.interest = mask
        if previous is not None:
            (<Watcher>previous).evicted()
        return 0

    @cython.final
    cdef int register(self, Watcher watcher, uint32_t mask, Slot* slot) except -1:
        """Have the poller take a new registration; RuntimeError if the fd is another watcher's."""
        cdef uint32_t generation = slot.generation + 1 if slot != NULL else 1
        try:
            self.poller.add(watcher.fd, mask, generation)
        except FileExistsError:
            if slot == NULL or slot.watcher == NULL:
                # The same open file was here before, and closed with a duplicate left.
                self.orphaned(watcher.fd)
            elif (<Watcher>slot.watcher).gives_way():
                self.settle(<Watcher>slot.watcher, 0)
            else:
                raise RuntimeError(
                    f"File descriptor {watcher.fd} is used by {<object>slot.watcher!r}") from None
            self.poller.add(watcher.fd, mask, generation)
        return 0

    @cython.final
    cdef int settle(self, Watcher watcher, uint32_t mask) except -1:
        """Bring the poller's mask for a registered watcher to `mask`."""
        cdef uint32_t old = watcher.interest
        cdef uint32_t generation = self.slots[watcher.fd].generation
        if mask == old or self.fork_depth != pl_fork_depth:
            return 0                        # a forked child must not change its parent's poller
        watcher.interest = mask
        if mask == 0:
            try:
                self.poller.remove(watcher.fd, old)
            except OSError:
                pass          # closed already, which ended the registration
        elif old == 0:
            self.poller.add(watcher.fd, mask, generation)
        else:
            try:
                self.poller.modify(watcher.fd, old, mask, generation)
            except FileNotFoundError:
                # The number was closed and opened again under the registration.
                self.poller.add(watcher.fd, mask, generation)
        return 0

    @cython.final
    cdef int unwatch(self, Watcher watcher) except -1:
        """End a registration.  To be called before the fd is closed."""
        cdef Slot* slot
        if watcher.fd < 0 or watcher.fd >= self.slot_count:
            return 0
        slot = &self.slots[watcher.fd]
        if slot.watcher != <PyObject*>watcher:
            return 0
        self.settle(watcher, 0)
        self.sent = True              # the close that follows tells the other end
        slot.watcher = NULL
        slot.generation += 1
        slot.changed = self.polls
        Py_DECREF(watcher)
        return 0

    @cython.final
    cdef Watcher watcher_at(self, int fd):
        if 0 <= fd < self.slot_count and self.slots[fd].watcher != NULL:
            return <Watcher>self.slots[fd].watcher
        return None

    @cython.final
    cdef bint lost_its_fd(self, Watcher watcher) noexcept:
        """Whether the fd of a registered watcher was closed elsewhere, and its number may be another's."""
        return watcher.interest and not self.poller.holds(
            watcher.fd, watcher.interest, self.slots[watcher.fd].generation)

    @cython.final
    cdef int widen_slots(self, int fd) except -1:
        cdef size_t count = max(64, self.slot_count)
        cdef Slot* wider
        while count <= <size_t>fd:
            count *= 2
        wider = <Slot*>PyMem_RawRealloc(self.slots, count * sizeof(Slot))
        if wider == NULL:
            raise MemoryError()
        memset(wider + self.slot_count, 0, (count - self.slot_count) * sizeof(Slot))
        self.slots, self.slot_count = wider, <int>count
        return 0

    @cython.final
    cdef int orphaned(self, int fd) except -1:
        """An event of a registration that nobody here remembers.

        Its fd was closed while a duplicate kept the file open, so it can no longer be
        taken out by number, and level-triggered it would come back for ever.  A fresh
        poller with today's registrations is the only cure.
        """
        cdef int i
        cdef uint32_t mask
        self.poller.reset()
        for i in range(self.slot_count):
            if self.slots[i].watcher != NULL:
                mask = (<Watcher>self.slots[i].watcher).interest
                if mask:
                    try:
                        self.poller.add(i, mask, self.slots[i].generation)
                    except OSError:
                        (<Watcher>self.slots[i].watcher).interest = 0   # closed behind our back
        return 0
