# The data model, continued from _core.pxd: callbacks of an fd, and the sock_* calls.

cdef class CallbackWatcher(Watcher):
    """add_reader / add_writer: one fd, up to two callbacks."""
    cdef object fileobj          # what the fd was given as; once closed, it is known by nothing else
    cdef Handle reader
    cdef Handle writer

    cdef int settle_callbacks(self) except -1


@cython.final
cdef class SocketWatcher(CallbackWatcher):
    """The same fd for sock_* calls: who waits, and what is known of the socket between calls."""
    cdef PyObject* owner         # the socket object, not owned; NULL: nothing is kept between calls
    cdef object reference        # weak, to it: clears `owner`
    cdef SocketCall first_reader  # the calls that wait to read, a queue linked by `next`
    cdef SocketCall last_reader
    cdef SocketCall first_writer
    cdef SocketCall last_writer
    cdef uint32_t kept           # directions that stay registered, edge-triggered
    cdef uint32_t ready          # of those, where a system call may get somewhere
    cdef bint trusts_short       # a short read or write means EAGAIN is next
    cdef bint large_reads        # as for a StreamTransport

    cdef int own(self, object sock) except -1
    cdef int disown(self) except -1
    cdef bint is_alive(self) except -1
    cdef uint32_t awaited(self) noexcept
    cdef bint may_try(self, SocketCall call) noexcept
    cdef int join(self, SocketCall call) except -1
    cdef int leave(self, SocketCall call) except -1
    cdef int listen_anew(self) except -1


cdef enum SocketOperation:
    SOCK_RECV
    SOCK_RECV_INTO
    SOCK_RECVFROM
    SOCK_RECVFROM_INTO
    SOCK_ACCEPT
    SOCK_SENDALL                 # this and what follows wait for writing
    SOCK_SENDTO
    SOCK_CONNECTED
    SOCK_SENDFILE


@cython.final
cdef class SocketCall(Call):
    """What a sock_* method returns: one system call, repeated until it does not block."""
    cdef SocketOperation operation
    cdef uint32_t direction      # EV_READ or EV_WRITE
    cdef bint woken              # its future was completed
    cdef bint native             # a plain socket.socket, whose fd we may use ourselves
    cdef int file                # of SOCK_SENDFILE: the fd to read from
    cdef int64_t offset          # and where in it
    cdef Py_ssize_t size         # bytes asked for; of SOCK_SENDFILE: to send, -1 for all
    cdef Py_ssize_t sent         # bytes sent so far
    cdef Loop loop
    cdef object sock
    cdef object argument         # as given: size, buffer or data
    cdef object extra            # as given: size of SOCK_RECVFROM_INTO, address of SOCK_SENDTO
    cdef SocketWatcher watcher   # in whose queue it is, or None
    cdef SocketCall next         # in that queue

    cdef int check(self) except -1
    cdef object attempt(self, int fd, SocketWatcher watcher)
    cdef object go_on(self, bint untried)
    cdef int wait(self, int fd) except -1
    cdef int wake(self) except -1
