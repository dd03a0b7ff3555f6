# The data model, continued from _core.pxd: join, try_join, race and race_ok; see combine.pxi.

cdef enum GroupRule:
    NONE_DECIDES                 # join: all are to finish
    FIRST_ERROR                  # try_join
    FIRST                        # race
    FIRST_RESULT                 # race_ok


@cython.final
cdef class Group(Call):
    """One call of these: the futures and the tasks of the coroutines that it was given, its arms."""
    cdef GroupRule rule
    cdef tuple given             # the arguments
    cdef list arms               # for each argument, but each once
    cdef set members             # the arms, to look one up; None until somebody does
    cdef Py_ssize_t left         # arms that are not finished
    cdef object decider          # the arm that decided what the call comes to, or None
    cdef list ended              # race_ok: those that had finished by then
    cdef object fault            # why a child could not be made, or None
    cdef object cancellation     # the last CancelledError that arrived, or None
    cdef object starting         # the coroutine whose task is being made, or None
    cdef object loop
    cdef object host             # the task that calls
    cdef object parent           # the node around it in the tree of scopes, or None
    cdef object outer            # what scope_variable was
    cdef dict inner              # by arm, the next node that it hosts; None until there is one
    cdef bint entered            # it is, or was, in the tree
    cdef bint aborted            # the arms were cancelled
    cdef object reason           # what they were told
    cdef bint decided

    cdef int enter(self) except -1
    cdef list checked(self)
    cdef object checked_one(self, object awaitable)
    cdef int add_all(self, list awaitables) except -1
    cdef int add_children(self, list awaitables) except -1
    cdef int add(self, object arm) except -1
    cdef int wait(self) except -1
    cdef int arrived(self, object arm) except -1
    cdef int decide(self, object arm) except -1
    cdef int abort_late(self, object arm) except -1
    cdef int spread(self, object reason) except -1
    cdef int spread_over(self, list nodes, object reason) except -1
    cdef int cancel_arm(self, object arm, list passed) except -1
    cdef list cancel_arms(self, object reason)
    cdef bint is_arm(self, object task) except -1
    cdef object outcome(self)
    cdef int report(self, object arm, object error) except -1
    cdef int leave(self) except -1
