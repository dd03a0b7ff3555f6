# Child processes: their exit, by pidfd.
#
# A pidfd stands for one process and never for another that got its number later: what
# is waited for and what is signalled is that child or nobody.

@cython.final
cdef class ChildWatcher(Watcher):
    """A child process that the loop watches.  Made by `watch_child`."""

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    def __repr__(self):
        return f"<pinloop.ChildWatcher pid={self.pid} fd={self.fd}>"

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef int code = 0
        cdef int reaped = pl_reap(self.fd, self.pid, &code)
        if reaped == 0:
            return 0
        self.release_fd()
        callback, self.callback = self.callback, None
        context, self.context = self.context, None
        context.run(callback, code if reaped > 0 else None)
        return 0

    cdef int release_fd(self) except -1:
        cdef int fd = self.fd
        if fd >= 0:
            self.reactor.unwatch(self)
            self.fd = -1
            close(fd)
        return 0

    def send_signal(self, int sig):
        """Send signal number `sig` to the child.

        Raises ProcessLookupError if it was waited for already, PermissionError if it
        runs as somebody else now, OSError (EINVAL) for what is no signal.
        """
        cdef int error
        if self.fd < 0:
            raise ProcessLookupError(ESRCH, f"{os.strerror(ESRCH)}: {self.pid}")
        if pl_signal_child(self.fd, sig) == 0:
            return
        error = errno
        if error == ENOSYS:
            os.kill(self.pid, sig)
        else:
            raise_os_error(error, f"signal {sig} to process {self.pid}")

    def close(self):
        """Watch no more.  The child is not waited for."""
        self.release_fd()
        self.callback = self.context = None

    def is_running(self):
        """Whether the child has not exited yet.  Its status stays to be taken."""
        return self.fd >= 0 and pl_is_running(self.fd, self.pid)


def watch_child(Loop loop, int pid, int pidfd, callback, context):
    """Wait for the child `pid`, whose pidfd becomes the watcher's.

    Once it has exited `callback(status)` is called in `context`: its exit status, -N if
    signal N ended it, or None if somebody else has waited for it.
    """
    cdef ChildWatcher watcher = ChildWatcher.__new__(ChildWatcher)
    watcher.reactor = loop
    watcher.pid = pid
    watcher.fd = pidfd
    watcher.callback = callback
    watcher.context = context
    try:
        loop.watch(watcher, EV_READ)
    except BaseException:
        watcher.fd = -1       # still the caller's
        raise
    return watcher


def end_with_parent(int fd, int parent, double grace):
    """Wait until the parent ends, then `grace` seconds more, and end the process with code 1: for a thread.

    `fd` is a socket whose other end the parent has, and `parent` its pidfd, or -1.  The GIL, which other code
    may never release, is not needed; and where the process is stopped as its parent ends, it goes on (on
    Linux).
    """
    cdef double seconds = min(max(grace, 0.0), 1e9)
    with nogil:
        pl_go_on_without_parent()
        pl_end_after_hangup(fd, parent, seconds)
