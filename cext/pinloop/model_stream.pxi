# The data model, continued from _core.pxd: what every transport is, streams, files through them, listeners.

cdef enum StreamState:
    STREAM_NEW                   # made, connection_made not yet called
    STREAM_OPEN
    STREAM_CLOSING               # close(): no reading, the written bytes still leave
    STREAM_LOST                  # connection_lost is scheduled
    STREAM_CLOSED                # connection_lost was called and the fd given back


cdef struct Chunk:
    PyObject* owner              # bytes, owned
    char* data                   # what of it is still to be sent
    size_t size


cdef struct OutQueue:
    Chunk* chunks                # first[] or on the heap
    Chunk first[2]
    int head
    int count
    int capacity
    size_t size                  # bytes in it


cdef union Address:              # what accept, getsockname and getpeername fill
    sockaddr any
    char room[28]                # a sockaddr_in6


cdef class Transport(Watcher):
    """What every transport is: a watcher that calls a protocol, in a context of its own."""
    cdef bint in_context         # a callback of the protocol is running
    cdef Loop loop
    cdef object protocol
    cdef object context          # every callback of the protocol runs in it
    cdef dict extra              # of get_extra_info: what was made or set when it was first asked for
    cdef size_t high             # of set_write_buffer_limits, bytes; unused where nothing is written
    cdef size_t low
    cdef bint writing_paused     # the protocol was told pause_writing
    cdef int lost_writes         # writes after it was closed or lost
    cdef PyObject* attributes    # the dict of those that users set, made at the first; see typesetup.pxi

    cdef int release_fd(self) except -1
    cdef int protocol_failed(self, str method, object exception=*) except -1
    @cython.final
    cdef PyObject* tell(self, object method, PyObject* argument) noexcept
    @cython.final
    cdef PyObject* tell_protocol(self, str name, PyObject* argument) noexcept
    @cython.final
    cdef int hand_over(self, object method, str name, PyObject* argument) except -1
    @cython.final
    cdef int notify(self, str name, PyObject* argument) except -1
    @cython.final
    cdef int remember(self, str name, object value) except -1
    @cython.final
    cdef int report_fault(self, str method, object exception) except -1
    @cython.final
    cdef int told_slow(self, int64_t start) except -1
    @cython.final
    cdef int written_too_late(self, str text) except -1
    @cython.final
    cdef int set_limits(self, object high, object low, size_t usual) except -1
    @cython.final
    cdef int check_pressure(self, size_t waiting) except -1
    @cython.final
    cdef int relieve_pressure(self, size_t waiting) except -1


@cython.final
cdef class StreamTransport(Transport):
    cdef StreamState state
    cdef bint reading_paused
    cdef bint eof_received       # the peer's
    cdef bint eof_requested      # ours: shut the write side once the queue is empty
    cdef bint buffered           # the protocol is a BufferedProtocol
    cdef bint in_flush           # on the reactor's flush list
    cdef bint blocked            # the kernel's buffer is full: wait for EV_WRITE
    cdef bint large_reads        # the last read was large: read straight into bytes
    cdef bint counted            # among the loop's connections
    cdef OutQueue out
    cdef TlsTransport tls        # whose ciphertext it carries, if its protocol is a TlsRecords
    cdef StreamProtocol streams  # its protocol, if that is a stream's: what arrives goes there directly
    cdef FileSend file_send      # the file being sent, or None: nothing is queued after it
    cdef object receive          # bound data_received, or get_buffer of a BufferedProtocol
    cdef object received         # bound buffer_updated of a BufferedProtocol
    cdef object server           # told when the connection is gone
    cdef object sock             # the socket that owns fd, once there is one; else fd is ours
    cdef Address local
    cdef Address remote
    cdef object __weakref__

    cdef int set_state(self, StreamState state) except -1
    cdef int bind_protocol(self, object protocol) except -1
    cdef int begin(self) except -1
    cdef int want(self) except -1
    cdef object get_socket(self)

    cdef int io_failed(self, int error, str doing) except -1
    cdef int lose(self, object exception) except -1


@cython.final
cdef class FileSend:
    """A file on its way through a stream transport."""
    cdef StreamTransport transport   # None once it is over
    cdef int file
    cdef int64_t offset
    cdef int64_t size            # -1: up to its end
    cdef int64_t sent
    cdef object future           # of `sent`

    cdef int proceed(self) except -1
    cdef int complete(self) except -1
    cdef int fail(self, object exception) except -1
    cdef int let_go(self) except -1


cdef class Listener(Watcher):
    """A listening socket: accepts in batches and makes a transport of each connection."""
    cdef Loop loop
    cdef object sock             # owns fd
    cdef object factory          # protocol_factory
    cdef object tls              # of a TLS server: see tls_transport's config; else None
    cdef object server
    cdef object context
    cdef bint exhausted          # out of descriptors: told once, until an accept succeeds
    cdef TimerHandle retry       # resumes accepting after a back-off

    cdef int accepted(self, int fd, sockaddr_storage* address, socklen_t size) except -1
    cdef int accept_failed(self, int error) except -1
    cdef int back_off(self, int error) except -1
