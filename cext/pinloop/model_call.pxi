# The data model, continued from _core.pxd: what native methods return to be awaited; see call.pxi.

cdef enum CallState:
    CALL_NEW                     # made, not awaited yet: nothing has happened
    CALL_RUNNING
    CALL_WAITING
    CALL_DONE


cdef class Call:
    """A coroutine in all but its type, which does its work without a frame."""
    cdef CallState state
    cdef object future           # the task waits for it, while the state is CALL_WAITING

    cdef object begin(self)
    cdef object proceed(self)
    cdef int finish(self) except -1
    cdef str qualified_name(self)
    @cython.final
    cdef int advance(self, PyObject** result) except -1
    @cython.final
    cdef int refuse_state(self) except -1


@cython.final
cdef class Turn(Call):
    cdef bint always             # else it gives way only if the budget is spent


cdef struct WaiterList

cdef struct Waiter:              # a place in a queue: of a call, or of one arm of a select
    Waiter* next
    Waiter* previous
    WaiterList* list             # where it stands; NULL: nowhere
    PyObject* call               # borrowed, a ClaimCall: it takes its waiters out before it goes
    PyObject* end                # borrowed: the ChannelEnd it was asked of
    PyObject* item               # borrowed: what it is to send
    int operation                # a ChannelOperation
    uint64_t serial              # of the item that it was handed


cdef struct WaiterList:
    Waiter* first
    Waiter* last
    Py_ssize_t count
