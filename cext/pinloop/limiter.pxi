# Limiter: tokens that are lent to borrowers, tasks mostly, each of whom may have one at a time.

cdef class Limiter(Acquirable):
    """So many tokens, lent to borrowers.  Whoever waits longest gets one first."""

    def __cinit__(self):
        self.borrowed_by = {}
        self.waiting = {}

    def __init__(self, total):
        self.limit = checked_total(total)

    # ---------------------------------------------------------------- asking --

    @property
    def total(self):
        """How many tokens there are: an int of 0 or more, or math.inf.

        It can be set.  More tokens go to those who wait, at once; where fewer are left than have been
        lent, no borrower loses one, but nobody gets one until enough have been given back.
        """
        return self.limit

    @total.setter
    def total(self, total):
        total = checked_total(total)
        self.check_thread()
        self.limit = total
        self.hand_on()

    @property
    def borrowed(self):
        """How many tokens are lent."""
        return len(self.borrowed_by)

    @property
    def available(self):
        """How many could be lent now."""
        return max(self.limit - len(self.borrowed_by), 0)

    @property
    def borrowers(self):
        """Who has borrowed one, in the order in which they did."""
        return tuple(self.borrowed_by)

    def __repr__(self):
        state = f"{len(self.borrowed_by)}/{self.limit} borrowed"
        return described(self, state, self.waiters.count)

    # ------------------------------------------------------------- borrowing --

    def acquire(self):
        """Borrow a token for the task that runs, waiting until there is one.

        Cancelled while it waits, it has none, and one that it was about to get goes to the next; in a scope
        that is cancelled CancelledError is raised each time.  Raises RuntimeError if the task has one already
        or waits for one, and outside of a task.
        """
        return self.call(ACQUIRE, None)

    def acquire_on_behalf_of(self, borrower):
        """The same for any hashable object as the borrower: a request, a connection, a name."""
        hash(borrower)
        return self.call(ACQUIRE, Borrower.__new__(Borrower, borrower))

    def acquire_nowait(self):
        """Borrow one for the task that runs, now.  Raises WouldBlock if there is none, and as `acquire`."""
        self.lend_now(running_borrower())

    def acquire_on_behalf_of_nowait(self, borrower):
        """The same for any hashable object as the borrower."""
        self.lend_now(borrower)

    def release(self):
        """Give back what the task that runs has borrowed.  Raises RuntimeError if it has not."""
        self.take_back(running_borrower())

    def release_on_behalf_of(self, borrower):
        """Give back what that borrower has.  Raises RuntimeError if it has nothing."""
        self.take_back(borrower)

    cdef int refuse_second(self, object borrower) except -1:
        if borrower in self.borrowed_by:
            raise RuntimeError(f"{borrower!r} has borrowed a token of {self!r} already")
        if borrower in self.waiting:
            raise RuntimeError(f"{borrower!r} waits for a token of {self!r} already")
        return 0

    cdef int lend_now(self, object borrower) except -1:
        self.check_thread()
        self.refuse_second(borrower)
        if len(self.borrowed_by) >= self.limit:
            raise WouldBlock(f"{self!r} has no token left")
        self.borrowed_by[borrower] = None
        return 0

    cdef int take_back(self, object borrower) except -1:
        self.check_thread()
        if borrower not in self.borrowed_by:
            raise RuntimeError(f"{borrower!r} has borrowed no token of {self!r}")
        del self.borrowed_by[borrower]
        return self.hand_on()

    cdef object attempt(self, WaitCall call):
        if call.resumed:              # the token was lent when it was woken
            del self.waiting[borrower_of(call)]
            return None
        self.bind()
        check_scopes(self.native_loop)
        if call.argument is None:
            call.argument = Borrower.__new__(Borrower, running_borrower())
        borrower = borrower_of(call)
        self.refuse_second(borrower)
        # As long as there is one left nobody waits: `hand_on` sees to that.
        if len(self.borrowed_by) >= self.limit:
            self.waiting[borrower] = None
            return self.wait_in(call, &self.waiters)
        if budget_spent(self.native_loop):
            call.future = None
            return WOULD_BLOCK
        self.borrowed_by[borrower] = None
        return None

    cdef int gave_up(self, WaitCall call) except -1:
        cdef object borrower = borrower_of(call)
        del self.waiting[borrower]
        if call.woken:
            del self.borrowed_by[borrower]
            self.hand_on()
        return 0

    cdef int hand_on(self) except -1:
        """Lend what is left to those who wait."""
        cdef WaitCall call
        while len(self.borrowed_by) < self.limit:
            call = next_to_wake(&self.waiters)
            if call is None:
                return 0
            self.borrowed_by[borrower_of(call)] = None
            wake_first(&self.waiters)
        return 0


@cython.final
@cython.internal
cdef class Borrower:
    """Who is to have a token; None is somebody too."""

    def __cinit__(self, who):
        self.who = who


cdef inline object borrower_of(WaitCall call):
    return (<Borrower>call.argument).who


cdef object running_borrower():
    task = current_task()
    if task is None:
        raise RuntimeError("a Limiter lends to tasks: elsewhere name the borrower (acquire_on_behalf_of)")
    return task


cdef object checked_total(object total):
    if total == float("inf"):
        return total
    try:
        total = operator.index(total)
    except TypeError:
        raise TypeError(f"total must be an integer or math.inf, not {type(total).__name__}") from None
    if total < 0:
        raise ValueError(f"total must be 0 or more, not {total!r}")
    return total
