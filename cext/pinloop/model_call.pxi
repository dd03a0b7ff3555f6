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
