# The registration of an fd that sock_* calls have waited on.
#
# It outlives the call that made it.  Edge-triggered, it remembers whether the kernel has
# anything new to tell: a call that could only meet EAGAIN waits without a system call, and
# the next one needs no epoll_ctl.  What makes that safe:
#
# - It belongs to one socket *object*, known by a weak reference: a number that was closed and
#   given to another is never taken for it.  Other objects on the same fd share it only while
#   their calls wait, level-triggered, with nothing remembered.
# - A short read says that a TCP socket is empty, unless the end, an error or urgent bytes
#   came too (EV_OTHER), which stop a read before all has been read.  Elsewhere a message,
#   passed descriptors or credentials end a read early: only EAGAIN counts.
# - With add_reader or add_writer on the same fd it is level-triggered, for them and for
#   the calls that wait.
#
# The calls of one direction form a queue.  Its head is woken, makes its system call when its
# task resumes, and hands on to the next when it is done or cancelled: first in, first out,
# and a call cancelled after it was woken has taken nothing.

cdef object new_weakref = weakref.ref


@cython.final
cdef class SocketWatcher(CallbackWatcher):
    """add_reader / add_writer on a socket, and the sock_* calls that wait for it."""

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef uint32_t told = mask & (EV_READ | EV_WRITE)
        cdef uint32_t before = self.ready
        cdef uint32_t idle
        if mask & EV_OTHER:
            self.trusts_short = False
        self.ready |= told
        if told & EV_READ and self.first_reader is not None:
            self.first_reader.wake()
        if told & EV_WRITE and self.first_writer is not None:
            self.first_writer.wake()
        if self.reader is not None or self.writer is not None:
            return CallbackWatcher.on_ready(self, mask)
        # What was told before, and nobody has asked for since, is listened for no longer.  Room
        # to write is told along with each arrival, which costs nothing.
        idle = told & before & self.kept & ~self.awaited()
        if told & EV_READ:
            idle &= EV_READ
        if not idle:
            return 0
        self.kept &= ~idle
        return self.settle_callbacks()

    # ------------------------------------------------------------- whose it is --

    cdef int own(self, object sock) except -1:
        """Be the registration of `sock`, to be kept between its calls."""
        self.reference = new_weakref(sock, self._socket_gone)
        self.owner = <PyObject*>sock
        self.kept = 0
        self.trusts_short = self.reactor.poller.tells_other and pl_is_tcp(self.fd)
        return 0

    cdef int disown(self) except -1:
        self.owner = NULL
        self.reference = None
        self.kept = 0
        return 0

    def _socket_gone(self, reference):
        """The socket object was freed, and its number may be another's by now."""
        self.owner = NULL
        self.kept = 0
        # Freed by another thread, it leaves this to whoever comes upon the number next.
        if self.reactor.thread_id in (0, PyThread_get_thread_ident()):
            self.settle_callbacks()

    cdef bint is_alive(self) except -1:
        """Whether a call waits whose socket still has this number."""
        cdef SocketCall call
        for call in (self.first_reader, self.first_writer):
            if call is not None and call.sock.fileno() == self.fd:
                return True
        return False

    cdef bint gives_way(self) noexcept:
        return self.reader is None and self.writer is None

    cdef int evicted(self) except -1:
        """The number is another's: each call that waits is woken to find out."""
        cdef SocketCall call
        for call in (self.first_reader, self.first_writer):
            while call is not None:
                call.wake()
                call = call.next
        return self.disown()

    # --------------------------------------------------------------- the queues --

    cdef uint32_t awaited(self) noexcept:
        return (EV_READ if self.first_reader is not None else 0) | (
            EV_WRITE if self.first_writer is not None else 0)

    cdef bint may_try(self, SocketCall call) noexcept:
        """Whether it is this call's turn, and a system call might do it."""
        cdef SocketCall first = self.first_writer if call.direction == EV_WRITE else self.first_reader
        if first is not None and first is not call:
            return False
        return not self.kept & call.direction or self.ready & call.direction

    cdef int join(self, SocketCall call) except -1:
        """Queue a call and listen for it."""
        cdef SocketCall last = self.last_writer if call.direction == EV_WRITE else self.last_reader
        call.watcher = self
        if last is not None:
            last.next = call
        elif call.direction == EV_WRITE:
            self.first_writer = call
        else:
            self.first_reader = call
        if call.direction == EV_WRITE:
            self.last_writer = call
        else:
            self.last_reader = call
        if last is not None:
            return 0
        return self.settle_callbacks()

    cdef int leave(self, SocketCall call) except -1:
        """Take a call out; the head hands on what readiness is left."""
        cdef SocketCall before = None, at
        cdef SocketCall first = self.first_writer if call.direction == EV_WRITE else self.first_reader
        cdef SocketCall after = call.next
        call.watcher = None
        call.next = None
        at = first
        while at is not call:
            before, at = at, at.next
        if before is not None:
            before.next = after
        elif call.direction == EV_WRITE:
            self.first_writer = after
        else:
            self.first_reader = after
        if after is None:
            if call.direction == EV_WRITE:
                self.last_writer = before
            else:
                self.last_reader = before
        if before is None and after is not None:
            if self.ready & call.direction:
                after.wake()
        elif before is None and self.kept == 0:
            self.settle_callbacks()     # level-triggered: nobody waits any more
        return 0

    cdef int settle_callbacks(self) except -1:
        """Match the registration to the callbacks, the calls that wait, and what is kept."""
        cdef uint32_t mask = self.awaited()
        if self.fd < 0 or self.reactor.closed:
            return 0
        if self.reader is not None or self.writer is not None or self.owner == NULL:
            self.kept = 0
            mask |= (EV_READ if self.reader is not None else 0) | (
                EV_WRITE if self.writer is not None else 0)
            if mask == 0:
                return self.reactor.unwatch(self)
        else:
            mask |= self.kept
            self.reactor.watch(self, mask | EV_EDGE | EV_OTHER if mask else 0)
            self.kept = mask
            return 0
        return self.reactor.watch(self, mask)

    cdef int listen_anew(self) except -1:
        """Have the poller tell again what is so already."""
        if self.interest & EV_EDGE and self.fd >= 0 and not self.reactor.closed:
            self.reactor.poller.modify(
                self.fd, self.interest, self.interest, self.reactor.slots[self.fd].generation)
        return 0

    def __repr__(self):
        return f"<sock_* calls and callbacks of fd {self.fd}: reader={self.reader!r} writer={self.writer!r}>"


cdef SocketWatcher shared_watcher(Reactor reactor, int fd, object sock):
    """The watcher to go by for a call on `sock`, or None; RuntimeError if a transport has its fd."""
    cdef PyObject* at = reactor.slots[fd].watcher if 0 <= fd < reactor.slot_count else NULL
    cdef SocketWatcher watcher
    if at == NULL:
        return None
    if pl_type(at) != <PyTypeObject*>SocketWatcher:
        if not isinstance(<object>at, CallbackWatcher):
            refuse_used_fd(reactor, fd)
        return None
    watcher = <SocketWatcher>at
    if watcher.owner == <PyObject*>sock:
        return watcher
    if watcher.owner == NULL and watcher.is_alive():
        return watcher
    return None


cdef SocketWatcher claim_watcher(Reactor reactor, int fd, object sock):
    """The watcher that a call on `sock` is to wait with."""
    cdef Watcher current = reactor.watcher_at(fd)
    cdef SocketWatcher watcher = current if isinstance(current, SocketWatcher) else None
    cdef SocketWatcher fresh
    if watcher is not None:
        if watcher.owner == <PyObject*>sock:
            return watcher
        if watcher.is_alive():
            # Two objects for one fd, both in use: nothing may be remembered.
            watcher.disown()
            watcher.settle_callbacks()
            return watcher
    fresh = SocketWatcher.__new__(SocketWatcher)
    fresh.reactor = reactor
    fresh.fd = fd
    if current is not None:
        fresh.reader = (<CallbackWatcher>current).reader
        fresh.writer = (<CallbackWatcher>current).writer
        reactor.unwatch(current)
        current.fd = -1
        current.evicted()
    if isinstance(sock, SocketType):
        fresh.own(sock)
    fresh.settle_callbacks()
    return fresh
