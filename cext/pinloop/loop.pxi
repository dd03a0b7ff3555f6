# The asyncio-facing Loop: what is called once per callback, task or future.
#
# The scheduling methods are in loop_calls.pxi.  The rest of asyncio's surface is in Python, in pinloop._loop.

cdef object eager_task_factory = getattr(asyncio, "eager_task_factory", None)     # 3.12 on
cdef object iscoroutinefunction = inspect.iscoroutinefunction

# From 3.14 on a task factory gets create_task's keywords as they came; 3.13.3 tried it, 3.13.4 took it back.
cdef bint FACTORY_TAKES_KEYWORDS = sys.version_info >= (3, 14) or sys.version_info[:3] == (3, 13, 3)

cdef enum:
    TRACE_DEPTH = 10         # frames kept of where a handle was made, in debug mode


cdef class Loop(SocketCalls):
    """The native half of `pinloop.Loop`."""

    def __init__(self, Poller poller=None):
        if self.poller is not None:
            raise RuntimeError(f"{self!r} is initialised already")
        self.setup(default_poller() if poller is None else poller)
        self.scratch = <char*>PyMem_RawMalloc(SCRATCH_SIZE)
        if self.scratch == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)
        PyMem_RawFree(self.tls_scratch)
        pool_free(&self.pool)
        Py_XDECREF(self.kept_stop)

    cdef int report(self, dict context) except -1:
        self.call_exception_handler(context)
        return 0

    # --------------------------------------------------------------- running --

    def _run(self):
        """Run turns until `stop`.  The caller has made this the running loop."""
        if self.thread_id:
            raise RuntimeError("This event loop is already running")
        self._check_closed()
        self.thread_id = PyThread_get_thread_ident()
        self.future_keywords = {"loop": self}
        find_thread(self)
        begin_counting(self)
        try:
            self.run_until_stopped()
        finally:
            if self.task_entered:
                leave_task(self)
            end_counting(self)
            self.current_slot = NULL
            self.stopping = False
            self.thread_id = 0
            self.future_keywords = None      # a cycle, while it is there

    def _close(self):
        """Drop what is scheduled and watched; the kernel objects go back."""
        self.closed = True
        self.teardown()
        # A closed loop may wait long for the collector, and these are large.
        self.buffers = self.addresses = None
        pool_free(&self.pool)

    def stop(self):
        """Leave `run_forever` after this turn: what is ready, and I/O that waits already, still runs."""
        self.stopping = True
        inbox_wake(&self.inbox)

    def is_running(self):
        """Whether a thread runs it."""
        return self.thread_id != 0

    def is_closed(self):
        """Whether `close` was called."""
        return self.closed

    def time(self):
        """The loop's monotonic clock, in seconds."""
        if pl_unlikely(self.poller is None):
            raise RuntimeError("Loop.__init__ was not called")
        return self.poller.now() / 1e9

    def get_debug(self):
        """Whether debug mode is on."""
        return self.debug

    def _set_debug(self, bint enabled):
        self.debug = enabled

    def _counted(self):
        """What `metrics` is made of: counts by its names, times in ns."""
        if self.poller is None:
            raise RuntimeError("Loop.__init__ was not called")
        return counted(self)

    def _set_spin(self, double spin_us):
        """How many microseconds to keep asking the kernel before each sleep."""
        self.spin_ns = <int64_t>(spin_us * 1000)

    def _set_portable_tls(self, bint portable):
        """Have new TLS connections use ssl.MemoryBIO even where OpenSSL can be called directly."""
        self.portable_tls = portable

    def _set_stock_tasks(self, bint stock):
        """Have `create_future` and `create_task` make asyncio's own classes."""
        self.stock_tasks = stock

    @property
    def _thread_id(self):
        # The name by which asyncio's own helpers know it.
        return self.thread_id or None

    @property
    def _current_handle(self):
        # In debug mode; else None.
        return self.running_handle

    @property
    def _owner_pid(self):
        return self.owner_pid

    def _check_closed(self):
        if self.closed:
            raise RuntimeError("Event loop is closed")
        if self.fork_depth != pl_fork_depth:
            self.forked()

    # ----------------------------------------------------- futures and tasks --

    def create_future(self):
        """A new future of this loop."""
        return make_future(self)

    def _pending_tasks(self):
        """The tasks that are not done, but for those of other classes."""
        return listed_tasks(self)

    cdef object make_task(self, object coro, dict kwargs):
        """A task by the user's factory, called as this version of asyncio calls it, or of asyncio's class."""
        if self.task_factory is None:
            return (AsyncioTask if self.stock_tasks else Task)(coro, loop=self, **kwargs)
        if self.task_factory is eager_task_factory and not self.stock_tasks:
            kwargs.setdefault("eager_start", True)
            return Task(coro, loop=self, **kwargs)     # which makes asyncio's own class
        if FACTORY_TAKES_KEYWORDS:
            return self.task_factory(self, coro, **kwargs)
        name = kwargs.pop("name", None)
        if kwargs.get("context", self) is None:
            del kwargs["context"]
        task = self.task_factory(self, coro, **kwargs)
        if name is not None and hasattr(task, "set_name"):
            task.set_name(name)
        return task

    def set_task_factory(self, factory):
        """Make `create_task` call `factory(loop, coro, **kwargs)`; None gives the default back."""
        if factory is not None and not callable(factory):
            raise TypeError(f"task factory must be a callable or None, not {factory!r}")
        self.task_factory = factory

    def get_task_factory(self):
        """The task factory, or None."""
        return self.task_factory

    # ------------------------------------------------------------------- fds --

    def add_reader(self, fd, callback, *args):
        """Call `callback(*args)` whenever `fd` (an int or an object with fileno()) is readable.

        Replaces the callback before.  Raises ValueError for a negative fd, RuntimeError
        for one that a transport uses, OSError for one that is closed (EBADF) or cannot
        be polled (EPERM: a regular file).
        """
        self.add_callback(fd, callback, args, False, "add_reader")

    def add_writer(self, fd, callback, *args):
        """Call `callback(*args)` whenever `fd` is writable.  As `add_reader` otherwise."""
        self.add_callback(fd, callback, args, True, "add_writer")

    cdef int add_callback(self, object fd, object callback, tuple args, bint writing, str method) except -1:
        self.check_call(callback, method, False)
        handle = self.make_handle(<PyObject*>callback, tuple_items(<PyObject*>args), len(args), NULL)
        return set_callback(self, fd, handle, writing)

    def remove_reader(self, fd):
        """Stop calling back for reading; False if nothing was."""
        return not self.closed and drop_callback_of(self, fd, False)

    def remove_writer(self, fd):
        """Stop calling back for writing; False if nothing was."""
        return not self.closed and drop_callback_of(self, fd, True)

    # --------------------------------------------------------------- handles --

    @cython.final
    cdef int check_call(self, object callback, str method, bint any_thread) except -1:
        """What call_soon and its kin refuse, and why."""
        self._check_closed()
        if type(callback) is CoroutineType:
            raise TypeError(f"coroutines cannot be used with {method}(): got {callback!r}")
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
        if self.debug:
            if is_coroutine_function(callback):
                raise TypeError(f"coroutines cannot be used with {method}(): got {callback!r}")
            if not any_thread and self.thread_id and self.thread_id != PyThread_get_thread_ident():
                raise RuntimeError(
                    f"Non-thread-safe operation invoked on an event loop other than the current one: "
                    f"{method}() from another thread; use call_soon_threadsafe()")
        return 0

    @cython.final
    cdef int fill(self, Handle handle, PyObject* callback, PyObject** args, Py_ssize_t count,
                  PyObject* context) except -1:
        """Make it a call of `callback`; `context` may be NULL or None, for a copy of the current one."""
        if pl_unlikely(context != NULL and context != <PyObject*>None):
            handle.own_context = not pl_at_rest(context)
            if handle.own_context and not PyContext_CheckExact(<object>context):
                raise TypeError(
                    f"context must be a contextvars.Context, not {type(<object>context).__name__!r}")
            handle.context = <object>context
        else:
            handle.context = pl_copy_context()
            handle.own_context = not pl_at_rest(<PyObject*>handle.context)
        if handle.reactor is not self:
            handle.reactor = self
        handle.callback = <object>callback
        handle.argument_count = <int>count
        if count == 1:
            handle.argument = <object>args[0]
        elif count == 2:
            handle.argument, handle.arguments = <object>args[0], <object>args[1]
        elif count:
            handle.arguments = make_tuple(args, count)
        if pl_unlikely(self.debug):
            handle.trace = where_called()
        return 0

    @cython.final
    cdef Handle make_handle(self, PyObject* callback, PyObject** args, Py_ssize_t count, PyObject* context):
        cdef Handle handle = (
            <Handle>take_spare(&self.handles) if self.handles.count else Handle.__new__(Handle))
        self.fill(handle, callback, args, count, context)
        return handle

    @cython.final
    cdef TimerHandle make_timer(self, double deadline, PyObject* callback, PyObject** args, Py_ssize_t count,
                                PyObject* context):
        cdef TimerHandle handle = (
            <TimerHandle>take_spare(&self.timer_handles) if self.timer_handles.count
            else TimerHandle.__new__(TimerHandle))
        self.fill(handle, callback, args, count, context)
        handle.deadline = deadline
        handle.whole = False
        self.add_timer(handle, deadline_ns(deadline))
        return handle

    @cython.final
    cdef int soon(self, object callback, PyObject* argument, object context) except -1:
        """call_soon for the floors above the reactor: one argument, no checks."""
        return ring_push(
            &self.ready, self.make_handle(<PyObject*>callback, &argument, 1, <PyObject*>context))

    @cython.final
    cdef TimerHandle later(self, double delay, object callback, object context):
        """call_later for the same: no arguments, no checks."""
        return self.make_timer(
            self.poller.now() / 1e9 + delay, <PyObject*>callback, NULL, 0, <PyObject*>context)

    def __repr__(self):
        return (f"<{type(self).__name__} running={self.is_running()} closed={self.closed} debug={self.debug} "
                f"poller={self.poller.name if self.poller is not None else None}>")


cdef inline object make_future(Loop loop):
    cdef Future future
    if loop.stock_tasks:
        if loop.future_keywords is None:
            return AsyncioFuture(loop=loop)
        return pl_make(<PyTypeObject*>AsyncioFuture, <PyObject*>(), <PyObject*>loop.future_keywords)
    if pl_unlikely(loop.debug):
        return Future(loop=loop)
    future = take_future(&loop.futures) if loop.futures.count else Future.__new__(Future)
    future.loop = loop
    future.native = future.loop_made = True
    return future


cdef tuple make_tuple(PyObject** items, Py_ssize_t count):
    cdef tuple made = PyTuple_New(count)
    cdef Py_ssize_t i
    for i in range(count):
        Py_INCREF(<object>items[i])
        PyTuple_SET_ITEM(made, i, <object>items[i])
    return made


cdef bint is_coroutine_function(object callback) except -1:
    try:
        return iscoroutinefunction(callback)
    except Exception:
        return False      # an object that cannot be looked at: it was found callable


def where_called():
    """The stack of the caller, oldest frame first, cheaply: source lines are looked up when shown."""
    stack = traceback.StackSummary.extract(
        traceback.walk_stack(sys._getframe()), limit=TRACE_DEPTH, lookup_lines=False)
    stack.reverse()
    return stack


cdef inline int64_t deadline_ns(double when) noexcept:
    """The first nanosecond at which `loop.time() >= when` holds, so that no timer is early."""
    cdef double scaled = when * 1e9
    cdef int64_t ns
    if scaled >= 9.2e18:
        return INT64_MAX
    if scaled <= 0:
        return 0
    ns = <int64_t>scaled
    ns += ns < scaled
    while ns / 1e9 < when:
        ns += 1
    return ns
