# The timer heap: a 4-ary min-heap of deadlines in nanoseconds.
#
# Entries hold the key beside the pointer, so sifting never touches a handle.
# `order` breaks ties: equal deadlines fire first come, first served.
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t

cdef struct Timer:
    int64_t when           # ns on the reactor's clock
    uint64_t order
    PyObject* handle       # owned

cdef struct Heap:
    Timer* timers
    size_t count
    size_t capacity

cdef inline bint timer_before(Timer* a, Timer* b) noexcept nogil:
    return a.when < b.when or (a.when == b.when and a.order < b.order)

cdef inline void heap_sift_up(Heap* heap, size_t at) noexcept nogil:
    cdef Timer moving = heap.timers[at]
    cdef size_t parent
    while at > 0:
        parent = (at - 1) >> 2
        if not timer_before(&moving, &heap.timers[parent]):
            break
        heap.timers[at] = heap.timers[parent]
        at = parent
    heap.timers[at] = moving

cdef inline void heap_sift_down(Heap* heap, size_t at) noexcept nogil:
    cdef Timer moving = heap.timers[at]
    cdef size_t child, best, end
    while True:
        best = 4 * at + 1
        if best >= heap.count:
            break
        end = min(best + 4, heap.count)
        for child in range(best + 1, end):
            if timer_before(&heap.timers[child], &heap.timers[best]):
                best = child
        if not timer_before(&heap.timers[best], &moving):
            break
        heap.timers[at] = heap.timers[best]
        at = best
    heap.timers[at] = moving

cdef inline int heap_push(Heap* heap, int64_t when, uint64_t order, object handle) except -1:
    """Add `handle`, taking a reference to it."""
    cdef size_t capacity
    cdef Timer* wider
    if heap.count == heap.capacity:
        capacity = 2 * heap.capacity if heap.capacity else 64
        wider = <Timer*>PyMem_RawRealloc(heap.timers, capacity * sizeof(Timer))
        if wider == NULL:
            raise MemoryError()
        heap.timers, heap.capacity = wider, capacity
    Py_INCREF(handle)
    heap.timers[heap.count].when = when
    heap.timers[heap.count].order = order
    heap.timers[heap.count].handle = <PyObject*>handle
    heap.count += 1
    heap_sift_up(heap, heap.count - 1)
    return 0

cdef inline PyObject* heap_pop(Heap* heap) noexcept:
    """The earliest entry's handle, whose reference the caller now owns.  The heap must not be empty."""
    cdef PyObject* handle = heap.timers[0].handle
    heap.count -= 1
    if heap.count:
        heap.timers[0] = heap.timers[heap.count]
        heap_sift_down(heap, 0)
    return handle

cdef inline void heap_rebuild(Heap* heap) noexcept nogil:
    """Restore the order after entries were taken out of the middle."""
    cdef size_t at
    if heap.count > 1:
        at = (heap.count - 2) >> 2
        while True:
            heap_sift_down(heap, at)
            if at == 0:
                break
            at -= 1

cdef inline void heap_free(Heap* heap) noexcept:
    PyMem_RawFree(heap.timers)
    heap.timers = NULL
    heap.count = heap.capacity = 0
