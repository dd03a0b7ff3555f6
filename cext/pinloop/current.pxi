# Which task asyncio.current_task() gives.
#
# Up to 3.13 asyncio keeps it in a dict by loop, from 3.14 on in the state of the thread.  Both are
# written here directly, since a call for each step of a task would be a third of its cost; where
# the place in the thread's state is not found, asyncio's own function is called after all.
#
# A task stays the current one until the next callback or the end of the batch: from one task's
# step to another's there is one write and not two.

cdef dict current_tasks = None if sys.version_info >= (3, 14) else asyncio.tasks._current_tasks
cdef object swap_current_task = getattr(asyncio.tasks, "_swap_current_task", None)


cdef ptrdiff_t find_current_slot() except -1:
    """The offset in a thread's state; 0 if it is not where it is looked for."""
    cdef ptrdiff_t offset
    if current_tasks is not None:
        return 0
    loop = asyncio._get_running_loop()
    task = None if loop is None else asyncio.current_task()
    if task is not None:
        return pl_find_pair(<PyObject*>loop, <PyObject*>task)
    running, task = loop, object()
    if running is None:
        running = object()
        asyncio._set_running_loop(running)
    try:
        swap_current_task(running, task)
        offset = pl_find_pair(<PyObject*>running, <PyObject*>task)
        swap_current_task(running, None)
        if offset and pl_in_thread_state(offset)[0] != NULL:
            offset = 0
    finally:
        if loop is None:
            asyncio._set_running_loop(None)
    return offset


cdef ptrdiff_t current_slot_offset = find_current_slot()


cdef inline void find_thread(Reactor reactor) noexcept:
    """To be called by the thread that is about to run the reactor."""
    reactor.current_slot = pl_in_thread_state(current_slot_offset) if current_slot_offset else NULL


cdef inline int enter_task(Reactor reactor, object task) except -1:
    """Make `task` the current one, whatever was before."""
    cdef PyObject* before
    if reactor.current_slot != NULL:
        before = reactor.current_slot[0]
        Py_INCREF(task)
        reactor.current_slot[0] = <PyObject*>task
        Py_XDECREF(before)
    elif current_tasks is not None:
        current_tasks[reactor] = task
    else:
        swap_current_task(reactor, task)
    reactor.task_entered = True
    return 0


cdef int leave_task(Reactor reactor) except -1:
    """There is no current task any more."""
    cdef PyObject* before
    reactor.task_entered = False
    if reactor.current_slot != NULL:
        before = reactor.current_slot[0]
        reactor.current_slot[0] = NULL
        Py_XDECREF(before)
    elif current_tasks is not None:
        current_tasks.pop(reactor, None)
    else:
        swap_current_task(reactor, None)
    return 0
