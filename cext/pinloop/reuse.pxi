# Futures and tasks whose last reference went, kept by their loop to be used again.
#
# Making one anew costs the allocator, the collector's count and some twenty fields; taking one that
# was put by costs the fields it needs.  This is the deallocator of the two types: an object of just these
# types, with nothing to report, is emptied and kept with the one reference that is the list's.  It is hidden
# from the collector meanwhile, and holds nothing.

ctypedef void (*Dealloc)(PyObject* self) noexcept

cdef Dealloc destroy_future = <Dealloc>(<PyTypeObject*>Future).tp_dealloc
cdef Dealloc destroy_task = <Dealloc>(<PyTypeObject*>Task).tp_dealloc

cdef enum:
    SPARE_FUTURES = 1024      # of each kind


cdef void release_future(PyObject* self) noexcept:
    if pl_is_plain(self, <PyTypeObject*>Future):
        pl_set_references(self, 1)
        if keep_future(self):
            return
        pl_set_references(self, 0)
    # What Cython generated runs the finalizer only as the type's own deallocator; a subclass has run it.
    if pl_type(self) == <PyTypeObject*>Future and PyObject_CallFinalizerFromDealloc(self) < 0:
        return
    destroy_future(self)


cdef void release_task(PyObject* self) noexcept:
    if pl_is_plain(self, <PyTypeObject*>Task):
        pl_set_references(self, 1)
        if keep_task(self):
            return
        pl_set_references(self, 0)
    if pl_type(self) == <PyTypeObject*>Task and PyObject_CallFinalizerFromDealloc(self) < 0:
        return
    destroy_task(self)


cdef bint keep_future(PyObject* self) noexcept:
    cdef Future future = <Future>self
    if not future.loop_made or future.log_traceback or future.loop is None or future.attributes != NULL:
        return False
    reactor = <Reactor>future.loop
    if (<Reactor>reactor).futures.count >= SPARE_FUTURES or (<Reactor>reactor).closed:
        return False
    PyObject_GC_UnTrack(self)
    empty_future(future)
    return keep(<Reactor>reactor, &(<Reactor>reactor).futures, self)


cdef bint keep_task(PyObject* self) noexcept:
    cdef Task task = <Task>self
    if not task.loop_made or task.log_traceback or task.state == PENDING or task.loop is None:
        return False
    if task.attributes != NULL:
        return False
    reactor = <Reactor>task.loop
    if (<Reactor>reactor).tasks.count >= SPARE_FUTURES or (<Reactor>reactor).closed:
        return False
    PyObject_GC_UnTrack(self)
    task.coro = task.name = task.context = None
    if task.awaiting is not None:
        task.awaiting = None
    task.must_cancel = task.reports_loss = False
    task.cancel_requests = 0
    empty_future(task)
    return keep(<Reactor>reactor, &(<Reactor>reactor).tasks, self)


cdef inline void empty_future(Future future) noexcept:
    future.held = None
    if future.awaited_by is not None:
        future.awaited_by = None
    if future.rest is not None:
        future.rest = None
    future.failed = future.blocking = False
    future.state = PENDING
    future.loop = None


cdef bint keep(Reactor reactor, Spares* spares, PyObject* entry) noexcept:
    """Looked at last: what was dropped may have run a finalizer that closed the loop, or made some."""
    if reactor.closed:
        return False
    if spares.items == NULL:
        spares.items = <PyObject**>PyMem_RawMalloc(SPARE_FUTURES * sizeof(PyObject*))
    if spares.items == NULL or spares.count >= SPARE_FUTURES:
        return False
    spares.items[spares.count] = entry
    spares.count += 1
    return True


cdef inline object take_future(Spares* spares):
    """One that was kept; there must be one."""
    spares.count -= 1
    future = <object>spares.items[spares.count]
    Py_DECREF(future)
    PyObject_GC_Track(<PyObject*>future)
    return future
