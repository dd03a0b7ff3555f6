# The usual course of a channel's call: one function for what it does at its first step, one for what it does
# when it has waited.
#
# This is a shorter way to what `Call.advance` comes to by way of `attempt`, `proceed` and `finish`, for
# calls of `send`, `recv` and `async for` on a loop of ours, on a channel without priorities.  Whatever else
# there is to be thought of (ends that are closed, permits, scopes, debug mode, another thread) goes the
# general course.  Of all of it, what is ready and concerns nobody else comes first.

cdef enum QuickOutcome:
    QUICK_NOT                    # nothing has happened: it is for the general course
    QUICK_RESULT
    QUICK_WAITS


cdef inline int quick_start(PyObject* self, PyObject** result) except -1:
    """A new call: a QuickOutcome, with the result or the future to wait for, both new references."""
    cdef PyObject* end = <PyObject*>(<ChannelCall>self).end
    cdef PyObject* channel = <PyObject*>(<ChannelEnd>end).channel
    cdef PyObject* loop = <PyObject*>(<Channel>channel).native_loop
    if (loop == <PyObject*>None or (<ChannelEnd>end).closed or (<Channel>channel).heap is not None
            or (<Loop>loop).cancelled_scopes or (<Loop>loop).budget_used >= BUDGET
            or (<Loop>loop).thread_id != pl_this_thread()):
        return QUICK_NOT
    if (<ChannelCall>self).waiter.operation == CHANNEL_SEND:
        return quick_send(self, channel, result)
    if (<ChannelCall>self).waiter.operation == CHANNEL_RECV or (
            (<ChannelCall>self).waiter.operation == CHANNEL_NEXT):
        return quick_receive(self, channel, result)
    return QUICK_NOT


cdef inline int quick_send(PyObject* self, PyObject* channel, PyObject** result) except -1:
    cdef Ring* items = &(<Channel>channel).items
    cdef Waiter* receiver
    if (<Channel>channel).open_receivers == 0:
        return QUICK_NOT
    if (<Channel>channel).receivers.first != NULL:
        if (<Channel>channel).senders.first != NULL or (<Channel>channel).reserved:
            return QUICK_NOT
        first_waiting(&(<Channel>channel).receivers, &receiver)
        if receiver == NULL:
            return QUICK_NOT
        budget_spent((<Channel>channel).native_loop)
        (<Channel>channel).handed += 1
        receiver.serial = (<Channel>channel).handed
        claim_for(receiver, (<ChannelCall>self).item, None)
    elif <Py_ssize_t>ring_count(items) + (<Channel>channel).reserved < (<Channel>channel).capacity:
        if (<Channel>channel).senders.first != NULL:
            return QUICK_NOT
        ring_make_room(items)
        budget_spent((<Channel>channel).native_loop)
        Py_INCREF((<ChannelCall>self).item)
        ring_put(items, <PyObject*>(<ChannelCall>self).item)
    else:
        return quick_wait(self, channel, &(<Channel>channel).senders, result)
    (<ChannelCall>self).state = CALL_DONE
    (<ChannelCall>self).item = None
    Py_INCREF(None)
    result[0] = <PyObject*>None
    return QUICK_RESULT


cdef inline int quick_receive(PyObject* self, PyObject* channel, PyObject** result) except -1:
    cdef Ring* items = &(<Channel>channel).items
    cdef Waiter* sender
    if ring_count(items):
        budget_spent((<Channel>channel).native_loop)
        (<ChannelCall>self).state = CALL_DONE
        result[0] = ring_pop(items)
        if (<Channel>channel).returned is not None:
            (<Channel>channel).forget_returned(0)
        if items.head == items.tail and items.mask >= KEPT_ROOM:
            ring_shrink(items, LEAST_ROOM)
        if (<Channel>channel).senders.first != NULL:
            (<Channel>channel).admit()
        return QUICK_RESULT
    if (<Channel>channel).senders.first == NULL:
        if (<Channel>channel).single or (<Channel>channel).open_senders == 0:
            return QUICK_NOT
        return quick_wait(self, channel, &(<Channel>channel).receivers, result)
    if (<Channel>channel).receivers.first != NULL or (<Channel>channel).reserved:
        return QUICK_NOT
    first_waiting(&(<Channel>channel).senders, &sender)
    if sender == NULL or sender.operation != CHANNEL_SEND:
        return QUICK_NOT
    budget_spent((<Channel>channel).native_loop)
    (<ChannelCall>self).state = CALL_DONE
    result[0] = sender.item
    Py_INCREF(<object>sender.item)
    claim_for(sender, None, None)
    return QUICK_RESULT


cdef inline int quick_wait(
        PyObject* self, PyObject* channel, WaitQueue* waiting, PyObject** result) except -1:
    """Join the queue."""
    cdef PyObject* loop = <PyObject*>(<Channel>channel).native_loop
    cdef Waiter* waiter = &(<ChannelCall>self).waiter
    cdef PyObject* future
    if (<Loop>loop).debug or (<Loop>loop).stock_tasks:
        return QUICK_NOT
    if (<ChannelCall>self).kept is None:
        (<ChannelCall>self).future = make_future(<Loop>loop)
    else:
        (<ChannelCall>self).kept.loop = <Loop>loop
        (<ChannelCall>self).future = (<ChannelCall>self).kept
        (<ChannelCall>self).kept = None
    waiter.call = self
    waiter.end = <PyObject*>(<ChannelCall>self).end
    waiter.item = <PyObject*>(<ChannelCall>self).item
    waiter_join(waiting, waiter)
    (<ChannelCall>self).state = CALL_WAITING
    future = <PyObject*>(<ChannelCall>self).future
    (<Future>future).blocking = True
    Py_INCREF(<object>future)
    result[0] = future
    return QUICK_WAITS


cdef inline int quick_resume(PyObject* self, PyObject** result) except -1:
    """A call that has waited."""
    if (<ChannelCall>self).claim == NULL or (<ChannelCall>self).failure is not None or (
            (<ChannelCall>self).end.channel.heap is not None):
        return QUICK_NOT
    if (<ChannelCall>self).waiter.operation == CHANNEL_SEND:
        (<ChannelCall>self).item = None
    elif (<ChannelCall>self).waiter.operation != CHANNEL_RECV and (
            (<ChannelCall>self).waiter.operation != CHANNEL_NEXT):
        return QUICK_NOT
    result[0] = <PyObject*>(<ChannelCall>self).outcome        # of a sender None
    Py_INCREF(<object>result[0])
    (<ChannelCall>self).claim = NULL
    (<ChannelCall>self).state = CALL_DONE
    (<ChannelCall>self).outcome = None
    keep_awaited(self)
    return QUICK_RESULT


cdef inline int keep_awaited(PyObject* self) except -1:
    """The future that the call waited for, as new, for the next time; it holds nothing meanwhile."""
    cdef PyObject* future = <PyObject*>(<ChannelCall>self).future
    if (pl_only_reference(future) and pl_is_plain(future, <PyTypeObject*>Future)
            and (<Future>future).loop_made and (<Future>future).attributes == NULL):
        empty_future(<Future>future)
        (<ChannelCall>self).kept = <Future>future
    (<ChannelCall>self).future = None
    return 0


cdef inline bint at_once(PyObject* self, PyObject** result) noexcept:
    """A new call that only has to put an item in or take one out, and nobody waits; False: it is another."""
    cdef unsigned long here = pl_this_thread()        # first: what is read before a call is put by meanwhile
    cdef PyObject* end = <PyObject*>(<ChannelCall>self).end
    cdef PyObject* channel = <PyObject*>(<ChannelEnd>end).channel
    cdef PyObject* loop = <PyObject*>(<Channel>channel).native_loop
    cdef Ring* items = &(<Channel>channel).items
    cdef size_t count = ring_count(items)
    cdef PyObject* item
    if ((<ChannelCall>self).state != CALL_NEW or loop == <PyObject*>None or (<Loop>loop).thread_id != here
            or (<Loop>loop).cancelled_scopes or (<Loop>loop).budget_used >= BUDGET
            or (<ChannelEnd>end).closed or (<Channel>channel).senders.first != NULL):
        return False
    if (<ChannelCall>self).waiter.operation == CHANNEL_SEND:
        if (count + (<Channel>channel).reserved >= <size_t>(<Channel>channel).capacity or count > items.mask
                or (<Channel>channel).receivers.first != NULL or (<Channel>channel).heap is not None
                or (<Channel>channel).open_receivers == 0):
            return False
        item = <PyObject*>(<ChannelCall>self).item
        Py_INCREF(<object>item)
        ring_put(items, item)
        (<ChannelCall>self).item = None
        result[0] = <PyObject*>None
        Py_INCREF(None)
    elif (<ChannelCall>self).waiter.operation <= CHANNEL_RESERVE or count == 0 or (
            (<ChannelCall>self).waiter.operation == CHANNEL_MANY or (<Channel>channel).returned is not None
            or count == 1 and items.mask >= KEPT_ROOM):
        return False
    else:
        result[0] = ring_pop(items)
    budget_spent(<Loop>loop)
    (<ChannelCall>self).state = CALL_DONE
    return True


cdef int course(PyObject* self, PyObject** result) except -1:
    cdef CallState state = (<ChannelCall>self).state
    if state == CALL_NEW:
        return quick_start(self, result)
    return quick_resume(self, result) if state == CALL_WAITING else QUICK_NOT


# By way of a pointer, so that the compiler leaves it out of who calls it: that has to stay short.
cdef int (*quick_course)(PyObject*, PyObject**) except -1
quick_course = course


cdef PyObject* step_channel_call(PyObject* self) except? NULL:
    """tp_iternext: what an `await` calls before 3.15."""
    cdef PyObject* result = NULL
    cdef int outcome
    if not at_once(self, &result):
        outcome = quick_course(self, &result)
        if outcome == QUICK_WAITS:
            return result
        if outcome == QUICK_NOT and (<ChannelCall>self).advance(&result) == PYGEN_NEXT:
            return result
    if result == <PyObject*>None:
        Py_DECREF(None)
    elif not PL_STOPS_ARE_MADE:
        stop_with(None, result)
    else:
        end_with(self, result)
    return NULL


cdef inline void end_with(PyObject* self, PyObject* result) noexcept:
    """As `stop_with`, by the call's own StopIteration: the call goes when the `await` has the result."""
    cdef PyObject* stop = <PyObject*>(<ChannelCall>self).stop
    if stop == <PyObject*>None or not pl_stop_is_fresh(stop):
        stop = PyObject_CallNoArgs(<PyObject*>StopIteration)
        if stop == NULL:
            Py_DECREF(<object>result)
            return
        (<ChannelCall>self).stop = pl_give(stop)
    pl_raise_stop(stop, result)


cdef int resume_channel_call(PyObject* self, PyObject* value, PyObject** result) except -1:
    """am_send: what a task and, from 3.15 on, an `await` call."""
    cdef int outcome
    if value == <PyObject*>None and at_once(self, result):
        return PYGEN_RETURN
    outcome = quick_course(self, result) if value == <PyObject*>None else QUICK_NOT
    if outcome == QUICK_NOT:
        return resume_call(self, value, result)
    return PYGEN_NEXT if outcome == QUICK_WAITS else PYGEN_RETURN


cdef Dealloc destroy_channel_call = <Dealloc><void*>(<PyTypeObject*>ChannelCall).tp_dealloc


cdef void release_channel_call(PyObject* self) noexcept:
    """Its deallocator: the end keeps one that is done, with one reference."""
    cdef PyObject* end = <PyObject*>(<ChannelCall>self).end
    cdef PyObject* stop = <PyObject*>(<ChannelCall>self).stop
    if (<ChannelCall>self).state == CALL_DONE and end != <PyObject*>None:
        pl_set_references(self, 1)
        if stop != <PyObject*>None:
            pl_empty_stop(stop)               # whatever this runs finds nothing half done
        if (<ChannelEnd>end).spare == NULL and not (<ChannelEnd>end).closed:
            (<ChannelEnd>end).spare = self
            (<ChannelCall>self).end = None    # with which the end may go, and this
            return
        pl_set_references(self, 0)
    destroy_channel_call(self)
