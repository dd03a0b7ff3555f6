# add_reader / add_writer.

cdef class CallbackWatcher(Watcher):

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef Handle reader = self.reader, writer = self.writer
        if mask & EV_READ and reader is not None:
            reader.run(self.reactor)
        # The reader's callback may have taken the writer away.
        if mask & EV_WRITE and writer is not None and writer is self.writer:
            writer.run(self.reactor)
        return 0

    cdef int settle_callbacks(self) except -1:
        """Match the registration to the callbacks that are left."""
        cdef uint32_t mask = (EV_READ if self.reader is not None else 0) | (
            EV_WRITE if self.writer is not None else 0)
        if mask:
            self.reactor.watch(self, mask)
        else:
            self.reactor.unwatch(self)
        return 0

    def __repr__(self):
        return f"<callbacks of fd {self.fd}: reader={self.reader!r} writer={self.writer!r}>"


cdef int as_fd(object fileobj) except -1:
    """The fd of an int or of an object with fileno()."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


cdef int registered_fd(Reactor reactor, object fileobj) except -1:
    """As `as_fd`; also for an object that was closed with its callbacks still registered."""
    cdef int fd
    try:
        return as_fd(fileobj)
    except ValueError:
        for fd in range(reactor.slot_count):
            current = reactor.watcher_at(fd)
            if isinstance(current, CallbackWatcher) and (<CallbackWatcher>current).fileobj is fileobj:
                return fd
        raise


cdef CallbackWatcher callback_watcher(Reactor reactor, int fd):
    """The watcher of `fd` for callbacks, a new one if there is none; RuntimeError if a transport has it."""
    cdef Watcher current = reactor.watcher_at(fd)
    cdef CallbackWatcher fresh
    if isinstance(current, CallbackWatcher):
        return <CallbackWatcher>current
    if current is not None and not reactor.lost_its_fd(current):
        raise RuntimeError(f"File descriptor {fd} is used by transport {current!r}")
    fresh = CallbackWatcher.__new__(CallbackWatcher)
    fresh.reactor = reactor
    fresh.fd = fd
    return fresh


cdef int set_callback(Reactor reactor, object fileobj, Handle handle, bint writing) except -1:
    """Make `handle` the callback of an fd for reading or for writing, cancelling the one before."""
    cdef CallbackWatcher watcher = callback_watcher(reactor, as_fd(fileobj))
    cdef Handle previous = watcher.writer if writing else watcher.reader
    if watcher.fileobj is None:
        watcher.fileobj = fileobj
    if writing:
        watcher.writer = handle
    else:
        watcher.reader = handle
    try:
        watcher.settle_callbacks()
    except BaseException:
        if writing:
            watcher.writer = previous
        else:
            watcher.reader = previous
        raise
    if previous is not None:
        previous.cancel()
    return 0


cdef bint drop_callback_of(Reactor reactor, object fileobj, bint writing) except -1:
    """Take the callback of an fd away; false if there was none."""
    cdef Watcher current
    cdef CallbackWatcher watcher
    cdef Handle previous
    cdef int fd = registered_fd(reactor, fileobj)
    current = reactor.watcher_at(fd)
    if current is None:
        return False
    watcher = callback_watcher(reactor, fd)
    previous = watcher.writer if writing else watcher.reader
    if previous is None:
        return False
    if writing:
        watcher.writer = None
    else:
        watcher.reader = None
    previous.cancel()
    watcher.settle_callbacks()
    return True
