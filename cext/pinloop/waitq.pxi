# The wait queue: how a task waits for a queue, a lock or an event, and is let go on.
#
# `await lock.acquire()` and its like make a WaitCall, which asks its owner what it comes to.  If that is to
# wait, the call joins a WaitQueue, linked by its own fields, and the task waits for a future; waking
# completes the future, and when the task resumes the call leaves the queue and the owner is asked again.
#
# A call that gives up does so at one of two moments, and its owner hears which (`gave_up`): before it was
# woken it leaves the queue and nothing has happened; after, the owner passes on what it was woken for.

@cython.final
@cython.internal
cdef class WaitQueue:

    cdef int join(self, WaitCall call) except -1:
        call.queue = self
        call.previous = self.last
        if self.last == NULL:
            self.first = call
        else:
            (<WaitCall>self.last).next = call
        self.last = <PyObject*>call
        if self.sleeper == NULL:
            self.sleeper = <PyObject*>call
        self.count += 1
        return 0

    cdef int leave(self, WaitCall call) except -1:
        """Take it out, wherever it stands."""
        cdef WaitCall after = call.next
        if self.sleeper == <PyObject*>call:
            self.sleeper = NULL if after is None else <PyObject*>after
        if after is None:
            self.last = call.previous
        else:
            after.previous = call.previous
        if call.previous == NULL:
            self.first = after
        else:
            (<WaitCall>call.previous).next = after
        call.next = None
        call.previous = NULL
        call.queue = None
        self.count -= 1
        return 0

    cdef bint wake_first(self) except -1:
        """Let the first go on that was not woken yet; False if there is none."""
        cdef WaitCall call
        while self.sleeper != NULL:
            call = <WaitCall>self.sleeper
            self.sleeper = NULL if call.next is None else <PyObject*>call.next
            if is_pending(call.future):       # else it was cancelled, and its task will see it
                call.woken = True
                complete(call.future)
                return True
        return False

    cdef WaitCall next_to_wake(self):
        """Whom `wake_first` would let go on, or None."""
        cdef WaitCall call = None if self.sleeper == NULL else <WaitCall>self.sleeper
        while call is not None and not is_pending(call.future):
            call = call.next
        return call

    cdef int wake_all(self) except -1:
        while self.wake_first():
            pass
        return 0

    cdef bint in_use(self) except -1:
        """Whether anybody stands in it but those that were cancelled."""
        cdef WaitCall call = self.first
        while call is not None:
            if call.woken or is_pending(call.future):
                return True
            call = call.next
        return False

    cdef list futures(self, bint all_of_them):
        """What its calls wait for; unless all are asked for, from the first on that was not woken."""
        cdef WaitCall call = self.first
        cdef bint counts = all_of_them
        found = []
        while call is not None:
            counts = counts or <PyObject*>call == self.sleeper
            if counts:
                found.append(call.future)
            call = call.next
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
        call.operation = operation
        call.argument = argument
        call.state = CALL_NEW
        return call

    @cython.final
    cdef object wait_in(self, WaitCall call, WaitQueue queue):
        """Have the call wait in `queue`."""
        self.bind()
        call.future = (
            self.loop.create_future() if self.native_loop is None else make_future(self.native_loop))
        queue.join(call)
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
cdef class WaitCall(Call):
    """A call that waits for a queue, a lock or an event."""

    def __dealloc__(self):
        warn_unawaited(self)

    cdef str qualified_name(self):
        return self.owner.operation_name(self.operation)

    cdef object begin(self):
        return self.owner.attempt(self)

    cdef object proceed(self):
        if self.future is None:       # it has only given way, see budget.pxi
            return self.owner.attempt(self)
        if is_pending(self.future):
            raise RuntimeError("await wasn't used with future")
        self.future.result()          # raises if it was not the queue that ended it
        self.future = None
        self.queue.leave(self)
        self.woken = False            # it may have to wait again
        self.resumed = True
        return self.owner.attempt(self)

    cdef int finish(self) except -1:
        cdef Waitable owner = self.owner
        self.state = CALL_DONE
        if self.queue is not None:
            self.queue.leave(self)
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
