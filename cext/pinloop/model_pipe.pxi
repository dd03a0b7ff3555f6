# The data model, continued from _core.pxd: pipes and processes.

cdef class PipeTransport(Transport):
    """What the transports of both directions share."""
    cdef StreamState state
    cdef bint fd_is_duplicate    # the pipe's own number was taken by the other direction
    cdef object pipe             # the file object or socket that owns the fd; closed with it
    cdef object __weakref__

    cdef uint32_t wanted(self) noexcept
    @cython.final
    cdef int set_state(self, StreamState state) except -1
    @cython.final
    cdef int begin(self) except -1
    @cython.final
    cdef int want(self) except -1
    cdef int lose(self, object exception) except -1


@cython.final
cdef class ReadPipeTransport(PipeTransport):
    cdef bint reading_paused
    cdef bint large_reads        # the last read was large: read straight into bytes
    cdef object receive          # bound data_received

    cdef int bind_protocol(self, object protocol) except -1
    cdef int read_some(self) except -1
    cdef int deliver(self, object data) except -1
    cdef int read_failed(self, int error) except -1


@cython.final
cdef class WritePipeTransport(PipeTransport):
    cdef bint watches_reader     # told by readiness for reading that the reading end is gone
    cdef bint blocked            # the pipe is full: wait for EV_WRITE
    cdef OutQueue out

    cdef int send_queue(self) except -1
    cdef int write_failed(self, int error) except -1


@cython.final
cdef class ChildWatcher(Watcher):
    """A child's pidfd, which is readable once the child has exited."""
    cdef int pid
    cdef object callback         # told the exit status, once; None from then on
    cdef object context          # in which it is told

    cdef int release_fd(self) except -1
