# What a reactor has scheduled for later: a sorted run, and a heap beside it.
#
# Most timers are armed in the order in which they are due: they all have the same delay, or
# nearly.  Such a one is appended to the run, which costs no sifting, neither in nor out.  One
# that is due before a few of the run's last is put among them, so a single far one does not
# bar the way; all others go to the heap.  The earliest timer is the first of either.
#
# Cancelling is O(1): the last of the run is taken out at once (a timeout that was not needed,
# as nearly always), any other stays and is counted in `cancelled`, until the reactor compacts.
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memmove

from pinloop.heap cimport Heap, Timer, heap_free, heap_pop, heap_push, timer_before

cdef enum:
    NEAR = 16              # how far from the run's end a timer may find its place

cdef struct Timers:
    Timer* run             # run[first:end], sorted
    size_t first
    size_t end
    size_t capacity
    Heap heap
    size_t cancelled       # entries of both whose handle was cancelled
    uint64_t next_order

cdef inline size_t timers_count(Timers* timers) noexcept nogil:
    return timers.end - timers.first + timers.heap.count

cdef inline Timer* timers_first(Timers* timers) noexcept nogil:
    """The entry that is due first, or NULL."""
    if timers.first == timers.end:
        return timers.heap.timers if timers.heap.count else NULL
    if timers.heap.count and timer_before(timers.heap.timers, &timers.run[timers.first]):
        return timers.heap.timers
    return &timers.run[timers.first]

cdef inline int timers_make_room(Timers* timers) except -1:
    cdef size_t capacity, count = timers.end - timers.first
    cdef Timer* wider
    if timers.first > timers.capacity // 2:
        # The front has fired: move the rest down before asking for memory.
        memmove(timers.run, timers.run + timers.first, count * sizeof(Timer))
        timers.first, timers.end = 0, count
        return 0
    capacity = 2 * timers.capacity if timers.capacity else 64
    wider = <Timer*>PyMem_RawRealloc(timers.run, capacity * sizeof(Timer))
    if wider == NULL:
        raise MemoryError()
    timers.run, timers.capacity = wider, capacity
    return 0

cdef inline int timers_push(Timers* timers, int64_t when, object handle) except -1:
    """Add `handle`, taking a reference to it.  Equal times keep the order of their coming."""
    cdef size_t at, count = timers.end - timers.first
    cdef Timer* run
    timers.next_order += 1
    if count >= NEAR and timers.run[timers.end - NEAR].when > when:
        return heap_push(&timers.heap, when, timers.next_order, handle)
    if timers.end == timers.capacity:
        timers_make_room(timers)
    run, at = timers.run, timers.end
    while at > timers.first and run[at - 1].when > when:
        run[at] = run[at - 1]
        at -= 1
    Py_INCREF(handle)
    run[at].when = when
    run[at].order = timers.next_order
    run[at].handle = <PyObject*>handle
    timers.end += 1
    return 0

cdef inline PyObject* timers_pop(Timers* timers, Timer* earliest) noexcept:
    """Take out what `timers_first` gave: its handle, whose reference the caller now owns."""
    cdef PyObject* handle = earliest.handle
    if earliest == timers.heap.timers:
        return heap_pop(&timers.heap)
    timers.first += 1
    if timers.first == timers.end:
        timers.first = timers.end = 0
    return handle

cdef inline bint timers_take_last(Timers* timers, PyObject* handle) noexcept:
    """Take `handle` out if it is the last of the run; its reference is the caller's then."""
    if timers.first == timers.end or timers.run[timers.end - 1].handle != handle:
        return False
    timers.end -= 1
    return True

cdef inline void timers_free(Timers* timers) noexcept:
    heap_free(&timers.heap)
    PyMem_RawFree(timers.run)
    timers.run = NULL
    timers.first = timers.end = timers.capacity = 0
