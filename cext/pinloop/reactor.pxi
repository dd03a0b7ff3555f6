# The reactor: ready ring + timer heap + inbox + Poller.
#
# A turn is due timers -> ready batch -> flush -> poll -> dispatch, one function each.
# What a callback schedules runs in the next batch, never in this one, so a chain of
# callbacks cannot keep the others waiting.

cdef enum:
    EVENT_CAPACITY = 256
    SPARE_HANDLES = 1024      # of each kind: what a burst leaves for the next one
    POLL_EVERY_NS = 250_000   # a ready chain pays for a poll at most this often
    CLOCK_EVERY = 8           # turns of a ready chain between two looks at the clock, at most
    MIN_SLACK_NS = 100_000    # timers this close together share a wake-up: less is within the kernel's slack
    MAX_SLACK_NS = 1_000_000  # and where timers come thick, these
    MANY_TIMERS = 64          # at the end of one sleep: the next lasts twice as long at least
    FEW_TIMERS = 8            # fewer than these: back to the least
    COMPACT_FROM = 64         # cancelled timers before compaction is thought of


cdef class WakeWatcher(Watcher):

    cdef int on_ready(self, uint32_t mask) except -1:
        # Edge-triggered: an eventfd need not be read, only a pipe could fill up.
        if self.reactor.inbox.rfd != self.reactor.inbox.wfd:
            pl_wake_drain(self.reactor.inbox.rfd)
        return 0


cdef int make_spares(Spares* spares) except -1:
    spares.items = <PyObject**>PyMem_RawMalloc(SPARE_HANDLES * sizeof(PyObject*))
    if spares.items == NULL:
        raise MemoryError()
    return 0


cdef void free_spares(Spares* spares) noexcept:
    cdef PyObject** items = spares.items
    cdef int count = spares.count
    spares.items, spares.count = NULL, 0
    while count:
        count -= 1
        Py_DECREF(<object>items[count])
    PyMem_RawFree(items)


cdef size_t drop_cancelled(Timer* timers, size_t first, size_t end, PyObject** dead,
                           size_t* dropped) noexcept:
    """Move the cancelled of timers[first:end] to `dead`, keeping the others in order; where they end now."""
    cdef size_t kept = first, i
    for i in range(first, end):
        if (<TimerHandle>timers[i].handle).is_cancelled:
            dead[dropped[0]] = timers[i].handle
            dropped[0] += 1
        else:
            timers[kept] = timers[i]
            kept += 1
    return kept


cdef inline object take_spare(Spares* spares):
    """A handle to be filled anew; there must be one."""
    spares.count -= 1
    (<Handle>spares.items[spares.count]).is_cancelled = False
    return pl_give(spares.items[spares.count])


cdef class Reactor(SlotTable):

    def __cinit__(self):
        self.inbox.rfd = self.inbox.wfd = -1
        self.closed = True            # until it is set up
        self.slow_callback_duration = 0.1
        self.slack = MIN_SLACK_NS
        self.fork_depth = pl_fork_depth
        self.owner_pid = getpid()

    def __dealloc__(self):
        self.teardown()
        unlist_all(self)
        ring_free(&self.ready)
        ring_free(&self.flushing)
        timers_free(&self.timers)
        PyMem_RawFree(self.events)

    cdef int setup(self, Poller poller) except -1:
        cdef WakeWatcher wake = WakeWatcher.__new__(WakeWatcher)
        ring_init(&self.ready, 64)
        ring_init(&self.flushing, 16)
        make_spares(&self.handles)
        make_spares(&self.timer_handles)
        self.events = <Event*>PyMem_RawMalloc(EVENT_CAPACITY * sizeof(Event))
        if self.events == NULL:
            raise MemoryError()
        self.poller = poller
        if pl_wake_open(&self.inbox.rfd, &self.inbox.wfd) < 0:
            raise_os_error(errno, "cannot open the wake-up fd")
        wake.reactor = self
        wake.fd = self.inbox.rfd
        self.wake_watcher = wake
        self.watch(wake, EV_READ | EV_EDGE)
        self.closed = False
        return 0

    cdef void teardown(self) noexcept:
        """Drop all that is scheduled and watched, and give the kernel objects back."""
        self.drop_watchers()
        self.wake_watcher = None
        self.empty_inbox()
        if self.ready.slots != NULL:
            ring_clear(&self.ready)
        if self.flushing.slots != NULL:
            ring_clear(&self.flushing)
        while timers_count(&self.timers):
            handle = <TimerHandle>timers_pop(&self.timers, timers_first(&self.timers))
            Py_DECREF(handle)
            (<TimerHandle>handle).in_heap = False
        self.timers.cancelled = 0
        free_spares(&self.handles)
        free_spares(&self.timer_handles)
        free_spares(&self.futures)
        free_spares(&self.tasks)
        Py_CLEAR(self.spare_context)
        if self.inbox.rfd >= 0:
            close(self.inbox.rfd)
            if self.inbox.wfd != self.inbox.rfd:
                close(self.inbox.wfd)
            self.inbox.rfd = self.inbox.wfd = -1

    cdef void empty_inbox(self) noexcept:
        cdef InboxNode* node = inbox_take(&self.inbox)
        cdef PyObject* owner
        while node != NULL:
            owner = <PyObject*>node.owner
            node = node.next
            Py_DECREF(<object>owner)

    cdef int report(self, dict context) except -1:
        """A callback's exception.  The loop hands it to its exception handler."""
        raise context["exception"]

    cdef int forked(self) except -1:
        raise RuntimeError(
            f"this event loop belongs to process {self.owner_pid}, of which this process ({getpid()}) is a "
            f"fork; its descriptors are shared with the parent. Make a loop of your own in the child")

    # ------------------------------------------------------------- one turn --

    cdef int run_until_stopped(self) except -1:
        while True:
            self.run_once()
            if self.stopping:
                break
        # What the last dispatch wrote should not wait for a next run.
        return self.flush()

    @cython.final
    cdef int run_once(self) except -1:
        self.counts.turns += 1
        if timers_count(&self.timers):
            self.due_timers()
        self.ready_batch()
        if ring_count(&self.flushing):
            self.flush()
        if self.may_skip_poll():
            return 0
        self.poll()
        return self.dispatch()

    @cython.final
    cdef int due_timers(self) except -1:
        cdef int64_t late, now = self.poller.now()
        cdef size_t before = ring_count(&self.ready)
        cdef Timer* timer
        cdef PyObject* handle
        while True:
            timer = timers_first(&self.timers)
            if timer == NULL or timer.when > now:
                break
            ring_make_room(&self.ready)      # before it is taken out: nothing is lost
            late = now - timer.when
            handle = timers_pop(&self.timers, timer)
            (<TimerHandle>handle).in_heap = False
            if (<TimerHandle>handle).is_cancelled:
                self.timers.cancelled -= 1
                Py_DECREF(<object>handle)
            else:
                ring_put(&self.ready, handle)
                self.counts.timer_lag_ns += late
                tally(self.counts.timer_lags, late // 1000)
        if self.slept:
            self.slept = False
            self.adapt_slack(ring_count(&self.ready) - before)
        return 0

    @cython.final
    cdef void adapt_slack(self, size_t fired) noexcept:
        """How long the next sleep lasts at least, after one at whose end so many timers were due."""
        if fired >= MANY_TIMERS:
            self.slack = min(2 * self.slack, <int64_t>MAX_SLACK_NS)
        elif fired < FEW_TIMERS:
            self.slack = MIN_SLACK_NS

    @cython.final
    cdef int ready_batch(self) except -1:
        cdef size_t batch
        cdef PyObject* entry
        if inbox_waiting(&self.inbox):
            self.drain_inbox()
        batch = ring_count(&self.ready)
        count_batch(&self.counts, batch)
        while batch:
            batch -= 1
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
    cdef int flush_later(self, Runnable writer) except -1:
        return ring_push(&self.flushing, writer)

    @cython.final
    cdef int flush(self) except -1:
        cdef size_t batch = ring_count(&self.flushing)
        cdef PyObject* entry
        self.sent |= batch != 0
        while batch:
            batch -= 1
            entry = ring_pop(&self.flushing)
            try:
                (<Runnable>entry).run(self)
            finally:
                Py_DECREF(<object>entry)
        return 0

    @cython.final
    cdef int poll(self) except -1:
        cdef int64_t timeout
        self.event_count = 0
        timeout = self.poll_timeout()
        if timeout != 0:
            self.note_sleep()
            if pl_unlikely(self.spin_ns != 0):
                if self.spin(timeout):
                    return 0
                timeout = self.poll_timeout()
                self.counts.asleep = timeout != 0
        if timeout != 0 and not inbox_fall_asleep(&self.inbox):
            timeout = 0
        try:
            self.event_count = self.poller.wait(self.events, EVENT_CAPACITY, timeout)
        finally:
            inbox_wake_up(&self.inbox)
        self.slept = timeout > 0 and self.event_count == 0
        self.note_poll()
        return 0

    @cython.final
    cdef void note_sleep(self) noexcept:
        """A poll begins that may last."""
        count_stretch(&self.counts, ticks_of(self))
        self.counts.asleep = True

    @cython.final
    cdef void note_poll(self) noexcept:
        cdef int64_t now = ticks_of(self)
        if self.counts.asleep:
            self.counts.asleep = False
            count_sleep(&self.counts, now)
        else:
            count_stretch(&self.counts, now)
        self.counts.polls += 1
        self.counts.events += self.event_count
        self.polls += 1
        self.sent = False
        self.turns = 0
        self.turns_to_clock = 0

    @cython.final
    cdef bint spin(self, int64_t timeout) except -1:
        """Keep asking for a while; whether that brought something, or was all of the `timeout`."""
        cdef int64_t limit = self.spin_ns if timeout < 0 else min(timeout, self.spin_ns)
        self.event_count = self.poller.spin(self.events, EVENT_CAPACITY, limit, &self.inbox)
        self.note_poll()
        return self.event_count != 0 or inbox_waiting(&self.inbox) or limit == timeout

    @cython.final
    cdef int dispatch(self) except -1:
        cdef int i
        cdef Event* event
        cdef Slot* slot
        cdef Watcher watcher
        for i in range(self.event_count):
            event = &self.events[i]
            slot = &self.slots[event.fd] if event.fd < self.slot_count else NULL
            # Checked now, not when the poll returned: an earlier callback of this batch
            # may have closed the fd, and a later one may have got its number.
            if slot == NULL or slot.watcher == NULL or slot.generation != event.generation:
                if slot == NULL or slot.changed != self.polls:
                    self.orphaned(event.fd)
                continue
            watcher = <Watcher>slot.watcher
            if event.mask & watcher.interest:
                watcher.on_ready(event.mask & watcher.interest)
            if pl_unlikely(self.fork_depth != pl_fork_depth):
                self.forked()
        self.event_count = 0
        return 0

    @cython.final
    cdef bint may_skip_poll(self) noexcept:
        """Work is ready and the kernel was asked a moment ago.

        Not when this turn sent or closed something: the other end may be in this process,
        and what was written before a turn is there to be read in the next, as with asyncio.
        The clock itself is only read as often as the pace of the chain calls for: the
        next look is half-way, in turns, to the time at which a poll will be due.
        """
        cdef int64_t now, elapsed
        if self.stopping or self.sent or (ring_count(&self.ready) == 0 and ring_count(&self.flushing) == 0):
            return False
        self.turns += 1
        if self.turns == 1:
            self.last_poll = self.poller.now()
            return True
        if self.turns_to_clock > 0:
            self.turns_to_clock -= 1
            return True
        now = self.poller.now()
        elapsed = now - self.last_poll
        if elapsed >= POLL_EVERY_NS:
            return False
        self.turns_to_clock = <int>min(
            (POLL_EVERY_NS - elapsed) * self.turns // (2 * elapsed + 1), <int64_t>CLOCK_EVERY)
        return True

    @cython.final
    cdef int64_t poll_timeout(self) noexcept:
        cdef int64_t left
        cdef Timer* timer
        cdef PyObject* handle
        while True:
            if self.stopping or ring_count(&self.ready) or ring_count(&self.flushing):
                return 0
            if timers_count(&self.timers) == 0:
                return -1
            timer = timers_first(&self.timers)
            if not (<TimerHandle>timer.handle).is_cancelled:
                left = timer.when - self.poller.now()
                if 0 < left <= self.spin_ns:
                    return left             # there will be no sleep
                return max(left, self.slack) if left > 0 else 0
            handle = timers_pop(&self.timers, timer)
            (<TimerHandle>handle).in_heap = False
            self.timers.cancelled -= 1
            Py_DECREF(<object>handle)       # that may run a finalizer, which may schedule: look again

    @cython.final
    cdef int recycle(self, PyObject* entry) except -1:
        """Release a run entry; one that nobody else holds is kept for the next call_soon or call_later."""
        if pl_only_reference(entry):
            if pl_type(entry) == <PyTypeObject*>Handle:
                return self.keep_spare(&self.handles, entry)
            if pl_type(entry) == <PyTypeObject*>TimerHandle:
                return self.keep_spare(&self.timer_handles, entry)
        Py_DECREF(<object>entry)
        return 0

    @cython.final
    cdef int keep_spare(self, Spares* spares, PyObject* entry) except -1:
        (<Handle>entry).drop_callback()
        let_go_context(<Handle>entry)
        if (<Handle>entry).trace is not None:
            (<Handle>entry).trace = None
        # Looked at last: what was dropped may have run a finalizer that schedules.
        if spares.items != NULL and spares.count < SPARE_HANDLES:
            spares.items[spares.count] = entry
            spares.count += 1
            return 0
        Py_DECREF(<object>entry)
        return 0

    # ---------------------------------------------------------------- timers --

    @cython.final
    cdef int add_timer(self, TimerHandle handle, int64_t when) except -1:
        timers_push(&self.timers, when, handle)
        handle.in_heap = True
        return 0

    @cython.final
    cdef int timer_cancelled(self, TimerHandle handle) except -1:
        if timers_take_last(&self.timers, <PyObject*>handle):
            handle.in_heap = False
            Py_DECREF(handle)
            return 0
        self.timers.cancelled += 1
        if self.timers.cancelled > COMPACT_FROM and 2 * self.timers.cancelled > timers_count(&self.timers):
            self.compact_timers()
        return 0

    @cython.final
    cdef int compact_timers(self) except -1:
        cdef size_t dropped = 0, i
        cdef PyObject** dead = <PyObject**>PyMem_RawMalloc(timers_count(&self.timers) * sizeof(PyObject*))
        if dead == NULL:
            raise MemoryError()
        self.timers.end = drop_cancelled(self.timers.run, self.timers.first, self.timers.end, dead, &dropped)
        self.timers.heap.count = drop_cancelled(
            self.timers.heap.timers, 0, self.timers.heap.count, dead, &dropped)
        heap_rebuild(&self.timers.heap)
        self.timers.cancelled = 0
        # Released only when all is whole again: a finalizer may add a timer.
        for i in range(dropped):
            (<TimerHandle>dead[i]).in_heap = False
            Py_DECREF(<object>dead[i])
        PyMem_RawFree(dead)
        return 0

    # ----------------------------------------------------------------- inbox --

    @cython.final
    cdef int push_from_thread(self, Handle handle) except -1:
        handle.node.owner = <void*><PyObject*>handle
        Py_INCREF(handle)
        inbox_push(&self.inbox, &handle.node)
        return 0

    @cython.final
    cdef int drain_inbox(self) except -1:
        cdef InboxNode* node = inbox_take(&self.inbox)
        cdef Handle handle
        while node != NULL:
            handle = <Handle>node.owner
            node = node.next
            ring_push(&self.ready, handle)
            Py_DECREF(handle)
        return 0
