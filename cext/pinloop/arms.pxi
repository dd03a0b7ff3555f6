# The arms of join and its like: what each came to, how a child is started, what is never begun.

cdef inline bint arm_cancelled(object arm) except -1:
    if type(arm) is Task or type(arm) is Future:
        return (<Future>arm).state == CANCELLED
    return arm.cancelled()


cdef inline object arm_error(object arm):
    """Its exception or None; it has finished and was not cancelled."""
    if type(arm) is Task or type(arm) is Future:
        (<Future>arm).log_traceback = False
        return (<Future>arm).held if (<Future>arm).failed else None
    return arm.exception()


cdef inline object arm_result(object arm):
    if type(arm) is Task or type(arm) is Future:
        if (<Future>arm).state == FINISHED and not (<Future>arm).failed:
            return (<Future>arm).held
    return arm.result()


cdef tuple results(tuple given, list arms):
    """Of each argument."""
    cdef Py_ssize_t at
    if len(arms) == len(given):
        return tuple([arm_result(arm) for arm in arms])
    # Some were given more than once.
    cdef dict arm_of = {}
    at = 0
    for awaitable in given:
        if <size_t><PyObject*>awaitable not in arm_of:
            arm_of[<size_t><PyObject*>awaitable] = arms[at]
            at += 1
    return tuple([arm_result(arm_of[<size_t><PyObject*>awaitable]) for awaitable in given])


cdef list in_order(list awaitables, list arms):
    """`arms` has the futures first, then the tasks of the other awaitables: put them as they were given."""
    futures_given = [awaitable for awaitable in awaitables if asyncio.isfuture(awaitable)]
    tasks = iter(arms[len(futures_given):])
    return [awaitable if asyncio.isfuture(awaitable) else next(tasks) for awaitable in awaitables]


async def _awaiting(awaitable):
    """The coroutine of another awaitable."""
    return await awaitable


cdef int close_unstarted(object awaitable) except -1:
    """Close a coroutine that is not begun, as it will not be: or it would be said that nobody awaited it."""
    if isinstance(awaitable, Call):
        if (<Call>awaitable).state == CALL_NEW:
            awaitable.close()
    elif type(awaitable) is CoroutineType:
        if inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
            awaitable.close()
    return 0


cdef object start_child(Loop loop, object coro):
    """The task of a child, which has run until it first waits where tasks of ours can start eagerly."""
    cdef Task task
    if not CAN_START_EAGERLY or loop.task_factory is not None or loop.stock_tasks or loop.debug:
        return loop.create_task(coro)
    task = take_future(&loop.tasks) if loop.tasks.count else Task.__new__(Task)
    task.loop = loop
    task.native = task.loop_made = True
    if loop.eager_depth == EAGER_DEPTH:
        task.start(coro, None, None, False)
        return task
    loop.eager_depth += 1
    try:
        task.start(coro, None, None, True)
    except BaseException:
        task.log_traceback = False    # who gets it here sees it
        raise
    finally:
        loop.eager_depth -= 1
    return task
