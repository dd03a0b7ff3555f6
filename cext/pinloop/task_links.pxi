# What leads from one task to others: the list of a loop's tasks, and who awaits whom.
#
# asyncio.all_tasks() asks a loop for its tasks (see _registry.py), so that a task needs no entry in a
# WeakSet: those that are not done are linked with one another.

cdef inline void enlist(Task task, Reactor reactor) noexcept:
    task.next_task = reactor.first_task
    if task.next_task != NULL:
        (<Task>task.next_task).task_link = &task.next_task
    task.task_link = &reactor.first_task
    reactor.first_task = <PyObject*>task
    reactor.counts.tasks += 1
    reactor.counts.tasks_made += 1
    task.listed = True


cdef inline void unlist(Task task) noexcept:
    if task.next_task != NULL:
        (<Task>task.next_task).task_link = task.task_link
    task.task_link[0] = task.next_task
    if task.loop is not None:      # as it is where the reactor goes with its tasks
        (<Reactor>task.loop).counts.tasks -= 1
    task.listed = False


cdef void unlist_all(Reactor reactor) noexcept:
    """Before the reactor goes: in a cycle its tasks may outlive it."""
    while reactor.first_task != NULL:
        unlist(<Task>reactor.first_task)


cdef list listed_tasks(Reactor reactor):
    cdef PyObject* task = reactor.first_task
    found = []
    while task != NULL:
        found.append(<object>task)
        task = (<Task>task).next_task
    return found


# ------------------------------------------------------------------ call graphs --

# From 3.14 on `gather`, TaskGroup and others note in a future who awaits it, by two functions that know no
# futures but asyncio's own.  These take their places; see _registry.py.

cdef object stock_add = getattr(futures, "future_add_to_awaited_by", None)
cdef object stock_discard = getattr(futures, "future_discard_from_awaited_by", None)
cdef bint KNOWS_AWAITED_BY = stock_add is not None


def future_add_to_awaited_by(fut, waiter, /):
    """Record that `fut` is awaited by `waiter`."""
    cdef Future future
    if not isinstance(fut, Future):
        stock_add(fut, waiter)
        return
    future = <Future>fut
    if future.awaited_by is None:
        future.awaited_by = waiter
    elif type(future.awaited_by) is set:
        future.awaited_by.add(waiter)
    elif future.awaited_by is not waiter:
        future.awaited_by = {future.awaited_by, waiter}


def future_discard_from_awaited_by(fut, waiter, /):
    """Record that `fut` is no longer awaited by `waiter`."""
    cdef Future future
    if not isinstance(fut, Future):
        stock_discard(fut, waiter)
        return
    future = <Future>fut
    if future.awaited_by is waiter:
        future.awaited_by = None
    elif type(future.awaited_by) is set:
        future.awaited_by.discard(waiter)
