# The data model of futures and tasks; see future.pxi and task.pxi.

cdef enum:
    PENDING = 0
    CANCELLED = 1
    FINISHED = 2


cdef class FutureRest:
    """What few futures have."""
    cdef object cancel_message
    cdef object cancelled_error  # the CancelledError that ended a task, until it is asked for
    cdef object traceback        # of the exception, when it was set
    cdef object source_traceback  # debug: where the future was made
    cdef object raising          # what a task's next step throws into its coroutine, or None


cdef class Future(Runnable):
    cdef object loop             # of any kind; None: not initialised, or kept as a spare
    # While it is pending, who is told when it is done: None, the Task that awaits it, which is woken in
    # place, the Group that it is an arm of, a tuple of a callback and its context, or a list of such.
    # Then the result or the exception.
    cdef object held
    cdef object awaited_by       # what future_add_to_awaited_by told: a future, a set of them, or None
    cdef FutureRest rest         # or None
    cdef PyObject* attributes    # the dict of those that users set, made at the first; see typesetup.pxi
    cdef object __weakref__
    cdef unsigned char state
    cdef unsigned char failed    # it holds an exception
    cdef unsigned char native    # loop is a pinloop Loop
    cdef unsigned char loop_made  # by its loop, which may keep it to use it again
    cdef unsigned char blocking  # awaited, and not yet taken up by the task that awaits
    cdef unsigned char log_traceback  # the exception has not been looked at by anybody

    @cython.final
    cdef FutureRest more(self)
    @cython.final
    cdef int attach(self, object loop) except -1
    @cython.final
    cdef int settle(self, object value, bint failed) except -1
    @cython.final
    cdef int settle_failed(self, object exception) except -1
    @cython.final
    cdef bint settle_cancelled(self, object message) except -1
    @cython.final
    cdef int wake_all(self, object waiters) except -1
    @cython.final
    cdef int wake(self, object waiter, object context) except -1
    @cython.final
    cdef int add_waiter(self, object waiter) except -1
    @cython.final
    cdef object cancelled_error(self)
    @cython.final
    cdef object take_failure(self)
    @cython.final
    cdef object outcome(self)


cdef class Task(Future):
    cdef object coro             # None: an eager one that ended at once
    cdef object context          # or what is in it, on a pinloop Loop while nobody looks; see compat.h
    cdef object awaiting         # the future it waits for, or None
    cdef object name             # None: made of the number when it is asked for
    cdef uint64_t number
    cdef PyObject* next_task     # the reactor's list of tasks; borrowed
    cdef PyObject** task_link    # what points to it there
    cdef int cancel_requests
    cdef unsigned char must_cancel  # the next step throws CancelledError
    cdef unsigned char reports_loss  # tell when it is destroyed while it is pending
    cdef unsigned char listed    # in the reactor's list
    cdef unsigned char own_context  # given to the program, or by it: the context stays this object

    @cython.final
    cdef int start(self, object coro, object name, object context, bint eager) except -1
    @cython.final
    cdef object whole_context(self)
    @cython.final
    cdef int schedule(self) except -1
    @cython.final
    cdef int schedule_raising(self, object exception) except -1
    @cython.final
    cdef int start_eagerly(self) except -1
    @cython.final
    cdef object cause_of_step(self)
    @cython.final
    cdef int step(self, object exception, bint in_context) except -1
    @cython.final
    cdef int advance(self, object exception) except -1
    @cython.final
    cdef int ended(self, PyObject* result) except -1
    @cython.final
    cdef int broke_off(self) except -1
    @cython.final
    cdef int wait_for(self, Future future) except -1
    @cython.final
    cdef int wait_for_foreign(self, object future) except -1
    @cython.final
    cdef int run_debug_step(self, Reactor reactor) except -1
