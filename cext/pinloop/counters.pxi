# What a loop counts, for `metrics`.
#
# Where it counts something happens that costs much more: a turn, a poll, a system call for I/O, a task, a
# connection.  The clock is read when a poll ends and before one that may last; other polls count as work.
#
# Its clock for that is the processor's counter, which takes 10 ns to read where the system's takes 24, twice
# per request of a server that is not busy.  It is compared with the system's clock once, when the loop first
# runs: what metrics tell is exact to some 1 in 10,000.  Where the kernel does not trust the counter, or
# the poller has a time of its own, the poller's clock is taken.


cdef enum:
    CALIBRATION_NS = 1_000_000


cdef bint trusts_ticks() except -1:
    """Whether the counter ticks evenly, on all processors alike."""
    if not pl_ticks_are_even():
        return False
    if not sys.platform.startswith("linux") or not PL_TICKS_VARY:
        return True
    try:
        with open("/sys/devices/system/clocksource/clocksource0/current_clocksource", "rb") as file:
            return file.read(16).strip() == b"tsc"
    except OSError:
        return False


cdef bint TICKS_ARE_TRUSTED = trusts_ticks()
cdef int64_t ticks_at_import = pl_ticks()
cdef int64_t ns_at_import = pl_monotonic_ns()


cdef double measure_tick() noexcept:
    """How many us a tick takes."""
    cdef int64_t elapsed = pl_monotonic_ns() - ns_at_import
    while elapsed < CALIBRATION_NS:      # a program that comes here so soon after the import
        elapsed = pl_monotonic_ns() - ns_at_import
    return elapsed / 1000.0 / max(pl_ticks() - ticks_at_import, <int64_t>1)


cdef inline int64_t ticks_of(Reactor reactor) noexcept:
    return pl_ticks() if reactor.counts.on_ticks else reactor.poller.now()


cdef inline void tally(uint64_t* buckets, int64_t us) noexcept:
    """One more of so many us."""
    cdef int at = pl_bit_length(2 * <uint64_t>us + 1) - 1
    buckets[min(at, <int>LAG_BUCKETS - 1)] += 1


cdef inline void count_batch(Counters* counts, size_t batch) noexcept:
    """So many entries of the ready ring are about to run."""
    counts.callbacks += batch
    if pl_unlikely(batch > counts.largest_batch):
        counts.largest_batch = batch


cdef inline void count_stretch(Counters* counts, int64_t now) noexcept:
    """The loop has been away from the poll until now."""
    cdef int64_t ticks = now - counts.since
    counts.busy_ticks += ticks
    tally(counts.lags, <int64_t>(<double>ticks * counts.tick_us))
    counts.since = now


cdef inline void count_sleep(Counters* counts, int64_t now) noexcept:
    """It has been in the poll until now."""
    counts.idle_ticks += now - counts.since
    counts.since = now


cdef void begin_counting(Reactor reactor) noexcept:
    """A thread runs the loop from now on."""
    cdef Counters* counts = &reactor.counts
    if counts.tick_us == 0:
        counts.on_ticks = TICKS_ARE_TRUSTED and type(reactor.poller) in (EpollPoller, KqueuePoller)
        counts.tick_us = measure_tick() if counts.on_ticks else 0.001
    counts.since = ticks_of(reactor)
    counts.asleep = False


cdef void end_counting(Reactor reactor) noexcept:
    """It does so no longer."""
    cdef Counters* counts = &reactor.counts
    if counts.asleep:
        counts.asleep = False
        count_sleep(counts, ticks_of(reactor))
    else:
        count_stretch(counts, ticks_of(reactor))
    counts.since = 0


cdef tuple bucket_tuple(uint64_t* buckets):
    return tuple([buckets[i] for i in range(LAG_BUCKETS)])


cdef dict counted(Reactor reactor):
    """All of it by the names of `Metrics`, times in ns.  The loop may be running in another thread."""
    cdef Counters counts = reactor.counts
    # That thread may have moved on since.
    cdef int64_t current = max(ticks_of(reactor) - counts.since, <int64_t>0) if counts.since else 0
    cdef double tick_ns = 1000 * counts.tick_us
    cdef bint away = counts.since != 0 and not counts.asleep
    return {
        "turns": counts.turns,
        "callbacks": counts.callbacks,
        "polls": counts.polls,
        "events": counts.events,
        "busy": (counts.busy_ticks + (current if away else 0)) * tick_ns,
        "idle": (counts.idle_ticks + (0 if away else current)) * tick_ns,
        "away": (current if away else 0) * tick_ns,
        "ready": ring_count(&reactor.ready) if reactor.ready.slots != NULL else 0,
        "largest_batch": counts.largest_batch,
        "timers": timers_count(&reactor.timers) - reactor.timers.cancelled,
        "tasks": counts.tasks,
        "tasks_made": counts.tasks_made,
        "connections": counts.connections,
        "connections_made": counts.connections_made,
        "bytes_received": counts.received,
        "bytes_sent": counts.sent,
        "lag": (bucket_tuple(counts.lags), counts.busy_ticks * tick_ns),
        "timer_lag": (bucket_tuple(counts.timer_lags), <double>counts.timer_lag_ns),
    }
