# What is set on the types beyond what Cython has words for.
#
# First, what the cyclic collector cannot see by itself: references kept in C arrays and structures.
#
# A loop dropped without close() is a cycle through its ready ring, its timers or its
# watchers (loop -> handle -> bound method -> ... -> loop).  Cython generates traverse
# and clear for the object fields; these wrap them for the others.  The inbox is safe to
# walk: a collection holds the GIL, or has stopped the other threads.

ctypedef int (*Visit)(PyObject* reached, void* arg) noexcept
ctypedef int (*Traverse)(PyObject* self, Visit visit, void* arg) noexcept
ctypedef int (*Clear)(PyObject* self) noexcept

cdef int visit_ring(Ring* ring, Visit visit, void* arg) noexcept:
    cdef size_t at = ring.head
    cdef int stop
    while at != ring.tail:
        stop = visit(<PyObject*>ring.slots[at & ring.mask], arg)
        if stop:
            return stop
        at += 1
    return 0


cdef int visit_spares(Spares* spares, Visit visit, void* arg) noexcept:
    cdef int i, stop
    for i in range(spares.count):
        stop = visit(spares.items[i], arg)
        if stop:
            return stop
    return 0


cdef int visit_waiting(WaitQueue* queue, Visit visit, void* arg) noexcept:
    cdef Waiter* waiter = queue.first
    cdef int stop
    while waiter != NULL:
        stop = visit(waiter.call, arg)
        if stop:
            return stop
        waiter = waiter.next
    return 0


cdef void drop_waiting(WaitQueue* queue) noexcept:
    while queue.first != NULL:
        waiter_leave(queue.first)


cdef int visit_loop(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Loop loop = <Loop>self
    cdef InboxNode* node
    cdef size_t i
    cdef int fd
    cdef int stop = 0
    if loop.ready.slots != NULL:
        stop = visit_ring(&loop.ready, visit, arg)
    if not stop and loop.flushing.slots != NULL:
        stop = visit_ring(&loop.flushing, visit, arg)
    for i in range(loop.timers.first, loop.timers.end):
        if not stop:
            stop = visit(loop.timers.run[i].handle, arg)
    for i in range(loop.timers.heap.count):
        if not stop:
            stop = visit(loop.timers.heap.timers[i].handle, arg)
    for fd in range(loop.slot_count):
        if not stop and loop.slots[fd].watcher != NULL:
            stop = visit(loop.slots[fd].watcher, arg)
    node = <InboxNode*>pl_ptr_load(&loop.inbox.top)
    while node != NULL and not stop:
        stop = visit(<PyObject*>node.owner, arg)
        node = node.next
    if not stop:
        stop = visit_spares(&loop.handles, visit, arg)
    return stop or visit_spares(&loop.timer_handles, visit, arg)


cdef int drop_loop(PyObject* self) noexcept:
    (<Loop>self).closed = True
    (<Loop>self).teardown()
    return 0


cdef int visit_queue(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Queue queue = <Queue>self
    return (visit_ring(&queue.items, visit, arg) or visit_waiting(&queue.getters, visit, arg)
            or visit_waiting(&queue.putters, visit, arg) or visit_waiting(&queue.joiners, visit, arg))


cdef int drop_queue(PyObject* self) noexcept:
    cdef Queue queue = <Queue>self
    drop_waiting(&queue.getters)
    drop_waiting(&queue.putters)
    drop_waiting(&queue.joiners)
    ring_clear(&queue.items)
    return 0


cdef int visit_channel(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Channel channel = <Channel>self
    return (visit_ring(&channel.items, visit, arg) or visit_waiting(&channel.senders, visit, arg)
            or visit_waiting(&channel.receivers, visit, arg))


cdef int drop_channel(PyObject* self) noexcept:
    cdef Channel channel = <Channel>self
    drop_waiting(&channel.senders)
    drop_waiting(&channel.receivers)
    ring_clear(&channel.items)
    return 0


cdef int visit_flag(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Flag flag = <Flag>self
    return visit_waiting(&flag.waiters, visit, arg) or visit_waiting(&flag.watchers, visit, arg)


cdef int drop_flag(PyObject* self) noexcept:
    drop_waiting(&(<Flag>self).waiters)
    drop_waiting(&(<Flag>self).watchers)
    return 0


cdef int visit_acquirable(PyObject* self, Visit visit, void* arg) noexcept:
    return visit_waiting(&(<Acquirable>self).waiters, visit, arg)


cdef int drop_acquirable(PyObject* self) noexcept:
    drop_waiting(&(<Acquirable>self).waiters)
    return 0


cdef struct Visited:
    PyTypeObject* type
    Py_ssize_t attributes        # the offset of the dict of those that users set; 0: there is none
    Traverse visit_more          # beyond that and what Cython knows of; NULL: there is nothing
    Clear drop_more
    Traverse visit_fields        # as Cython generated them
    Clear drop_fields


cdef Visited visited_types[32]
cdef int visited_count = 0


cdef Visited* visited(PyObject* self) noexcept:
    """The entry of its type, or of that which it is a subclass of."""
    cdef PyTypeObject* type = pl_type(self)
    cdef int i
    while True:
        for i in range(visited_count):
            if visited_types[i].type == type:
                return &visited_types[i]
        type = type.tp_base


cdef int traverse_all(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Visited* entry = visited(self)
    cdef PyObject* attributes
    cdef int stop = entry.visit_fields(self, visit, arg)
    if entry.attributes and not stop:
        attributes = (<PyObject**>(<char*>self + entry.attributes))[0]
        if attributes != NULL:
            stop = visit(attributes, arg)
    if entry.visit_more != NULL and not stop:
        stop = entry.visit_more(self, visit, arg)
    return stop


cdef int clear_all(PyObject* self) noexcept:
    cdef Visited* entry = visited(self)
    if entry.attributes:
        Py_CLEAR((<PyObject**>(<char*>self + entry.attributes))[0])
    if entry.drop_more != NULL:
        entry.drop_more(self)
    return entry.drop_fields(self)


cdef Visited* visit_all(PyTypeObject* type, Traverse visit_more, Clear drop_more) except NULL:
    """Have the collector see all that an object of this very type refers to."""
    global visited_count
    cdef Visited* entry = &visited_types[visited_count]
    entry.type = type
    entry.visit_more = visit_more
    entry.drop_more = drop_more
    entry.visit_fields = <Traverse><void*>type.tp_traverse
    entry.drop_fields = <Clear><void*>type.tp_clear
    visited_count += 1
    type.tp_traverse = <traverseproc><void*>traverse_all
    type.tp_clear = <inquiry><void*>clear_all
    return entry


cdef int give_attributes(PyTypeObject* type, object example, PyObject** field) except -1:
    """Attributes that users set, in a dict made at the first of them: Cython's own makes one for each object.

    `field` is that of `example`, an object of the type or of a base that has it.
    """
    cdef Visited* entry = visit_all(type, NULL, NULL)
    entry.attributes = <char*>field - <char*><PyObject*>example
    pl_set_dict_offset(type, entry.attributes)
    return 0


_example = Future.__new__(Future)
for _type in (Task, Future):                  # most objects are of the first of them
    give_attributes(<PyTypeObject*>_type, _example, &(<Future>_example).attributes)
_example = StreamTransport.__new__(StreamTransport)
for _type in (StreamTransport, DatagramTransport, TlsTransport, ReadPipeTransport, WritePipeTransport):
    give_attributes(<PyTypeObject*>_type, _example, &(<Transport>_example).attributes)
_example = Timeout.__new__(Timeout)
give_attributes(<PyTypeObject*>Timeout, _example, &(<Timeout>_example).attributes)
del _example

for _type in (Loop, VirtualLoop):
    visit_all(<PyTypeObject*>_type, visit_loop, drop_loop)
for _type in (Acquirable, Lock, Semaphore, BoundedSemaphore, Limiter):
    visit_all(<PyTypeObject*>_type, visit_acquirable, drop_acquirable)
visit_all(<PyTypeObject*>Flag, visit_flag, drop_flag)
visit_all(<PyTypeObject*>Queue, visit_queue, drop_queue)
visit_all(<PyTypeObject*>Channel, visit_channel, drop_channel)

# Second, handles whose last reference goes outside of the loop: a timer's that was cancelled, above
# all.  They are kept to be used again, as the loop keeps those that it has run.

cdef Dealloc free_handle = <Dealloc><void*>(<PyTypeObject*>Handle).tp_dealloc
cdef Dealloc free_timer_handle = <Dealloc><void*>(<PyTypeObject*>TimerHandle).tp_dealloc


cdef bint keep_handle(PyObject* self, Reactor reactor, Spares* spares) noexcept:
    """Keep a handle without references, if its loop lives and has room.  It may never go there twice."""
    if reactor.closed or spares.count == SPARE_HANDLES or spares.items == NULL or pl_is_being_collected(self):
        return False
    pl_new_reference(self)
    reactor.keep_spare(spares, self)
    return True


cdef void let_go_handle(PyObject* self) noexcept:
    cdef PyObject* loop = <PyObject*>(<Handle>self).reactor
    if loop == <PyObject*>None or not keep_handle(self, <Reactor>loop, &(<Reactor>loop).handles):
        free_handle(self)


cdef void let_go_timer_handle(PyObject* self) noexcept:
    cdef PyObject* loop = <PyObject*>(<Handle>self).reactor
    if loop == <PyObject*>None or not keep_handle(self, <Reactor>loop, &(<Reactor>loop).timer_handles):
        free_timer_handle(self)


if SPARES_ARE_SHARED:
    (<PyTypeObject*>Handle).tp_dealloc = <destructor><void*>let_go_handle
    (<PyTypeObject*>TimerHandle).tp_dealloc = <destructor><void*>let_go_timer_handle

# Third, the types whose objects only the loop makes.  Cython code calls their allocators
# directly; Python finds none, neither by calling the type nor by way of __new__.

for _type in (
    SlotTable, Runnable, Watcher, WakeWatcher, CallbackWatcher, Handle, TimerHandle,
    Transport, StreamTransport, FileSend, SocketWatcher, SocketCall, StreamCall,
    DatagramTransport, Peer, AddressCache, ReceiveBuffers,
    TlsTransport, TlsRecords, TlsEngine, OpensslEngine, MemoryEngine,
    PipeTransport, ReadPipeTransport, WritePipeTransport, ChildWatcher,
    Call, Group, Turn, Borrower, WaitCall, Waitable, Done, TimeoutEntry,
    ClaimCall, ReadyCall, Channel, ChannelCall, ChannelEnd, Sender, Receiver, Permit, Sending,
    SelectCall, ArmWake, After, FdReady,
):
    pl_forbid_new(<PyTypeObject*>_type)
    (<dict>pl_type_dict(<PyTypeObject*>_type)).pop("__new__", None)
    PyType_Modified(<PyTypeObject*>_type)

for _type in (Call, ClaimCall, Group, ReadyCall, SocketCall, Turn):
    pl_set_awaitable(<PyTypeObject*>_type, <void*>await_call, <void*>step_call, <void*>resume_call)
for _type in (SelectCall, SocketCall, StreamCall, WaitCall):
    pl_keep_memory(<PyTypeObject*>_type)
pl_set_awaitable(<PyTypeObject*>StreamCall, <void*>await_call, <void*>step_stream_call, <void*>resume_call)
pl_set_awaitable(<PyTypeObject*>WaitCall, <void*>await_call, <void*>step_wait_call, <void*>resume_call)
pl_set_awaitable(<PyTypeObject*>SelectCall, <void*>await_call, <void*>step_select, <void*>resume_call)
pl_set_awaitable(
    <PyTypeObject*>ChannelCall, <void*>await_call, <void*>step_channel_call, <void*>resume_channel_call)
if SPARES_ARE_SHARED:
    (<PyTypeObject*>ChannelCall).tp_dealloc = <destructor><void*>release_channel_call
if pl_make_stop_type() < 0:
    raise SystemError("no StopIteration of its own")
pl_set_awaitable(
    <PyTypeObject*>TimeoutEntry, <void*>await_itself, <void*>step_entry, <void*>send_entry)
pl_set_awaitable(<PyTypeObject*>Done, <void*>await_itself, <void*>step_done, <void*>send_done)

# Fourth, how a future is awaited, and the method that raises what it holds.

cdef PyMethodDef result_method
result_method.ml_name = b"result"
result_method.ml_meth = <void*>future_result
result_method.ml_flags = METH_NOARGS
result_method.ml_doc = b"""result($self, /)
--

The result.

Raises the exception if there is one, CancelledError if it was cancelled, InvalidStateError if it
is not done.
"""
_type = Future
(<dict>pl_type_dict(<PyTypeObject*>_type))["result"] = PyDescr_NewMethod(<PyTypeObject*>_type, &result_method)
(<PyTypeObject*>Future).tp_dealloc = <destructor>release_future
(<PyTypeObject*>Task).tp_dealloc = <destructor>release_task
for _type in (Future, Task):
    pl_set_awaitable(<PyTypeObject*>_type, <void*>future_await, <void*>future_next, <void*>future_send)
    PyType_Modified(<PyTypeObject*>_type)

pl_learn_contexts()

if pl_watch_forks():
    raise RuntimeError("pthread_atfork failed: a forked child could not be told from its parent")
