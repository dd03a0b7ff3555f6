# The wait queue: how a task waits for a queue, a lock or a channel, and is let go on.
#
# A Waiter is a place in a queue, inside of the call that waits: joining allocates nothing, leaving is two
# pointers.  The task waits for a future of the call; who wakes it completes that.
#
# `await lock.acquire()` and its like make a WaitCall, which asks its owner what it comes to.  If that is to
# wait, the call joins a queue, stays there when it is woken, and leaves when its task resumes; then the owner
# is asked again.  (What waits for one of several things leaves at once, see claim.pxi.)
#
# A call that gives up does so at one of two moments, and its owner hears which (`gave_up`): before it was
# woken it leaves the queue and nothing has happened; after, the owner passes on what it was woken for.

cdef inline void waiter_join(WaitQueue* queue, Waiter* waiter) noexcept:
    Py_XINCREF(waiter.call)
    waiter.queue = queue
    waiter.next = NULL
    waiter.previous = queue.last
    if queue.last == NULL:
        queue.first = waiter
    else:
        queue.last.next = waiter
    queue.last = waiter
    if queue.sleeper == NULL:
        queue.sleeper = waiter
    queue.count += 1


cdef inline void waiter_leave(Waiter* waiter) noexcept:
    """Take it out of the queue that it stands in, wherever.  With it the call may go."""
    cdef WaitQueue* queue = waiter.queue
    if queue.sleeper == waiter:
        queue.sleeper = waiter.next
    if waiter.next == NULL:
        queue.last = waiter.previous
    else:
        waiter.next.previous = waiter.previous
    if waiter.previous == NULL:
        queue.first = waiter.next
    else:
        waiter.previous.next = waiter.next
    waiter.queue = NULL
    queue.count -= 1
    Py_XDECREF(waiter.call)


cdef WaitCall next_to_wake(WaitQueue* queue):
    """Whom `wake_first` would let go on, or None."""
    # Who was cancelled is passed over: its task will see it.
    while queue.sleeper != NULL and not is_pending((<WaitCall>queue.sleeper.call).future):
        queue.sleeper = queue.sleeper.next
    return None if queue.sleeper == NULL else <WaitCall>queue.sleeper.call


cdef bint wake_first(WaitQueue* queue) except -1:
    """Let the first go on that was not woken yet; False if there is none."""
    cdef WaitCall call
    if queue.sleeper == NULL:
        return False
    call = next_to_wake(queue)
    if call is None:
        return False
    queue.sleeper = queue.sleeper.next
    call.woken = True
    complete(call.future)
    return True


cdef int wake_all(WaitQueue* queue) except -1:
    while wake_first(queue):
        pass
    return 0


cdef bint in_use(WaitQueue* queue) except -1:
    """Whether anybody stands in it but those that were cancelled."""
    cdef Waiter* waiter = queue.first
    while waiter != NULL:
        if (<WaitCall>waiter.call).woken or is_pending((<WaitCall>waiter.call).future):
            return True
        waiter = waiter.next
    return False


cdef list awaited_in(WaitQueue* queue, Waiter* first):
    """What its calls wait for, from `first` on."""
    cdef Waiter* waiter = first
    found = []
    while waiter != NULL:
        found.append((<WaitCall>waiter.call).future)
        waiter = waiter.next
    return found


cdef inline bint is_pending(object future) except -1:
    if type(future) is Future:
        return (<Future>future).state == PENDING
    return not future.done()


cdef inline int complete(object future) except -1:
    if type(future) is Future:
        return (<Future>future).settle(None, False)
    future.set_result(None)
    return 0


cdef class Waitable:
    """What calls can wait for."""

    @property
    def _loop(self):
        return self.loop

    @_loop.setter
    def _loop(self, loop):
        self.loop = loop
        self.native_loop = loop if isinstance(loop, Loop) else None

    cdef object attempt(self, WaitCall call):
        """The call's result, or what `wait` gives."""
        raise NotImplementedError

    cdef int gave_up(self, WaitCall call) except -1:
        """The call was left while it waited; `call.woken` tells whether it had been let go on."""
        return 0

    cdef str operation_name(self, int operation):
        raise NotImplementedError

    @cython.final
    cdef WaitCall call(self, int operation, object argument):
        cdef WaitCall call = WaitCall.__new__(WaitCall)
        call.owner = self
        call.waiter.operation = operation
        call.argument = argument
        call.state = CALL_NEW
        return call

    @cython.final
    cdef object wait_in(self, WaitCall call, WaitQueue* queue):
        """Have the call wait in `queue`."""
        self.bind()
        call.future = (
            self.loop.create_future() if self.native_loop is None else make_future(self.native_loop))
        call.waiter.call = <PyObject*>call
        waiter_join(queue, &call.waiter)
        return WOULD_BLOCK

    @cython.final
    cdef int bind(self) except -1:
        """It belongs to the loop that runs, as it will to the end."""
        if self.native_loop is not None and self.native_loop.thread_id == PyThread_get_thread_ident():
            return 0
        running = asyncio.get_running_loop()
        if self.loop is None:
            self._loop = running
        elif self.loop is not running:
            raise RuntimeError(f"{self!r} is bound to a different event loop")
        return 0

    @cython.final
    cdef bint is_here(self) except -1:
        """Whether this thread may touch it: any may before its loop runs and after, meanwhile only that."""
        cdef Loop loop = self.native_loop
        if loop is not None:
            return loop.thread_id == 0 or loop.thread_id == pl_this_thread()
        return self.loop is None or asyncio._get_running_loop() is self.loop or not self.loop.is_running()

    @cython.final
    cdef int check_thread(self) except -1:
        if not self.is_here():
            raise RuntimeError(f"{self!r} is used in another thread than that of its event loop")
        return 0


@cython.final
@cython.no_gc_clear          # its owner says what it is called
cdef class WaitCall(Call):
    """A call that waits for a queue, a lock or an event."""

    def __dealloc__(self):
        warn_unawaited(self)

    cdef str qualified_name(self):
        return self.owner.operation_name(self.waiter.operation)

    cdef object begin(self):
        return self.owner.attempt(self)

    cdef object proceed(self):
        if self.future is None:       # it has only given way, see budget.pxi
            return self.owner.attempt(self)
        if is_pending(self.future):
            raise RuntimeError("await wasn't used with future")
        self.future.result()          # raises if it was not the queue that ended it
        self.future = None
        if self.waiter.queue != NULL:
            waiter_leave(&self.waiter)
        self.woken = False            # it may have to wait again
        self.resumed = True
        return self.owner.attempt(self)

    cdef int finish(self) except -1:
        cdef Waitable owner = self.owner
        self.state = CALL_DONE
        if self.waiter.queue != NULL:
            waiter_leave(&self.waiter)
            self.future = None
            owner.gave_up(self)
        self.woken = False
        self.argument = None
        return 0


cdef PyObject* step_wait_call(PyObject* self) except? NULL:
    """tp_iternext: what an `await` calls before 3.15."""
    cdef PyObject* result
    if (<WaitCall>self).advance(&result) == PYGEN_NEXT:
        return result
    stop_with((<WaitCall>self).owner.native_loop, result)
    return NULL
