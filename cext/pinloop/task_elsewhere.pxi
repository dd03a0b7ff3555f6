# Tasks on loops that are not pinloop's, and what waits for futures of other kinds: by callbacks.

cdef int step_elsewhere(Task task, object exception) except -1:
    """A step on a loop that is not pinloop's, which entered the context."""
    asyncio.tasks._enter_task(task.loop, task)
    try:
        task.advance(exception)
    finally:
        asyncio.tasks._leave_task(task.loop, task)
    return 0


cdef int start_eagerly_elsewhere(Task task) except -1:
    before = swap_current_task(task.loop, task)
    try:
        asyncio.tasks._register_eager_task(task)
        try:
            if PyContext_Enter(<PyObject*>task.context) < 0:
                task.reports_loss = False
                raise take_exception()
            try:
                task.advance(None)
            finally:
                PyContext_Exit(<PyObject*>task.context)
        finally:
            asyncio.tasks._unregister_eager_task(task)
    finally:
        swap_current_task(task.loop, before)
        if task.state != PENDING:
            task.coro = None
        else:
            asyncio.tasks._register_task(task)
    return 0


# The callbacks that a task gives to loops and futures of other kinds; C functions and no methods, so that
# they are no attributes of a task.

cdef PyMethodDef step_method, wakeup_method

cdef object task_step(PyObject* self, PyObject* unused):
    cdef Task task = <Task>self
    task.step(task.cause_of_step(), True)
    return None


cdef object task_wakeup(PyObject* self, PyObject* future):
    """The future that the task waits for is done."""
    cdef Task task = <Task>self
    failure = None
    if KNOWS_AWAITED_BY:
        futures.future_discard_from_awaited_by(<object>future, task)
    try:
        (<object>future).result()
    except BaseException as exc:
        failure = exc
    task.step(failure, True)
    return None


cdef object wakeup_of(Task task):
    return PyCFunction_New(&wakeup_method, task)


step_method.ml_name = b"task_step"
step_method.ml_meth = <void*>task_step
step_method.ml_flags = METH_NOARGS
wakeup_method.ml_name = b"task_wakeup"
wakeup_method.ml_meth = <void*>task_wakeup
wakeup_method.ml_flags = METH_O
