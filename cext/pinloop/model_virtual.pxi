# The data model of the loop for tests; see poll_virtual.pxi and loop_virtual.pxi.

cdef class VirtualLoop(Loop):
    # No object fields: the collector goes through it as through a Loop.
    cdef uint64_t random         # state of the generator
    cdef bint permutes           # the order is drawn, not first in, first out
    cdef uint64_t epoch          # the priorities are a hash of it
    cdef int epoch_bits          # it lasts for 2 ** epoch_bits draws on average
    cdef uint64_t first_number   # Task.number when it began
    cdef int64_t steps_left      # entries that may run before it is a livelock
    cdef int64_t latest          # ns; the clock never goes beyond
    cdef int jobs                # under way in threads, to be waited for really

    @cython.final
    cdef int virtual_turn(self) except -1
    @cython.final
    cdef int drawn_batch(self) except -1
    @cython.final
    cdef int count_steps(self, size_t count) except -1
    @cython.final
    cdef void choose(self) noexcept
    @cython.final
    cdef uint64_t identity(self, Task task) noexcept
    @cython.final
    cdef uint64_t next_random(self) noexcept
    @cython.final
    cdef int idle(self) except -1
    @cython.final
    cdef bint wait_really(self, double seconds) except -1
    @cython.final
    cdef int ask(self, int64_t timeout) except -1
