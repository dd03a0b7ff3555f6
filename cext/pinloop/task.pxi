# Task: a coroutine driven by a loop, as asyncio.Task in all that user code can see.
#
# A task that is ready is itself an entry of the ready ring.  A step is one function: context, current
# task, PyIter_Send, and what became of it.  On a loop that is not pinloop's the steps go through its
# call_soon, as asyncio's own do.

cdef object CoroutineType = types.CoroutineType

cdef bint CAN_START_EAGERLY = sys.version_info >= (3, 12)

# From 3.13 on the last uncancel() also takes back a cancellation that has not been delivered.
cdef bint UNCANCEL_TAKES_BACK = sys.version_info >= (3, 13)


cdef class Task(Future):
    """A task of any asyncio loop.  Made by `loop.create_task()` or `asyncio.create_task()`.

    It stands in for asyncio.Task, `isinstance` included, and does in each case what that does.
    """

    def __init__(self, coro, *, loop=None, name=None, context=None, eager_start=None):
        if eager_start is not None and not CAN_START_EAGERLY:
            raise TypeError("Task() got an unexpected keyword argument 'eager_start'")
        if self.listed and not INITIALISED_ONCE:
            unlist(self)
        Future.__init__(self, loop=loop)
        self.must_cancel = self.reports_loss = False
        self.cancel_requests = 0
        self.awaiting = self.context = None
        self.start(coro, name, context, bool(eager_start))

    @property
    def __class__(self):
        return AsyncioTask

    @cython.final
    cdef int start(self, object coro, object name, object context, bint eager) except -1:
        if type(coro) is not CoroutineType and not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        if name is None:
            self.name = None
            self.number = pl_next_number()
        else:
            self.name = name if type(name) is str else str(name)
        if context is None:
            self.context = pl_copy_context() if self.native else PyContext_CopyCurrent()
        elif PyContext_CheckExact(context):
            self.context = context
        else:
            raise TypeError(f"a contextvars.Context was expected, got {type(context).__name__}")
        self.own_context = not pl_at_rest(<PyObject*>self.context)
        self.coro = coro
        self.reports_loss = True
        if eager and self.loop.is_running():
            return self.start_eagerly()
        if self.native:
            enlist(self, <Reactor>self.loop)
        else:
            asyncio.tasks._register_task(self)
        return self.schedule()

    def __dealloc__(self):
        if self.listed:
            unlist(self)

    def __del__(self):
        if self.listed:
            unlist(self)      # who handles the report may keep it, and it is lost all the same
        if self.state == PENDING and self.reports_loss:
            report_loss(self)
        if self.log_traceback:
            report_unseen(self)

    # ---------------------------------------------------------------- asking --

    def get_coro(self):
        """The coroutine; None if it ended in its eager start."""
        return self.coro

    def get_context(self):
        """The contextvars.Context in which it runs."""
        self.own_context = True
        return self.whole_context()

    @cython.final
    cdef object whole_context(self):
        if self.context is not None:
            self.context = whole_context(self.context)
        return self.context

    def get_name(self):
        """Its name: "Task-1" and so on, unless it was given one."""
        if self.name is None and self.number:
            self.name = f"Task-{self.number}"
        return self.name

    def set_name(self, value, /):
        """Name it str(value)."""
        self.name = value if type(value) is str else str(value)

    def get_stack(self, *, limit=None):
        """The frames where it is suspended, or those of the traceback of its exception; see asyncio.Task."""
        return base_tasks._task_get_stack(self, limit)

    def print_stack(self, *, limit=None, file=None):
        """Print the frames of `get_stack` as a traceback, to `file` or stderr."""
        base_tasks._task_print_stack(self, limit, file)

    def set_result(self, result, /):
        """Not for tasks: raises RuntimeError."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception, /):
        """Not for tasks: raises RuntimeError."""
        raise RuntimeError("Task does not support set_exception operation")

    # ---------------------------------------------------------- cancellation --

    def cancel(self, msg=None):
        """Have CancelledError raised in the coroutine where it waits.  False if the task is done.

        The coroutine may clean up, or refuse; only when it ends with the error is the task cancelled.
        Each call counts: see `cancelling` and `uncancel`.
        """
        check_alive(self)
        return request_cancel(self, msg)

    def cancelling(self):
        """How many times it was asked to cancel, less those taken back."""
        return self.cancel_requests

    def uncancel(self):
        """Take one cancellation request back; how many are left."""
        if self.cancel_requests > 0:
            self.cancel_requests -= 1
            if UNCANCEL_TAKES_BACK and self.cancel_requests == 0:
                self.must_cancel = False
        return self.cancel_requests

    # -------------------------------------------------------------- stepping --

    @cython.final
    cdef int schedule(self) except -1:
        """Have the next step made."""
        cdef Loop loop
        if not self.native:
            self.loop.call_soon(PyCFunction_New(&step_method, self), context=self.whole_context())
            return 0
        loop = <Loop>self.loop
        if pl_unlikely(loop.closed or loop.debug or loop.fork_depth != pl_fork_depth):
            loop.check_call(len, "call_soon", False)
        if pl_unlikely(inbox_waiting(&loop.inbox)):
            loop.drain_inbox()
        return ring_push(&loop.ready, self)

    @cython.final
    cdef int schedule_raising(self, object exception) except -1:
        """Have the next step throw `exception` into the coroutine."""
        self.more().raising = exception
        return self.schedule()

    cdef int run(self, Reactor reactor) except -1:
        if reactor.debug:
            return self.run_debug_step(reactor)
        if run_step(self) < 0:
            return step_failed(self, reactor)
        return 0

    @cython.final
    cdef int run_debug_step(self, Reactor reactor) except -1:
        """run, but timed: a step that holds the loop up is reported."""
        cdef int64_t start = reactor.poller.now()
        cdef double took
        if run_step(self) < 0:
            step_failed(self, reactor)
        took = (reactor.poller.now() - start) / 1e9
        if took >= reactor.slow_callback_duration:
            logger.warning("Executing %r took %.3f seconds", self, took)
        return 0

    @cython.final
    cdef object cause_of_step(self):
        """What the step throws into the coroutine: the failure of what it waited for, or None."""
        if self.awaiting is not None:
            return (<Future>self.awaiting).take_failure()
        if self.rest is not None and self.rest.raising is not None:
            exception, self.rest.raising = self.rest.raising, None
            return exception
        return None

    @cython.final
    cdef int step(self, object exception, bint in_context) except -1:
        cdef PyObject* loop
        cdef PyObject* context
        if self.state != PENDING:
            raise InvalidStateError(f"step(): already done: {self!r}, {exception!r}")
        if self.must_cancel:
            self.must_cancel = False
            if not isinstance(exception, CancelledError):
                exception = self.cancelled_error()
        if self.awaiting is not None:
            self.awaiting = None
        if not self.native:
            return step_elsewhere(self, exception)
        loop = <PyObject*>self.loop
        enter_task(<Reactor>loop, self)
        if in_context:
            return self.advance(exception)
        context = enter_own_context(self, <Reactor>loop)
        if context == NULL:
            # Somebody runs the loop inside it: as a callback it would fail the same way.
            raise take_exception()
        try:
            self.advance(exception)
        finally:
            leave_own_context(context, self, <Reactor>loop)
        return 0

    @cython.final
    cdef int start_eagerly(self) except -1:
        """The first step, now, as part of what runs."""
        cdef PyObject* context
        if not self.native:
            return start_eagerly_elsewhere(self)
        reactor = <Reactor>self.loop
        if (<Reactor>reactor).thread_id != PyThread_get_thread_ident():
            raise RuntimeError(f"loop {reactor!r} is not the running loop")
        before = asyncio.current_task(reactor)
        enlist(self, <Reactor>reactor)
        enter_task(<Reactor>reactor, self)
        try:
            context = enter_own_context(self, <Reactor>reactor)
            if context == NULL:
                self.reports_loss = False
                raise take_exception()
            try:
                self.advance(None)
            finally:
                leave_own_context(context, self, <Reactor>reactor)
        finally:
            if before is None:
                leave_task(<Reactor>reactor)
            else:
                enter_task(<Reactor>reactor, before)
            if self.state != PENDING:
                self.coro = None
        return 0

    @cython.final
    cdef int advance(self, object exception) except -1:
        """Resume the coroutine, and see to what became of it."""
        cdef PyObject* result = NULL
        cdef int what
        cdef object coro = self.coro
        if exception is None:
            what = PyIter_Send(<PyObject*>coro, <PyObject*>None, &result)
        else:
            what = pl_throw(<PyObject*>coro, <PyObject*>exception, &result)
        if what == PYGEN_NEXT:
            yielded = pl_give(result)
            if yielded is None:
                return self.schedule()    # a bare yield: it gives way for one turn
            if type(yielded) is Future or type(yielded) is Task:
                return self.wait_for(<Future>yielded)
            return self.wait_for_foreign(yielded)
        if what == PYGEN_RETURN:
            return self.ended(result)
        return self.broke_off()

    @cython.final
    cdef int ended(self, PyObject* result) except -1:
        """The coroutine returned; its result comes with a reference."""
        value = pl_give(result)
        if self.listed:
            unlist(self)
        if self.must_cancel:
            # Cancelled just before it ended, by itself.
            self.must_cancel = False
            self.settle_cancelled(self._cancel_message)
            return 0
        return self.settle(value, False)

    @cython.final
    cdef int broke_off(self) except -1:
        """The coroutine raised what the error indicator holds."""
        exception = take_exception()
        if self.listed:
            unlist(self)
        if isinstance(exception, CancelledError):
            self.more().cancelled_error = exception
            self.settle_cancelled(None)
            return 0
        self.settle_failed(exception)
        if is_exit(exception):
            raise exception
        return 0

    # --------------------------------------------------------------- waiting --

    @cython.final
    cdef int wait_for(self, Future future) except -1:
        """The coroutine awaits a future of ours."""
        if future.loop is not self.loop:
            return self.schedule_raising(
                RuntimeError(f"Task {self!r} got Future {future!r} attached to a different loop"))
        if not future.blocking:
            return self.schedule_raising(
                RuntimeError(f"yield was used instead of yield from in task {self!r} with {future!r}"))
        future.blocking = False
        if future is self:
            return self.schedule_raising(RuntimeError(f"Task cannot await on itself: {self!r}"))
        if not self.native:
            if KNOWS_AWAITED_BY:
                future_add_to_awaited_by(future, self)    # the callback does not tell whose it is
            future.add_done_callback(wakeup_of(self), context=self.whole_context())
        elif future.state == PENDING:
            future.add_waiter(self)
        else:
            self.schedule()
        self.awaiting = future
        if self.must_cancel and future.cancel(self._cancel_message):
            self.must_cancel = False
        return 0

    @cython.final
    cdef int wait_for_foreign(self, object future) except -1:
        """The coroutine awaits something else: a future of another kind, or what cannot be waited for."""
        blocking = getattr(future, "_asyncio_future_blocking", None)
        if blocking is None:
            if isinstance(future, types.GeneratorType):
                return self.schedule_raising(RuntimeError(
                    f"yield was used instead of yield from for generator in task {self!r} with {future!r}"))
            return self.schedule_raising(RuntimeError(f"Task got bad yield: {future!r}"))
        if futures._get_loop(future) is not self.loop:
            return self.schedule_raising(
                RuntimeError(f"Task {self!r} got Future {future!r} attached to a different loop"))
        if not blocking:
            return self.schedule_raising(
                RuntimeError(f"yield was used instead of yield from in task {self!r} with {future!r}"))
        if future is self:
            future._asyncio_future_blocking = False
            return self.schedule_raising(RuntimeError(f"Task cannot await on itself: {self!r}"))
        if KNOWS_AWAITED_BY:
            futures.future_add_to_awaited_by(future, self)
        future._asyncio_future_blocking = False
        future.add_done_callback(wakeup_of(self), context=self.whole_context())
        self.awaiting = future
        if self.must_cancel and future.cancel(msg=self._cancel_message):
            self.must_cancel = False
        return 0

    # --------------------------------------- what asyncio's own functions read --

    @property
    def _coro(self):
        return self.coro

    @property
    def _fut_waiter(self):
        return self.awaiting

    @property
    def _must_cancel(self):
        return self.must_cancel != 0

    @property
    def _log_destroy_pending(self):
        return self.reports_loss != 0

    @_log_destroy_pending.setter
    def _log_destroy_pending(self, value):
        self.reports_loss = bool(value)

    @_log_destroy_pending.deleter
    def _log_destroy_pending(self):
        raise AttributeError("cannot delete attribute")


cdef int make_step(Task task) except -1:
    return task.step(task.cause_of_step(), False)


# Called by way of a type that knows no exceptions, and so without a frame for catching them.
cdef int (*run_step)(Task) noexcept
run_step = <int (*)(Task) noexcept>make_step


cdef int step_failed(Task task, Reactor reactor) except -1:
    """Not the coroutine's exception, which is the task's, but one of the machinery; or what ends a loop."""
    exception = take_exception()
    if is_exit(exception):
        raise exception
    return reactor.report({
        "message": f"Exception in a step of {task!r}",
        "exception": exception,
        "task": task,
    })


cdef object request_cancel(Task task, object message):
    """Task.cancel: down the chain of tasks that wait for one another, to the one that waits for none."""
    cdef object awaited
    cdef PyObject* passed = NULL     # a task of the chain: to meet it again is to go in circles
    cdef size_t length = 0
    task.log_traceback = False
    if task.state != PENDING:
        return False
    while True:
        if <PyObject*>task == passed:
            raise RecursionError("a task that is to be cancelled waits for itself, by way of others")
        length += 1
        if length & (length - 1) == 0:
            passed = <PyObject*>task
        task.log_traceback = False
        task.cancel_requests += 1
        awaited = task.awaiting
        if awaited is None:
            break
        if type(awaited) is Task:
            if (<Task>awaited).state != PENDING:
                break
            task = <Task>awaited
            continue
        if type(awaited) is Future:
            if (<Future>awaited).settle_cancelled(message):
                return True
        elif awaited.cancel(msg=message):
            return True
        break
    # It is about to be resumed, or runs: the error is raised in its next step.
    task.must_cancel = True
    if message is not None or task.rest is not None:
        task.more().cancel_message = message
    return True


cdef int report_loss(Task task) except -1:
    """A pending task is about to vanish, and with it what it was to do."""
    task.reports_loss = False
    context = {"task": task, "message": "Task was destroyed but it is pending!"}
    if task._source_traceback:
        context["source_traceback"] = task._source_traceback
    task.loop.call_exception_handler(context)
    return 0
