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


cdef struct WaitQueue

cdef struct Waiter:              # a place in a queue: of a call, or of one arm of a select
    Waiter* next
    Waiter* previous
    WaitQueue* queue             # where it stands; NULL: nowhere
    PyObject* call               # whose it is; the queue it stands in owns a reference to that
    int operation                # what for, in the words of whom it waits for
    int kind                     # an ArmKind: of an arm of a select
    PyObject* end                # borrowed, these two: the ChannelEnd it was asked of
    PyObject* item               # what it is to send
    uint64_t serial              # of the item that it was handed


cdef struct WaitQueue:           # in the order in which they came; it keeps the tasks that wait
    Waiter* first
    Waiter* last
    Waiter* sleeper              # the first that was not woken, where woken ones stay until they go on
    Py_ssize_t count
