# The loop for tests: virtual time, and an order of the ready entries drawn from a seed.
#
# Its turns are its own, so that the loop for programs pays nothing for them.  They have the phases of
# every turn, but in place of a sleep the clock goes to the next timer; and where nothing is ready, no
# timer is armed and nothing is under way elsewhere, nothing ever will be, which is an error.
#
# The order.  Callbacks stay first in, first out, and no task's step goes before a callback that was
# scheduled before it: asyncio itself counts on a future's callbacks being called before a task that began to
# await it later goes on.  So what may run next is each task at the head of the ring and the callback behind
# them.  Each of these has a priority, a hash of what it is and of an epoch, and the highest runs.  A new
# epoch at each step makes all orders as likely; one that lasts for some steps lets a task run ahead of the
# others, or fall behind them (after Burckhardt, Kothari, Musuvathi and Nagarakatte, 2010); which of them it
# is depends on the seed.  What a task is, is when it was made: where it stands in the ring can depend on
# addresses, as a TaskGroup that cancels its tasks goes through a set.

cdef enum:
    SIGNAL_CHECK_NS = 50_000_000    # a signal that another thread received does not end a wait of this one


cdef class VirtualLoop(Loop):
    """The native half of `pinloop.testing`'s loop."""

    def __init__(self, Poller poller=None):
        if poller is None:
            poller = VirtualPoller()
        elif not isinstance(poller, VirtualPoller):
            raise TypeError(f"poller must be a VirtualPoller, not {type(poller).__name__!r}")
        Loop.__init__(self, poller)
        self.steps_left = self.latest = INT64_MAX

    def _set_seed(self, seed):
        """Draw the order of what is ready from the int `seed`; None: first in, first out."""
        cdef int drawn
        self.permutes = seed is not None
        if self.permutes:
            self.random = <uint64_t>seed
            drawn = <int>(self.next_random() & 3)
            self.epoch_bits = 2 * drawn - (drawn > 0)       # 1, 2, 8 or 32 steps
            self.epoch = self.next_random()
            self.first_number = pl_next_number()

    def _set_limits(self, int64_t steps, double seconds):
        """Give up after so many more entries of the ready ring, or before the clock passes `seconds`."""
        self.steps_left = steps
        self.latest = deadline_ns(seconds)

    def _job_begun(self):
        """A thread works for this loop: wait for what it says before the clock moves."""
        self.jobs += 1

    def _job_ended(self):
        """It has said it."""
        self.jobs -= 1

    @property
    def _jobs(self):
        return self.jobs

    def _patience(self, bint watching, bint last):
        """For how many seconds to wait really, at most.

        `watching` says that there are fds whose events somebody wants, `last` that what does not come now
        never will.
        """
        return 0.0

    def _stuck(self, str why):
        """Raise the error for a loop that cannot go on."""
        raise RuntimeError(why)

    # ------------------------------------------------------------------ turns --

    cdef int run_until_stopped(self) except -1:
        while True:
            self.virtual_turn()
            if self.stopping:
                break
        return self.flush()

    @cython.final
    cdef int virtual_turn(self) except -1:
        self.counts.turns += 1
        if timers_count(&self.timers):
            self.due_timers()
            self.slept = False
        if inbox_waiting(&self.inbox):
            self.drain_inbox()
        if self.permutes:
            self.drawn_batch()
        else:
            self.count_steps(ring_count(&self.ready))
            self.ready_batch()
        if ring_count(&self.flushing):
            self.flush()
        self.event_count = 0
        if not self.stopping and not ring_count(&self.ready) and not ring_count(&self.flushing):
            self.idle()
        elif (<VirtualPoller>self.poller).registrations > 1:
            self.ask(0)
        return self.dispatch()

    @cython.final
    cdef int drawn_batch(self) except -1:
        """As many entries as were ready when it began, each drawn from what is ready when it is its turn."""
        cdef size_t batch = ring_count(&self.ready)
        cdef PyObject* entry
        self.count_steps(batch)
        count_batch(&self.counts, batch)
        while batch:
            batch -= 1
            self.choose()
            entry = ring_pop(&self.ready)
            try:
                (<Runnable>entry).run(self)
            finally:
                self.recycle(entry)
            if pl_unlikely(self.fork_depth != pl_fork_depth):
                self.forked()
        if self.task_entered:
            leave_task(self)
        return 0

    @cython.final
    cdef int count_steps(self, size_t count) except -1:
        self.steps_left -= <int64_t>count
        if self.steps_left < 0:
            self._stuck("steps")
        return 0

    # -------------------------------------------------------------- the order --

    @cython.final
    cdef void choose(self) noexcept:
        """Bring the entry that is to run to the head of the ring."""
        cdef size_t at, chosen = 0, count = ring_count(&self.ready)
        cdef Ring* ring = &self.ready
        cdef PyObject* entry
        cdef uint64_t rank, best = 0
        cdef bint is_task
        if count < 2:
            return
        if self.epoch_bits == 0 or self.next_random() >> (64 - self.epoch_bits) == 0:
            self.epoch = self.next_random()
        for at in range(count):
            entry = ring.slots[(ring.head + at) & ring.mask]
            is_task = isinstance(<object>entry, Task)
            rank = mixed(self.epoch ^ (self.identity(<Task>entry) if is_task else 0))
            if rank > best:
                best, chosen = rank, at
            if not is_task:
                break
        entry = ring.slots[(ring.head + chosen) & ring.mask]
        for at in range(chosen, 0, -1):
            ring.slots[(ring.head + at) & ring.mask] = ring.slots[(ring.head + at - 1) & ring.mask]
        ring.slots[ring.head & ring.mask] = entry

    @cython.final
    cdef uint64_t identity(self, Task task) noexcept:
        """What stands for a task in every run of one program: when it was made, or what it is called."""
        cdef uint64_t hashed = <uint64_t>0xCBF29CE484222325     # FNV-1a
        cdef Py_ssize_t at
        if task.number:
            return task.number - self.first_number
        for at in range(PyUnicode_GET_LENGTH(task.name)):
            hashed = (hashed ^ <uint64_t>PyUnicode_READ_CHAR(task.name, at)) * <uint64_t>0x100000001B3
        return hashed

    @cython.final
    cdef uint64_t next_random(self) noexcept:
        """SplitMix64 (Steele, Lea and Flood, 2014)."""
        self.random += <uint64_t>0x9E3779B97F4A7C15
        return mixed(self.random)

    # --------------------------------------------------------------- the clock --

    @cython.final
    cdef int idle(self) except -1:
        """Nothing is ready: wait for what is under way elsewhere, then go to the time of the next timer."""
        cdef int64_t timeout = self.poll_timeout()     # which takes cancelled timers off the front
        cdef bint last, watching = (<VirtualPoller>self.poller).registrations > 1
        if timeout == 0:
            return 0
        last = timeout < 0 or timers_first(&self.timers).when == INT64_MAX
        if last or watching or self.jobs:
            if self.wait_really(self._patience(watching, last)):
                return 0
        if last:
            self._stuck("deadlock")
        elif timers_first(&self.timers).when > self.latest:
            self._stuck("time")
        else:
            (<VirtualPoller>self.poller).virtual_ns = timers_first(&self.timers).when
            count_sleep(&self.counts, ticks_of(self))
        return 0

    @cython.final
    cdef bint wait_really(self, double seconds) except -1:
        """Wait for up to so many seconds of real time; whether something came."""
        cdef int64_t end = pl_monotonic_ns() + <int64_t>(seconds * 1e9), left
        while True:
            left = max(end - pl_monotonic_ns(), <int64_t>0)
            self.ask(min(left, <int64_t>SIGNAL_CHECK_NS))
            PyErr_CheckSignals()
            if self.event_count or inbox_waiting(&self.inbox) or ring_count(&self.ready) or self.stopping:
                return True
            if left == 0:
                return False

    @cython.final
    cdef int ask(self, int64_t timeout) except -1:
        """Ask the kernel for events, for up to so many ns of real time."""
        if timeout and not inbox_fall_asleep(&self.inbox):
            timeout = 0
        try:
            self.event_count = self.poller.wait(self.events, EVENT_CAPACITY, timeout)
        finally:
            inbox_wake_up(&self.inbox)
        self.note_poll()
        return 0


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    """A hash of all of its bits."""
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)
