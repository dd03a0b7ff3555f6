# What is set on the types beyond what Cython has words for.
#
# First, what the cyclic collector cannot see by itself: references kept in C arrays.
#
# A loop dropped without close() is a cycle through its ready ring, its timers or its
# watchers (loop -> handle -> bound method -> ... -> loop).  Cython generates traverse
# and clear for the object fields; these wrap them for the arrays.  The inbox is safe to
# walk: a collection holds the GIL, or has stopped the other threads.

ctypedef int (*Visit)(PyObject* reached, void* arg) noexcept
ctypedef int (*Traverse)(PyObject* self, Visit visit, void* arg) noexcept
ctypedef int (*Clear)(PyObject* self) noexcept

cdef Traverse traverse_fields = <Traverse><void*>(<PyTypeObject*>Loop).tp_traverse
cdef Clear clear_fields = <Clear><void*>(<PyTypeObject*>Loop).tp_clear


cdef int visit_ring(Ring* ring, Visit visit, void* arg) noexcept:
    cdef size_t at = ring.head
    cdef int stop
    while at != ring.tail:
        stop = visit(<PyObject*>ring.slots[at & ring.mask], arg)
        if stop:
            return stop
        at += 1
    return 0


cdef Traverse traverse_queue_fields = <Traverse><void*>(<PyTypeObject*>Queue).tp_traverse
cdef Clear clear_queue_fields = <Clear><void*>(<PyTypeObject*>Queue).tp_clear


cdef int traverse_queue(PyObject* self, Visit visit, void* arg) noexcept:
    return traverse_queue_fields(self, visit, arg) or visit_ring(&(<Queue>self).items, visit, arg)


cdef int clear_queue(PyObject* self) noexcept:
    ring_clear(&(<Queue>self).items)
    return clear_queue_fields(self)


cdef Traverse traverse_channel_fields = <Traverse><void*>(<PyTypeObject*>Channel).tp_traverse
cdef Clear clear_channel_fields = <Clear><void*>(<PyTypeObject*>Channel).tp_clear


cdef int traverse_channel(PyObject* self, Visit visit, void* arg) noexcept:
    return traverse_channel_fields(self, visit, arg) or visit_ring(&(<Channel>self).items, visit, arg)


cdef int clear_channel(PyObject* self) noexcept:
    ring_clear(&(<Channel>self).items)
    return clear_channel_fields(self)


cdef int visit_spares(Spares* spares, Visit visit, void* arg) noexcept:
    cdef int i, stop
    for i in range(spares.count):
        stop = visit(spares.items[i], arg)
        if stop:
            return stop
    return 0


cdef int traverse_loop(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Loop loop = <Loop>self
    cdef InboxNode* node
    cdef size_t i
    cdef int fd
    cdef int stop = traverse_fields(self, visit, arg)
    if not stop and loop.ready.slots != NULL:
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


cdef int clear_loop(PyObject* self) noexcept:
    (<Loop>self).closed = True
    (<Loop>self).teardown()
    return clear_fields(self)


(<PyTypeObject*>Loop).tp_traverse = <traverseproc><void*>traverse_loop
(<PyTypeObject*>Loop).tp_clear = <inquiry><void*>clear_loop
(<PyTypeObject*>Queue).tp_traverse = <traverseproc><void*>traverse_queue
(<PyTypeObject*>Queue).tp_clear = <inquiry><void*>clear_queue
(<PyTypeObject*>Channel).tp_traverse = <traverseproc><void*>traverse_channel
(<PyTypeObject*>Channel).tp_clear = <inquiry><void*>clear_channel
# It took over its base's when the types were made, and has no fields of its own to visit.
(<PyTypeObject*>VirtualLoop).tp_traverse = <traverseproc><void*>traverse_loop
(<PyTypeObject*>VirtualLoop).tp_clear = <inquiry><void*>clear_loop

# Second, handles whose last reference goes outside of the loop: a timer's that was cancelled, above
# all.  They are kept to be used again, as the loop keeps those that it has run.

cdef Dealloc free_handle = <Dealloc><void*>(<PyTypeObject*>Handle).tp_dealloc
cdef Dealloc free_timer_handle = <Dealloc><void*>(<PyTypeObject*>TimerHandle).tp_dealloc


cdef bint keep_handle(PyObject* self, Reactor reactor, Spares* spares) noexcept:
    """Keep a handle without references, if its loop lives and has room.  It may never go there twice."""
    if reactor.closed or spares.count == SPARE_HANDLES or spares.items == NULL:
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
    Call, Group, Turn, Borrower, WaitCall, WaitQueue, Waitable, Done, TimeoutEntry,
    ClaimCall, ReadyCall, Channel, ChannelCall, ChannelEnd, Sender, Receiver, Permit, Sending,
    SelectCall, ArmWake, After, FdReady,
):
    pl_forbid_new(<PyTypeObject*>_type)
    (<dict>pl_type_dict(<PyTypeObject*>_type)).pop("__new__", None)
    PyType_Modified(<PyTypeObject*>_type)

for _type in (Call, ClaimCall, Group, ReadyCall, SelectCall, SocketCall, Turn):
    pl_set_awaitable(<PyTypeObject*>_type, <void*>await_call, <void*>step_call, <void*>resume_call)
for _type in (SocketCall, StreamCall, WaitCall):
    pl_keep_memory(<PyTypeObject*>_type)
pl_set_awaitable(<PyTypeObject*>StreamCall, <void*>await_call, <void*>step_stream_call, <void*>resume_call)
pl_set_awaitable(<PyTypeObject*>WaitCall, <void*>await_call, <void*>step_wait_call, <void*>resume_call)
pl_set_awaitable(
    <PyTypeObject*>ChannelCall, <void*>await_call, <void*>step_channel_call, <void*>resume_channel_call)
if SPARES_ARE_SHARED:
    (<PyTypeObject*>ChannelCall).tp_dealloc = <destructor><void*>release_channel_call
if pl_make_stop_type() < 0:
    raise SystemError("no StopIteration of its own")
pl_set_awaitable(
    <PyTypeObject*>TimeoutEntry, <void*>await_itself, <void*>step_entry, <void*>send_entry)
pl_set_awaitable(<PyTypeObject*>Done, <void*>await_itself, <void*>step_done, <void*>send_done)

# Fourth, attributes that users set.  They are in a dict made at the first of them: Cython's own `__dict__`
# makes one for each object.

cdef struct Attributed:
    PyTypeObject* type
    Py_ssize_t offset            # of the field, a PyObject*
    Traverse traverse            # as Cython generated them
    Clear clear


cdef Attributed attributed_types[8]
cdef int attributed_count = 0


cdef Attributed* attributed(PyObject* self) noexcept:
    """The entry of its type, or of that which it is a subclass of."""
    cdef PyTypeObject* type = pl_type(self)
    cdef int i
    while True:
        for i in range(attributed_count):
            if attributed_types[i].type == type:
                return &attributed_types[i]
        type = type.tp_base


cdef int traverse_attributed(PyObject* self, Visit visit, void* arg) noexcept:
    cdef Attributed* entry = attributed(self)
    cdef PyObject* attributes = (<PyObject**>(<char*>self + entry.offset))[0]
    cdef int stop = entry.traverse(self, visit, arg)
    return visit(attributes, arg) if attributes != NULL and not stop else stop


cdef int clear_attributed(PyObject* self) noexcept:
    cdef Attributed* entry = attributed(self)
    Py_CLEAR((<PyObject**>(<char*>self + entry.offset))[0])
    return entry.clear(self)


cdef int give_attributes(PyTypeObject* type, object example, PyObject** field) except -1:
    """`field` is that of `example`, an object of the type or of a base that has it."""
    cdef Attributed* entry = &attributed_types[attributed_count]
    global attributed_count
    entry.type = type
    entry.offset = <char*>field - <char*><PyObject*>example
    entry.traverse = <Traverse><void*>type.tp_traverse
    entry.clear = <Clear><void*>type.tp_clear
    attributed_count += 1
    type.tp_traverse = <traverseproc><void*>traverse_attributed
    type.tp_clear = <inquiry><void*>clear_attributed
    pl_set_dict_offset(type, entry.offset)
    return 0


_example = Future.__new__(Future)
for _type in (Future, Task):
    give_attributes(<PyTypeObject*>_type, _example, &(<Future>_example).attributes)
_example = StreamTransport.__new__(StreamTransport)
for _type in (StreamTransport, DatagramTransport, TlsTransport, ReadPipeTransport, WritePipeTransport):
    give_attributes(<PyTypeObject*>_type, _example, &(<Transport>_example).attributes)
_example = Timeout.__new__(Timeout)
give_attributes(<PyTypeObject*>Timeout, _example, &(<Timeout>_example).attributes)
del _example

# Fifth, how a future is awaited, and the method that raises what it holds.

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
