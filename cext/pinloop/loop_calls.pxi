# call_soon and its kin, and create_task: C functions with the vectorcall signature, put into the
# type's dict at import, since a Cython method that takes *args costs a tuple a call.

class Spelled:
    """The signatures of the scheduling methods, for calls that spell arguments out by keyword.

    Each returns (positional arguments, context), or raises the TypeError that Python would.
    """

    @staticmethod
    def call_soon(callback, *args, context=None):
        return (callback, *args), context

    @staticmethod
    def call_soon_threadsafe(callback, *args, context=None):
        return (callback, *args), context

    @staticmethod
    def call_later(delay, callback, *args, context=None):
        return (delay, callback, *args), context

    @staticmethod
    def call_at(when, callback, *args, context=None):
        return (when, callback, *args), context


ctypedef object (*Method)(Loop self, PyObject** args, Py_ssize_t count, PyObject* names)

cdef tuple CONTEXT_NAME = ("context",)

cdef object respell(Method method, str name, Loop self, PyObject** args, Py_ssize_t count,
                    PyObject* names):
    """Call `method` again with its arguments in place."""
    cdef Py_ssize_t i
    cdef tuple values
    keywords = {}
    if names != NULL:
        keywords = {keyword: <object>args[count + i] for i, keyword in enumerate(<tuple>names)}
    positional, context = getattr(Spelled, name)(*[<object>args[i] for i in range(count)], **keywords)
    values = (*positional, context)
    return method(self, tuple_items(<PyObject*>values), len(values) - 1, <PyObject*>CONTEXT_NAME)


# Docstrings of the methods below, in the form in which inspect finds the signature.
cdef const char* CALL_SOON_DOC = b"""call_soon($self, callback, *args, context=None)
--

Call `callback(*args)` in the next turn, in `context` or a copy of the current one,
and return a Handle that can cancel it.  Callbacks run first in, first out.  Raises
RuntimeError on a closed loop, TypeError for what cannot be called.
"""
cdef const char* CALL_SOON_THREADSAFE_DOC = b"""call_soon_threadsafe($self, callback, *args, context=None)
--

As `call_soon`, from any thread or signal handler; wakes the loop up if it sleeps.
"""
cdef const char* CALL_LATER_DOC = b"""call_later($self, delay, callback, *args, context=None)
--

Call `callback(*args)` after at least `delay` seconds (at once, in a later turn, if it
is zero or negative; never if it is infinite) and return a TimerHandle.  Never early;
equal times run first in, first out.  Raises TypeError or ValueError for a delay that
is no number or NaN.
"""
cdef const char* CALL_AT_DOC = b"""call_at($self, when, callback, *args, context=None)
--

As `call_later`, at the absolute time `when` of `loop.time()`.
"""


cdef const char* CREATE_TASK_DOC = b"""create_task($self, coro, **kwargs)
--

Schedule coroutine `coro` and return its Task.

Keywords are those of asyncio.Task (`name`, `context`, and from 3.12 on `eager_start`); they go
to the task factory, if there is one.  Raises TypeError for what is no coroutine, RuntimeError
on a closed loop.
"""


cdef inline bint only_context(PyObject* names) noexcept:
    """Whether the keywords of a call are just `context`."""
    cdef PyObject* name
    if names == NULL or PyTuple_GET_SIZE(<tuple>names) == 0:
        return True
    name = tuple_items(names)[0]
    # By value, since _asyncio's own string is not interned.
    return PyTuple_GET_SIZE(<tuple>names) == 1 and (
        name == <PyObject*>"context" or PyUnicode_Compare(<str>name, "context") == 0)


cdef inline PyObject* context_of(PyObject** args, Py_ssize_t count, PyObject* names) noexcept:
    return NULL if names == NULL or PyTuple_GET_SIZE(<tuple>names) == 0 else args[count]


cdef inline bint to_be_checked(Loop loop, PyObject* callback) noexcept:
    return loop.closed or loop.debug or loop.fork_depth != pl_fork_depth or not PyCallable_Check(callback)


cdef object call_soon(Loop self, PyObject** args, Py_ssize_t count, PyObject* names):
    cdef Handle handle
    if pl_unlikely(count < 1 or not only_context(names)):
        return respell(call_soon, "call_soon", self, args, count, names)
    if pl_unlikely(to_be_checked(self, args[0])):
        self.check_call(<object>args[0], "call_soon", False)
    if pl_unlikely(inbox_waiting(&self.inbox)):
        self.drain_inbox()         # what call_soon_threadsafe took in before comes first
    handle = self.make_handle(args[0], args + 1, count - 1, context_of(args, count, names))
    ring_push(&self.ready, handle)
    return handle


cdef object call_soon_threadsafe(Loop self, PyObject** args, Py_ssize_t count, PyObject* names):
    cdef Handle handle
    if pl_unlikely(count < 1 or not only_context(names)):
        return respell(call_soon_threadsafe, "call_soon_threadsafe", self, args, count, names)
    if pl_unlikely(to_be_checked(self, args[0])):
        self.check_call(<object>args[0], "call_soon_threadsafe", True)
    if self.thread_id == PyThread_get_thread_ident():
        # From a callback, or from a signal handler between two of them: no lock is
        # needed, and the order among this thread's calls is kept.
        handle = self.make_handle(args[0], args + 1, count - 1, context_of(args, count, names))
        ring_push(&self.ready, handle)
        return handle
    if SPARES_ARE_SHARED and self.handles.count:
        handle = <Handle>take_spare(&self.handles)
    else:
        handle = Handle.__new__(Handle)
    self.fill(handle, args[0], args + 1, count - 1, context_of(args, count, names))
    self.push_from_thread(handle)
    return handle


cdef inline double seconds(PyObject* number) except? -1:
    if PyFloat_CheckExact(number):
        return PyFloat_AS_DOUBLE(number)
    return PyLong_AsDouble(number) if PyLong_CheckExact(number) else PyFloat_AsDouble(number)


cdef inline object schedule_at(
        Loop self, double when, str method, PyObject** args, Py_ssize_t count, PyObject* names):
    """The common part of call_later and call_at: args[1] is the callback."""
    if pl_unlikely(isnan(when)):
        raise ValueError(f"{method}() needs a time in seconds, not NaN")
    if pl_unlikely(to_be_checked(self, args[1])):
        self.check_call(<object>args[1], method, False)
    return self.make_timer(when, args[1], args + 2, count - 2, context_of(args, count, names))


cdef object call_later(Loop self, PyObject** args, Py_ssize_t count, PyObject* names):
    cdef double delay
    if pl_unlikely(count < 2 or not only_context(names)):
        return respell(call_later, "call_later", self, args, count, names)
    if args[0] == <PyObject*>None:
        raise TypeError("delay must not be None")
    delay = seconds(args[0])
    if pl_unlikely(self.closed):
        self._check_closed()
    return schedule_at(self, self.poller.now() / 1e9 + delay, "call_later", args, count, names)


cdef object call_at(Loop self, PyObject** args, Py_ssize_t count, PyObject* names):
    cdef TimerHandle handle
    cdef double when
    if pl_unlikely(count < 2 or not only_context(names)):
        return respell(call_at, "call_at", self, args, count, names)
    if args[0] == <PyObject*>None:
        raise TypeError("when cannot be None")
    when = seconds(args[0])
    handle = schedule_at(self, when, "call_at", args, count, names)
    handle.whole = isinstance(<object>args[0], int)
    return handle


cdef object create_task(PyObject* self, PyObject** args, Py_ssize_t count, PyObject* names):
    cdef Loop loop = <Loop>self
    cdef Task task
    cdef Py_ssize_t i
    if pl_unlikely(loop.closed or loop.fork_depth != pl_fork_depth):
        loop._check_closed()
    if count != 1:
        raise TypeError(f"create_task() takes 1 positional argument but {count} were given")
    name = context = eager = None
    known = loop.task_factory is None and not loop.stock_tasks and not loop.debug
    if names != NULL:
        for i, keyword in enumerate(<tuple>names):
            if keyword == "name":
                name = <object>args[1 + i]
            elif keyword == "context":
                context = <object>args[1 + i]
            elif keyword == "eager_start" and CAN_START_EAGERLY:
                eager = <object>args[1 + i]
            else:
                known = False
    if not known:
        keywords = {}
        if names != NULL:
            keywords = {keyword: <object>args[1 + i] for i, keyword in enumerate(<tuple>names)}
        return loop.make_task(<object>args[0], keywords)
    task = take_future(&loop.tasks) if loop.tasks.count else Task.__new__(Task)
    task.loop = loop
    task.native = task.loop_made = True
    task.start(<object>args[0], name, context, bool(eager))
    return task


cdef PyMethodDef scheduling_methods[5]

cdef int add_method(int at, const char* name, void* function, const char* doc) except -1:
    cdef PyMethodDef* method = &scheduling_methods[at]
    method.ml_name = name
    method.ml_meth = function
    method.ml_flags = METH_FASTCALL | METH_KEYWORDS
    method.ml_doc = doc
    (<dict>pl_type_dict(<PyTypeObject*>Loop))[name.decode()] = PyDescr_NewMethod(<PyTypeObject*>Loop, method)
    return 0


add_method(0, b"call_soon", <void*>call_soon, CALL_SOON_DOC)
add_method(1, b"call_soon_threadsafe", <void*>call_soon_threadsafe, CALL_SOON_THREADSAFE_DOC)
add_method(2, b"call_later", <void*>call_later, CALL_LATER_DOC)
add_method(3, b"call_at", <void*>call_at, CALL_AT_DOC)
add_method(4, b"create_task", <void*>create_task, CREATE_TASK_DOC)
PyType_Modified(<PyTypeObject*>Loop)
