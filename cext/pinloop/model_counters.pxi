# The data model of what a loop counts; see counters.pxi and pinloop/metrics.py.

cdef enum:
    LAG_BUCKETS = 25             # below 1 us, below 2 us, ... below 2 ** 23 us (8.4 s), and the rest


cdef struct Counters:
    uint64_t turns
    uint64_t callbacks           # entries of the ready ring, counted when their batch begins
    uint64_t polls
    uint64_t events              # that polls brought
    uint64_t received            # bytes from sockets and pipes
    uint64_t sent                # bytes to them
    uint64_t tasks_made
    size_t tasks                 # in the reactor's list
    uint64_t connections_made
    size_t connections           # stream transports that have their fd
    size_t largest_batch
    bint asleep                  # in a poll that may last
    bint on_ticks                # its clock is pl_ticks, not the poller's
    double tick_us               # us in a tick of its clock; 0: never run
    int64_t since                # ticks: when a poll began to last, or ended, last; 0: nobody runs the loop
    int64_t idle_ticks           # in polls that may last, up to `since`
    int64_t busy_ticks           # in all else, up to `since`
    int64_t timer_lag_ns         # the sum of what timer_lags counts
    uint64_t lags[LAG_BUCKETS]   # how long the loop was away from the poll, each time
    uint64_t timer_lags[LAG_BUCKETS]  # how late each timer was that became ready
