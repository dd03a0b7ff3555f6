# Who waits for one of several things: queues of waiters, and the word that decides between them.
#
# A Waiter is a place in a queue, inside of the call that waits: joining allocates nothing, leaving is two
# pointers.  A call with several (a select) is claimed by one of them, before anything is taken for it; in the
# same breath all its waiters leave their queues, so that whoever stands in a queue can be claimed, but for
# those whose task was cancelled a moment ago.
#
# A call that gives up does so at one of two moments.  Before it was claimed its waiters leave, and nothing
# has happened.  After, `undo` makes it as if nothing had: what was taken for it goes back, or to the next.

# From 3.13 on a request to cancel can be left for the next await, since a timeout that made it takes it back.
cdef bint MAY_BE_LATE = UNCANCEL_TAKES_BACK

cdef object scope_checkpoint = None


cdef inline int check_scopes(Loop loop) except -1:
    """In a scope that is cancelled every await raises; free where no scope is."""
    if loop is None or loop.cancelled_scopes:
        return check_scopes_now()
    return 0


cdef int check_scopes_now() except -1:
    global scope_checkpoint
    if scope_checkpoint is None:
        from pinloop._scope_tree import checkpoint
        scope_checkpoint = checkpoint
    scope_checkpoint()
    return 0


def count_cancelled_scope(loop, Py_ssize_t change):
    """Note that a scope of the loop is open and cancelled, 1, or not any more, -1."""
    if isinstance(loop, Loop):
        (<Loop>loop).cancelled_scopes += change


cdef inline int first_waiting(WaitQueue* waiting, Waiter** found) except -1:
    """The first that can be claimed, or NULL.  Those whose task was cancelled are sent away."""
    while waiting.first != NULL:
        if is_pending((<ClaimCall>waiting.first.call).future):
            break
        waiter_leave(waiting.first)
    found[0] = waiting.first
    return 0


cdef int claim_for(Waiter* waiter, object outcome, object failure) except -1:
    """Decide its call, which can be claimed, and let the task go on."""
    cdef ClaimCall call = <ClaimCall>waiter.call
    call.claim = waiter
    call.outcome = outcome
    call.failure = failure
    if not wake_its_task(<PyObject*>call.future):
        complete(call.future)
    if type(call) is not ChannelCall:
        return call.withdraw()
    if waiter.queue != NULL:
        waiter_leave(waiter)
    return 0


cdef inline bint wake_its_task(PyObject* future) except -1:
    """What `complete` does, for a future of ours that just a task of ours awaits."""
    cdef PyObject* loop
    cdef PyObject* task
    if pl_type(future) != <PyTypeObject*>Future or not (<Future>future).native:
        return False
    loop = <PyObject*>(<Future>future).loop
    task = <PyObject*>(<Future>future).held
    if ((<Future>future).state != PENDING or pl_type(task) != <PyTypeObject*>Task or (<Loop>loop).closed
            or (<Loop>loop).debug
            or (<Loop>loop).fork_depth != pl_fork_depth or inbox_waiting(&(<Loop>loop).inbox)):
        return False
    ring_push(&(<Loop>loop).ready, <object>task)
    (<Future>future).state = FINISHED
    (<Future>future).held = None
    return True


cdef int claim_all(WaitQueue* waiting) except -1:
    cdef Waiter* waiter
    while True:
        first_waiting(waiting, &waiter)
        if waiter == NULL:
            return 0
        claim_for(waiter, None, None)


cdef class ClaimCall(Call):
    """A call that waits for one of several things, or for one."""

    def throw(self, typ, val=None, tb=None, /):
        """Give up what it waits for, and raise the exception.

        What was done and cannot be undone is over: from Python 3.13 on the call then ends as such, and a
        CancelledError is raised at the task's next await instead.
        """
        if (MAY_BE_LATE and self.state == CALL_WAITING and self.claim != NULL and self.failure is None
                and is_cancellation(typ) and not self.undo()):
            task = None if asyncio._get_running_loop() is None else asyncio.current_task()
            if task is not None:
                error = typ if val is None else val
                task.cancel(*getattr(error, "args", ())[:1])
                task.uncancel()               # that was no request of its own
                value = self.collect()
                self.finish()
                raise StopIteration(value)
        return Call.throw(self, typ, val, tb)

    cdef object proceed(self):
        if self.claim == NULL:
            if is_pending(self.future):
                raise RuntimeError("await wasn't used with future")
            self.future.result()              # raises, if it was not one of us that ended it
            raise RuntimeError("what an operation waits for was ended by somebody else")
        if self.failure is not None:
            raise self.failure
        return self.collect()

    cdef int finish(self) except -1:
        self.state = CALL_DONE
        self.withdraw()
        if self.claim != NULL:
            if self.failure is None:
                self.undo()
            self.claim = NULL
        self.future = None
        self.outcome = self.failure = None
        return 0

    cdef int withdraw(self) except -1:
        """Take all its waiters out."""
        raise NotImplementedError

    cdef bint undo(self) except -1:
        """It was claimed and gives up: make it as if it had not been.  False if that cannot be."""
        raise NotImplementedError

    cdef object collect(self):
        """The result, once it was claimed, and `claim` is NULL again."""
        raise NotImplementedError


cdef bint is_cancellation(object error) except -1:
    if isinstance(error, type):
        return issubclass(error, CancelledError)
    return isinstance(error, CancelledError)


@cython.final
cdef class ReadyCall(Call):
    """A call whose result is there."""

    def __dealloc__(self):
        warn_unawaited(self)

    cdef object begin(self):
        return self.result

    cdef object proceed(self):
        return self.result

    cdef str qualified_name(self):
        return "__aenter__"


cdef object ready_call(object result):
    cdef ReadyCall call = ReadyCall.__new__(ReadyCall)
    call.result = result
    call.state = CALL_NEW
    return call
