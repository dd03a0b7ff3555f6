# The data model, continued from _core.pxd: what tasks wait for that is neither a future nor the kernel.

cdef class Waitable:
    """What calls can wait for: says what a call comes to, and what if it gives up."""
    cdef object loop             # of who waited first, and so of all who do; None until then
    cdef Loop native_loop        # the same, if it is one of ours

    cdef object attempt(self, WaitCall call)
    cdef int gave_up(self, WaitCall call) except -1
    cdef str operation_name(self, int operation)
    @cython.final
    cdef WaitCall call(self, int operation, object argument)
    @cython.final
    cdef object wait_in(self, WaitCall call, WaitQueue* queue)
    @cython.final
    cdef int bind(self) except -1
    @cython.final
    cdef bint is_here(self) except -1
    @cython.final
    cdef int check_thread(self) except -1


@cython.final
cdef class WaitCall(Call):
    cdef Waitable owner
    cdef Waiter waiter
    cdef bint resumed            # it has waited
    cdef bint woken              # the queue let it go on, and it has not yet
    cdef object argument


cdef class Flag(Waitable):
    cdef bint flag
    cdef WaitQueue waiters
    cdef WaitQueue watchers      # those that select waits by


cdef class Acquirable(Waitable):
    """What tasks acquire and release."""
    cdef WaitQueue waiters
    cdef bint acquires_otherwise  # a subclass has an `acquire` of its own


cdef class Lock(Acquirable):
    cdef bint taken

    @cython.final
    cdef int hand_over(self) except -1


cdef class Semaphore(Acquirable):
    cdef object value            # permits to be had; any number, and negative once there are fewer than taken
    cdef object given_total      # how many there are, as it was told
    cdef object bound            # of a BoundedSemaphore: it never holds more; else None

    @cython.final
    cdef bint is_free(self) except -1
    @cython.final
    cdef bint hand_on(self) except -1
    @cython.final
    cdef int hand_on_all(self) except -1


cdef class BoundedSemaphore(Semaphore):
    pass


cdef class Limiter(Acquirable):
    cdef object limit            # how many tokens there are: an int or inf
    cdef dict borrowed_by        # the borrowers, in order
    cdef dict waiting            # those who are to be, by the same

    @cython.final
    cdef int refuse_second(self, object borrower) except -1
    @cython.final
    cdef int lend_now(self, object borrower) except -1
    @cython.final
    cdef int take_back(self, object borrower) except -1
    @cython.final
    cdef int hand_on(self) except -1


@cython.final
cdef class Borrower:
    cdef object who


cdef class Queue(Waitable):
    cdef object given_maxsize
    cdef Py_ssize_t room         # how many items it may hold; 0: any number
    cdef Ring items              # unless a subclass keeps them
    cdef bint plain              # it does not
    cdef bint is_shut
    cdef Py_ssize_t unfinished   # items put in, less those told to be done
    cdef WaitQueue getters
    cdef WaitQueue putters
    cdef WaitQueue joiners

    @cython.final
    cdef bint is_empty(self) except -1
    @cython.final
    cdef bint is_full(self) except -1
    @cython.final
    cdef int add(self, object item) except -1
    @cython.final
    cdef object take(self)
    @cython.final
    cdef object remove(self)


cdef class Timeout:
    cdef int state               # a TimeoutState
    cdef bint due_at_once        # made for no time at all
    cdef object deadline         # on the loop's clock; None: never
    cdef object loop             # these: once it is entered
    cdef object task
    cdef object cancelling       # how often the task had been cancelled then
    cdef object handle           # of the timer, while it is armed; else None
    cdef PyObject* attributes    # the dict of those that users set, made at the first
    cdef object __weakref__

    cdef int enter(self) except -1
    cdef int arm(self, bint at_once) except -1
    cdef int disarm(self) except -1
