# The cross-thread inbox: the one way into a reactor from another thread.
#
# A lock-free stack (Treiber, 1986) of intrusive nodes.  The consumer takes the
# whole stack at once and reverses it, so there is no ABA and no lock that a
# thread could die with.  `asleep` is set by the reactor before it blocks; the
# producer that finds it set clears it and pays the one wake of the batch.
#
# Order of the two stores and loads (both sequentially consistent): the producer
# pushes, then takes `asleep`; the reactor sets `asleep`, then looks for nodes.
# Whichever comes second sees the other's, so no push sleeps unseen.
from pinloop.c_posix cimport (
    pl_atomic_int, pl_atomic_ptr, pl_int_store, pl_int_take, pl_ptr_load, pl_ptr_peek, pl_ptr_swap_if,
    pl_ptr_take, pl_wake_write,
)

cdef struct InboxNode:
    InboxNode* next
    void* owner            # the handle that the node is part of

cdef struct Inbox:
    pl_atomic_ptr top      # InboxNode*, newest first
    pl_atomic_int asleep
    int rfd                # watched by the reactor, edge-triggered
    int wfd                # the same number where it is an eventfd

cdef inline void inbox_push(Inbox* inbox, InboxNode* node) noexcept nogil:
    cdef void* seen = pl_ptr_load(&inbox.top)
    while True:
        node.next = <InboxNode*>seen
        if pl_ptr_swap_if(&inbox.top, &seen, node):
            break
    inbox_wake(inbox)

cdef inline void inbox_wake(Inbox* inbox) noexcept nogil:
    if pl_int_take(&inbox.asleep):
        pl_wake_write(inbox.wfd)

cdef inline bint inbox_waiting(Inbox* inbox) noexcept nogil:
    return pl_ptr_peek(&inbox.top) != NULL

cdef inline InboxNode* inbox_take(Inbox* inbox) noexcept nogil:
    """Everything pushed so far, oldest first."""
    cdef InboxNode* newest = <InboxNode*>pl_ptr_take(&inbox.top)
    cdef InboxNode* oldest = NULL
    cdef InboxNode* following
    while newest != NULL:
        following = newest.next
        newest.next = oldest
        oldest = newest
        newest = following
    return oldest

cdef inline bint inbox_fall_asleep(Inbox* inbox) noexcept nogil:
    """Announce a blocking poll; false when something arrived and it must not block."""
    pl_int_store(&inbox.asleep, 1)
    if pl_ptr_load(&inbox.top) != NULL:
        pl_int_store(&inbox.asleep, 0)
        return False
    return True

cdef inline void inbox_wake_up(Inbox* inbox) noexcept nogil:
    pl_int_store(&inbox.asleep, 0)
