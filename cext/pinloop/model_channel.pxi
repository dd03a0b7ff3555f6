# The data model, continued from _core.pxd: channels, and what waits for one of several things.

cdef class ClaimCall(Call):
    """A call that one of its waiters ends: whoever claims it first, and nobody after."""
    cdef Waiter* claim           # the waiter that it went to: it is decided; NULL: it is not
    cdef object outcome          # what that was given
    cdef object failure          # or what is to be raised

    cdef int withdraw(self) except -1
    cdef bint undo(self) except -1
    cdef object collect(self)


cdef class Channel(Waitable):
    """What the ends of a channel share."""
    cdef Py_ssize_t capacity     # PY_SSIZE_T_MAX: there is no limit
    cdef Ring items
    cdef list heap               # (key, number, item) instead, of a channel with priorities; else None
    cdef object key              # of an item there
    cdef object number           # how many items have been numbered
    cdef object check            # called with each item that is sent, to raise what is wrong with it; or None
    cdef bint wraps              # an item is not just stored as it is: there are priorities, or a check
    cdef bint single             # a oneshot: one receiver, that waits once
    cdef uint64_t handed         # items that went straight to who waited for one
    cdef list returned           # the serials of those at the head that came back; None: none did
    cdef str failure             # why one side was lost, which the other is told; None: it was not
    cdef Py_ssize_t reserved     # places promised to permits
    cdef Py_ssize_t open_senders
    cdef Py_ssize_t open_receivers
    cdef WaitQueue senders       # who waits for a place
    cdef WaitQueue receivers     # who waits for an item

    @cython.final
    cdef Py_ssize_t held(self) noexcept
    @cython.final
    cdef bint has_room(self) except -1
    @cython.final
    cdef bint has_item(self) except -1
    @cython.final
    cdef object wrap(self, object item)
    @cython.final
    cdef int store(self, object stored) except -1
    @cython.final
    cdef object take_stored(self)
    @cython.final
    cdef int deliver(self, object stored) except -1
    @cython.final
    cdef int admit(self) except -1
    @cython.final
    cdef int give_back(self, object stored, uint64_t serial) except -1
    @cython.final
    cdef int forget_returned(self, Py_ssize_t i) except -1
    @cython.final
    cdef bint take_back(self, object stored) except -1
    @cython.final
    cdef bint is_over(self) noexcept
    @cython.final
    cdef object the_end(self)
    @cython.final
    cdef object closed_error(self, str text)
    @cython.final
    cdef int unreserve(self) except -1
    @cython.final
    cdef int check_send(self, ChannelEnd end) except -1
    @cython.final
    cdef bint may_send(self) except -1
    @cython.final
    cdef int check_single(self) except -1
    @cython.final
    cdef object receive(self, ChannelEnd end, bint iterates)
    @cython.final
    cdef list receive_more(self, list items, Py_ssize_t most)
    @cython.final
    cdef int end_left(self, bint sends) except -1
    @cython.final
    cdef int fail_all(self, WaitQueue* waiting, PyObject* end, object kind, str why) except -1
    @cython.final
    cdef int enter(self) except -1
    @cython.final
    cdef object new_future(self)


cdef class ChannelEnd:
    cdef Channel channel
    cdef bint closed
    cdef bint sends
    cdef PyObject* spare         # a ChannelCall to be used again; owned
    cdef object __weakref__


@cython.final
cdef class ChannelCall(ClaimCall):
    cdef Waiter waiter
    cdef ChannelEnd end
    cdef object item             # what is to be sent, as the channel stores it
    cdef Py_ssize_t most         # items, of recv_many
    cdef object stop             # a StopIteration by which it ends, again and again; or None
    cdef Future kept             # one it has waited for, to be used again: it holds nothing, loop included

    @cython.final
    cdef object attempt(self)
    @cython.final
    cdef object handed(self, Channel channel, object stored)


@cython.final
cdef class ReadyCall(Call):
    cdef object result


@cython.final
cdef class Permit:
    """A place in a channel that is kept for one item."""
    cdef Channel channel         # None once it is used

    cdef int give_up(self) except -1


@cython.final
cdef class Sending:
    """An operation for select: to send one item."""
    cdef ChannelEnd end
    cdef object item


@cython.final
cdef class After:
    """An operation for select: time passes."""
    cdef double delay            # seconds


@cython.final
cdef class FdReady:
    """An operation for select: a file descriptor is ready."""
    cdef int fd
    cdef bint writing

    cdef bint is_ready(self) except -1


@cython.final
cdef class SelectCall(ClaimCall):
    cdef tuple ops
    cdef bint biased
    cdef Waiter* arms            # one for each operation
    cdef bint parked             # they stand in the queues, but for those that have none
    cdef list hooks              # for each operation, what is to be taken back, or None; None: there is none
    cdef object loop
    cdef Loop native_loop

    cdef object attempt(self)
    cdef int find_loop(self) except -1
    cdef int check_loops(self) except -1
    cdef Py_ssize_t choose(self) except -2
    cdef uint64_t draw(self) except? 0
    cdef object take(self, Py_ssize_t i)
    cdef int park(self) except -1
    cdef int admit_permits(self) except -1
    cdef int hook(self, Py_ssize_t i, object op, int kind) except -1
    cdef int unhook(self, object op, object hook) except -1


@cython.final
cdef class ArmWake:
    cdef SelectCall call
    cdef Py_ssize_t index
