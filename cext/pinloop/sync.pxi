# Event, Lock and Semaphore: asyncio's in all that user code can see, on the wait queue.

cdef enum:
    ACQUIRE                  # operations of what is acquired
    ENTER                    # acquire, of `async with`: its result is None

cdef object enter_by_acquire = asyncio.Lock.__aenter__


cdef class Flag(Waitable):
    """A flag that tasks can wait for."""

    def is_set(self):
        """Whether the flag is set."""
        return self.flag

    def set(self):
        """Set the flag, and let all go on that wait for it."""
        if not self.flag:
            self.flag = True
            wake_all(&self.waiters)
            if self.watchers.first != NULL:
                claim_all(&self.watchers)

    def clear(self):
        """Take the flag back: who calls `wait` from now on waits for the next `set`."""
        self.flag = False

    def wait(self):
        """Wait until the flag is set; True.

        Who was let go on by a `set` returns even if the flag was taken back meanwhile.
        """
        return self.call(ACQUIRE, None)

    cdef object attempt(self, WaitCall call):
        if self.flag or call.resumed:
            return True
        return self.wait_in(call, &self.waiters)

    cdef str operation_name(self, int operation):
        return "Event.wait"

    def __repr__(self):
        return described(self, "set" if self.flag else "unset", self.waiters.count)

    @property
    def _value(self):
        return self.flag

    @property
    def _waiters(self):
        return awaited_in(&self.waiters, self.waiters.first)


cdef class Acquirable(Waitable):
    """What tasks acquire and release, by `async with` as well."""

    def __cinit__(self):
        self.acquires_otherwise = type(type(self).acquire) is not types.MethodDescriptorType

    def __aenter__(self):
        return enter_by_acquire(self) if self.acquires_otherwise else self.call(ENTER, None)

    def __aexit__(self, *exc_info):
        self.release()
        return DONE

    cdef str operation_name(self, int operation):
        name = type(self).acquire.__qualname__       # of the class that has it, as in asyncio
        return name if operation == ACQUIRE else f"{name.rpartition('.')[0]}.__aenter__"

    @property
    def _waiters(self):
        return awaited_in(&self.waiters, self.waiters.first)

    @property
    def _waiting(self):
        return self.waiters.count


cdef class Lock(Acquirable):
    """A mutual exclusion lock for tasks.  Whoever waits longest gets it first."""

    def locked(self):
        """Whether somebody holds it."""
        return self.taken

    def acquire(self):
        """Take the lock, waiting until it is free; True.

        Cancelled while it waits, it does not have the lock, and whoever is next gets it.
        """
        return self.call(ACQUIRE, None)

    def release(self):
        """Give the lock back, to whom waits longest if anybody does.  RuntimeError if nobody holds it."""
        if not self.taken:
            raise RuntimeError("Lock is not acquired.")
        self.taken = False
        self.hand_over()

    cdef object attempt(self, WaitCall call):
        if not call.resumed and (self.taken or self.waiters.first != NULL and in_use(&self.waiters)):
            return self.wait_in(call, &self.waiters)
        self.taken = True
        return True if call.waiter.operation == ACQUIRE else None

    cdef int gave_up(self, WaitCall call) except -1:
        if not self.taken:
            self.hand_over()
        return 0

    cdef int hand_over(self) except -1:
        """Let the first in the queue go on; woken or cancelled before, it sees to that once it runs."""
        cdef Waiter* first = self.waiters.first
        if first != NULL and first == self.waiters.sleeper and is_pending((<WaitCall>first.call).future):
            wake_first(&self.waiters)
        return 0

    def __repr__(self):
        return described(self, "locked" if self.taken else "unlocked", self.waiters.count)

    @property
    def _locked(self):
        return self.taken


cdef class Semaphore(Acquirable):
    """A number of permits that tasks take and give back.  Whoever waits longest gets one first."""

    def __init__(self, value=1):
        if value < 0:
            raise ValueError(f"Semaphore initial value must be >= 0, not {value!r}")
        self.value = self.given_total = value

    @property
    def total(self):
        """How many permits there are, if each was given back as often as it was taken.

        It can be set, to an int of 0 or more.  More permits go to those who wait, at once; where fewer are
        left than were taken, nobody loses one, but `acquire` waits until enough have been given back.
        """
        return self.given_total

    @total.setter
    def total(self, total):
        total = checked_permits(total)
        self.value += total - self.given_total
        self.given_total = total
        if self.bound is not None:
            self.bound = total
        self.hand_on_all()

    @property
    def available(self):
        """How many permits could be taken now."""
        return max(self.value, 0)

    def locked(self):
        """Whether `acquire` would wait."""
        return not self.is_free()

    def acquire(self):
        """Take a permit, waiting until there is one; True.

        Cancelled while it waits, it has taken none, and one that it was about to get goes to the next.
        """
        return self.call(ACQUIRE, None)

    def release(self):
        """Give a permit back, or one more than there were; whoever waits longest gets it."""
        if self.bound is not None and self.value >= self.bound:
            raise ValueError("BoundedSemaphore released too many times")
        self.value += 1
        if self.value > 0:
            self.hand_on()

    cdef bint is_free(self) except -1:
        return self.value > 0 and (self.waiters.first == NULL or not in_use(&self.waiters))

    cdef object attempt(self, WaitCall call):
        if not call.resumed:
            if not self.is_free():
                return self.wait_in(call, &self.waiters)
            self.value -= 1
        else:
            self.hand_on_all()        # its own permit was taken off when it was woken
        return True if call.waiter.operation == ACQUIRE else None

    cdef int gave_up(self, WaitCall call) except -1:
        if call.woken:
            self.value += 1
        return self.hand_on_all()

    cdef bint hand_on(self) except -1:
        """Let the first that waits have a permit; False if none waits."""
        if not wake_first(&self.waiters):
            return False
        self.value -= 1
        return True

    cdef int hand_on_all(self) except -1:
        # Who came while a woken call had yet to go on had to wait, permits or not.
        while self.value > 0 and self.hand_on():
            pass
        return 0

    def __repr__(self):
        state = f"unlocked, value:{self.value}" if self.is_free() else "locked"
        return described(self, state, self.waiters.count)

    @property
    def _value(self):
        return self.value


cdef class BoundedSemaphore(Semaphore):
    """A Semaphore that refuses to have more permits than at first."""

    def __init__(self, value=1):
        Semaphore.__init__(self, value)
        self.bound = value


cdef object checked_permits(object total):
    try:
        total = operator.index(total)
    except TypeError:
        raise TypeError(f"total must be an integer, not {type(total).__name__}") from None
    if total < 0:
        raise ValueError(f"total must be 0 or more, not {total!r}")
    return total


cdef str described(Waitable waitable, str state, Py_ssize_t waiting):
    cdef str plain = object.__repr__(waitable)
    if waiting:
        state = f"{state}, waiters:{waiting}"
    return f"{plain.removesuffix('>')} [{state}]>"
