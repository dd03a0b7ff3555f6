# The bytes objects in which small reads were last handed over.
#
# A kilobyte is beyond Python's own allocator, and malloc takes longer over it than recv's share of
# our time.  So the loop keeps a reference to what it has handed over, and when it is the last one
# left, the object is filled again: nobody is there to notice.  Each turn begins at the front, where
# the memory is still in the processor's cache; 20 connections of a batch have an object each.
#
# An object keeps the room it was made with.  It takes what fills at least half of that, so that a
# program which collects what it receives wastes no more than malloc's own rounding would.
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint32_t

from pinloop.c_python cimport SPARES_ARE_SHARED, pl_bytes_refill, pl_only_reference

cdef enum:
    POOL_SIZE = 32
    POOL_FROM = 480            # smaller ones are Python's allocator's
    POOL_TO = 16 * 1024        # larger ones are read into place sooner or later
    POOL_GRAIN = 256           # rooms are multiples of it

cdef struct PooledBytes:
    PyObject* data             # owned, or NULL
    Py_ssize_t room

cdef struct BytesPool:
    PooledBytes items[POOL_SIZE]
    int at                     # the next to be looked at
    uint32_t turn              # to which `at` belongs

cdef inline object pool_take(BytesPool* pool, uint32_t turn, const char* data, Py_ssize_t size):
    """A bytes object of `data`, used again if there is one."""
    cdef PooledBytes* item
    cdef PyObject* old
    if not SPARES_ARE_SHARED or size < POOL_FROM or size > POOL_TO:
        return PyBytes_FromStringAndSize(data, size)
    if pool.turn != turn:
        pool.turn, pool.at = turn, 0
    elif pool.at == POOL_SIZE:
        pool.at = 0
    item = &pool.items[pool.at]
    pool.at += 1
    if item.data != NULL and size <= item.room <= 2 * size and pl_only_reference(item.data):
        pl_bytes_refill(item.data, data, size)
        return <object>item.data
    old = item.data
    item.data = NULL
    Py_XDECREF(old)
    item.room = (size + POOL_GRAIN - 1) // POOL_GRAIN * POOL_GRAIN
    made = PyBytes_FromStringAndSize(NULL, item.room)
    pl_bytes_refill(<PyObject*>made, data, size)
    Py_INCREF(made)
    item.data = <PyObject*>made
    return made

cdef inline void pool_free(BytesPool* pool) noexcept:
    cdef int i
    cdef PyObject* data
    for i in range(POOL_SIZE):
        data = pool.items[i].data
        pool.items[i].data = NULL
        Py_XDECREF(data)
