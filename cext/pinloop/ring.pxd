# The ready ring: a growing power-of-two circle of owned references.
#
# head and tail only ever increase; their low bits index the slots, so full and
# empty differ without a spare slot.  The ring holds Runnables and knows nothing
# of them; whoever pops a pointer owns its reference.
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcpy

cdef struct Ring:
    PyObject** slots
    size_t mask            # capacity - 1
    size_t head            # next to pop
    size_t tail            # next to push

cdef inline int ring_init(Ring* ring, size_t capacity) except -1:
    ring.slots = <PyObject**>PyMem_RawMalloc(capacity * sizeof(PyObject*))
    if ring.slots == NULL:
        raise MemoryError()
    ring.mask = capacity - 1
    ring.head = ring.tail = 0
    return 0

cdef inline size_t ring_count(Ring* ring) noexcept nogil:
    return ring.tail - ring.head

cdef inline int ring_grow(Ring* ring) except -1:
    cdef size_t capacity = ring.mask + 1
    cdef size_t start = ring.head & ring.mask
    cdef PyObject** wider = <PyObject**>PyMem_RawMalloc(2 * capacity * sizeof(PyObject*))
    if wider == NULL:
        raise MemoryError()
    memcpy(wider, ring.slots + start, (capacity - start) * sizeof(PyObject*))
    memcpy(wider + (capacity - start), ring.slots, start * sizeof(PyObject*))
    PyMem_RawFree(ring.slots)
    ring.slots = wider
    ring.head, ring.tail, ring.mask = 0, capacity, 2 * capacity - 1
    return 0

cdef inline int ring_make_room(Ring* ring) except -1:
    """Let the next `ring_put` find a slot."""
    return ring_grow(ring) if ring.tail - ring.head > ring.mask else 0

cdef inline void ring_put(Ring* ring, PyObject* runnable) noexcept:
    """Append `runnable`, taking the caller's reference over.  There must be room."""
    ring.slots[ring.tail & ring.mask] = runnable
    ring.tail += 1

cdef inline int ring_push(Ring* ring, object runnable) except -1:
    """Append `runnable`, taking a reference to it."""
    ring_make_room(ring)
    Py_INCREF(runnable)
    ring_put(ring, <PyObject*>runnable)
    return 0

cdef inline int ring_push_front(Ring* ring, object entry) except -1:
    """Put it before the oldest, taking a reference to it."""
    ring_make_room(ring)
    if ring.head == 0:                # the counters must not wrap round
        ring.head += ring.mask + 1
        ring.tail += ring.mask + 1
    Py_INCREF(entry)
    ring.head -= 1
    ring.slots[ring.head & ring.mask] = <PyObject*>entry
    return 0

cdef inline PyObject* ring_pop(Ring* ring) noexcept:
    """The oldest entry, whose reference the caller now owns.  The ring must not be empty."""
    cdef PyObject* entry = ring.slots[ring.head & ring.mask]
    ring.head += 1
    return entry

cdef inline void ring_clear(Ring* ring) noexcept:
    # Popped before it is released: a finalizer may push to this very ring.
    while ring.tail != ring.head:
        Py_DECREF(<object>ring_pop(ring))

cdef inline void ring_shrink(Ring* ring, size_t capacity) noexcept:
    """Give memory back.  The ring must be empty, and larger."""
    cdef PyObject** smaller = <PyObject**>PyMem_RawRealloc(ring.slots, capacity * sizeof(PyObject*))
    if smaller != NULL:
        ring.slots = smaller
        ring.mask = capacity - 1
        ring.head = ring.tail = 0

cdef inline void ring_free(Ring* ring) noexcept:
    if ring.slots != NULL:
        ring_clear(ring)
        PyMem_RawFree(ring.slots)
        ring.slots = NULL
