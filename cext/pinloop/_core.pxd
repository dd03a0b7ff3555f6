# The data model: every cdef class, the owner and purpose of every field.
#
# Lifetimes.  A reactor owns the ready ring, the timer heap, the inbox and a table
# of watchers by fd.  Each holds strong references, released when the entry leaves.
# Five calls go up the floors, and no others: Runnable.run, Watcher.on_ready,
# Watcher.gives_way, Watcher.evicted and Reactor.report.
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from pinloop.c_epoll cimport epoll_event
from pinloop.c_libssl cimport pl_bio, pl_ssl, pl_wire
from pinloop.c_posix cimport iovec, pl_mmsghdr, sockaddr, sockaddr_storage, socklen_t
from pinloop.heap cimport Heap
from pinloop.inbox cimport Inbox, InboxNode
from pinloop.ring cimport Ring

# ------------------------------------------------------------------ the poll --

cdef enum:
    EV_READ = 1          # readable, or the peer closed, or an error waits to be read
    EV_WRITE = 2
    EV_EDGE = 4          # asked for, never reported: tell each change once
    EV_OTHER = 8         # beside data there is the end, an error or urgent bytes

cdef struct Event:
    int fd
    uint32_t generation  # of the registration that asked; stale if the slot moved on
    uint32_t mask


cdef class Poller:
    """What the reactor needs of a kernel: readiness and a clock.  Never calls anyone."""
    cdef readonly str name
    cdef bint tells_other        # whether it reports EV_OTHER

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1
    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1
    cdef int remove(self, int fd, uint32_t mask) except -1
    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept
    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1
    cdef int64_t now(self) noexcept
    cdef int reset(self) except -1
    cdef void shut(self) noexcept


cdef class EpollPoller(Poller):
    cdef int epfd
    cdef bint has_pwait2         # cleared at the first ENOSYS (Linux < 5.11)

    cdef int control(self, int operation, int fd, uint32_t mask, uint32_t generation) noexcept
    cdef int wait_ns(self, epoll_event* events, int capacity, int64_t timeout_ns) noexcept nogil


cdef class KqueuePoller(Poller):
    cdef int kq

    cdef int control(self, int fd, int filter, int flags, uint32_t generation) noexcept


cdef class ScriptedPoller(Poller):
    cdef object script           # iterator of event batches, or of callables that give one
    cdef int64_t clock           # virtual ns; a wait advances it
    cdef readonly dict registered    # fd -> (mask, generation)
    cdef readonly list calls     # what the reactor asked for, in order


# --------------------------------------------------------------- the reactor --

cdef class Runnable:
    """What the ready ring and the flush list hold."""
    cdef int run(self, Reactor reactor) except -1


cdef class Watcher(Runnable):
    """An fd under a reactor.  Its registration ends before the fd is closed."""
    cdef Reactor reactor
    cdef int fd                  # -1 once released
    cdef uint32_t interest       # the mask the poller holds for it; 0: not registered

    cdef int on_ready(self, uint32_t mask) except -1
    cdef bint gives_way(self) noexcept
    cdef int evicted(self) except -1


cdef class WakeWatcher(Watcher):
    """The inbox's fd: its readiness is the wake, there is nothing to read from it but that."""


cdef struct Slot:
    PyObject* watcher            # owned, or NULL
    uint32_t generation          # moves on with each registration of this fd number
    uint32_t changed             # reactor.polls when it last did: tells stale from orphaned


cdef struct Spares:
    PyObject** items             # owned
    int count


cdef class Reactor:
    cdef Ring ready              # Runnables, run in the next batch
    cdef Ring flushing           # transports with writes gathered this turn
    cdef Heap timers
    cdef Inbox inbox             # handles from other threads
    cdef Poller poller
    cdef Watcher wake_watcher    # on inbox.rfd
    cdef Slot* slots             # by fd number
    cdef int slot_count
    cdef Event* events           # the batch being dispatched
    cdef int event_count
    cdef uint32_t polls          # how many waits have returned

    cdef Spares handles          # Handles and TimerHandles that ran and that nobody
    cdef Spares timer_handles    # else holds, to be used again

    cdef bint stopping           # leave after this turn
    cdef bint closed
    cdef bint debug
    cdef Handle running_handle   # in debug mode, for reports of what it calls; else None
    cdef public double slow_callback_duration   # seconds; debug mode reports what took longer
    cdef int fork_depth          # of the process that made it
    cdef long owner_pid          # named in the error that a forked child gets
    cdef unsigned long thread_id  # ident of the thread that runs it; 0: none does

    cdef int64_t last_poll       # ns; 0: not yet asked since the poll
    cdef int turns               # made since the last poll
    cdef int turns_to_clock      # turns that may pass before the clock is read again
    cdef bint sent               # something was sent or closed since the last poll

    cdef int setup(self, Poller poller) except -1
    cdef void teardown(self) noexcept
    @cython.final
    cdef void empty_inbox(self) noexcept
    cdef int report(self, dict context) except -1
    cdef int forked(self) except -1

    @cython.final
    cdef int watch(self, Watcher watcher, uint32_t mask) except -1
    @cython.final
    cdef int unwatch(self, Watcher watcher) except -1
    @cython.final
    cdef Watcher watcher_at(self, int fd)
    @cython.final
    cdef bint lost_its_fd(self, Watcher watcher) noexcept
    @cython.final
    cdef int register(self, Watcher watcher, uint32_t mask, Slot* slot) except -1
    @cython.final
    cdef int settle(self, Watcher watcher, uint32_t mask) except -1
    @cython.final
    cdef int widen_slots(self, int fd) except -1
    @cython.final
    cdef int flush_later(self, Runnable writer) except -1
    @cython.final
    cdef int add_timer(self, TimerHandle handle, int64_t when) except -1
    @cython.final
    cdef int timer_cancelled(self) except -1
    @cython.final
    cdef int compact_timers(self) except -1
    @cython.final
    cdef int push_from_thread(self, Handle handle) except -1

    @cython.final
    cdef int orphaned(self, int fd) except -1
    @cython.final
    cdef int recycle(self, PyObject* entry) except -1
    @cython.final
    cdef int keep_spare(self, Spares* spares, PyObject* entry) except -1

    @cython.final
    cdef int run_once(self) except -1
    @cython.final
    cdef int due_timers(self) except -1
    @cython.final
    cdef int ready_batch(self) except -1
    @cython.final
    cdef int flush(self) except -1
    @cython.final
    cdef int poll(self) except -1
    @cython.final
    cdef int dispatch(self) except -1
    @cython.final
    cdef bint may_skip_poll(self) noexcept
    @cython.final
    cdef int64_t poll_timeout(self) noexcept
    @cython.final
    cdef int drain_inbox(self) except -1
    @cython.final
    cdef int run_until_stopped(self) except -1


# ------------------------------------------------------------------- handles --

cdef class Handle(Runnable):
    cdef InboxNode node          # link in the inbox; the inbox owns a reference meanwhile
    cdef object callback         # None once cancelled
    cdef object argument         # the only argument, when argument_count == 1
    cdef tuple arguments         # all of them, when argument_count > 1
    cdef object context
    cdef Reactor reactor         # whose clock, debug flag and exception handler it uses
    cdef object trace            # debug: the stack that scheduled it
    cdef int argument_count
    cdef bint is_cancelled

    @cython.final
    cdef PyObject* call(self) noexcept
    @cython.final
    cdef int run_debug(self, Reactor reactor) except -1
    @cython.final
    cdef int failed(self, Reactor reactor) except -1
    @cython.final
    cdef void drop_callback(self) noexcept


@cython.final
cdef class TimerHandle(Handle):
    cdef double deadline         # as given to call_at, or computed by call_later; seconds
    cdef bint in_heap


# ---------------------------------------------------------------- transports --

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


cdef enum CallState:
    CALL_NEW                     # made, not awaited yet: nothing has happened
    CALL_RUNNING
    CALL_WAITING
    CALL_DONE


@cython.final
cdef class SocketCall:
    """What a sock_* method returns: one system call, repeated until it does not block."""
    cdef SocketOperation operation
    cdef CallState state
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
    cdef object future           # the task waits for it
    cdef SocketWatcher watcher   # in whose queue it is, or None
    cdef SocketCall next         # in that queue

    cdef int advance(self, PyObject** result) except -1
    cdef object proceed(self)
    cdef int begin(self) except -1
    cdef object attempt(self, int fd, SocketWatcher watcher)
    cdef int wait(self, int fd) except -1
    cdef int wake(self) except -1
    cdef int finish(self) except -1
    cdef int refuse_state(self) except -1


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
    cdef dict __dict__           # NULL until somebody sets an attribute of their own

    @cython.final
    cdef PyObject* tell(self, object method, PyObject* argument) noexcept
    @cython.final
    cdef PyObject* tell_protocol(self, str name, PyObject* argument) noexcept
    @cython.final
    cdef int remember(self, str name, object value) except -1
    @cython.final
    cdef int report_fault(self, str method, object exception) except -1
    @cython.final
    cdef int told_slow(self, int64_t start) except -1
    @cython.final
    cdef int set_limits(self, object high, object low, size_t usual) except -1


@cython.final
cdef class StreamTransport(Transport):
    cdef StreamState state
    cdef bint reading_paused
    cdef bint eof_received       # the peer's
    cdef bint eof_requested      # ours: shut the write side once the queue is empty
    cdef bint buffered           # the protocol is a BufferedProtocol
    cdef bint writing_paused     # the protocol was told pause_writing
    cdef bint in_flush           # on the reactor's flush list
    cdef bint blocked            # the kernel's buffer is full: wait for EV_WRITE
    cdef bint large_reads        # the last read was large: read straight into bytes
    cdef int lost_writes         # writes after the connection was lost
    cdef OutQueue out
    cdef TlsTransport tls        # whose ciphertext it carries, if its protocol is a TlsRecords
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
    cdef int release_fd(self) except -1
    cdef object get_socket(self)

    cdef int protocol_failed(self, str method, object exception=*) except -1
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


# ----------------------------------------------------------------------- TLS --

cdef class TlsEngine:
    """What TlsTransport needs of TLS: ciphertext in, plaintext out, and back."""
    cdef object ssl_object       # ssl.SSLObject

    cdef int handshake(self) except -1
    cdef int shut(self) except -1
    cdef int feed(self, const char* data, size_t size) except -1
    cdef size_t unread(self) except? 0
    cdef int settle(self) except -1
    cdef ssize_t decrypt(self, char* target, size_t room) except -2
    cdef ssize_t encrypt(self, const char* data, size_t size) except -2
    cdef int lend(self, char* room, size_t size) except -1
    cdef PyObject* output(self, char** data, size_t* size) except? NULL
    cdef int output_taken(self) except -1
    cdef int let_go(self) except -1


# Its __dealloc__ needs ssl_object, which the collector must not have taken by then.
@cython.final
@cython.no_gc_clear
cdef class OpensslEngine(TlsEngine):
    cdef pl_ssl* ssl             # of ssl_object
    cdef pl_bio* bio             # of ssl: moves bytes from and to wire
    cdef pl_wire wire
    cdef char* rest              # ciphertext kept beyond the receive that brought it; owned

    cdef object failure(self, int error)


@cython.final
cdef class MemoryEngine(TlsEngine):
    cdef object incoming         # ssl.MemoryBIO
    cdef object outgoing
    cdef bytes sending           # what output() gave out


cdef enum TlsState:
    TLS_HANDSHAKE
    TLS_OPEN
    TLS_CLOSING                  # close(): what was written is still encrypted
    TLS_SHUTDOWN                 # close_notify is sent, the peer's is awaited
    TLS_LOST                     # the transport below is closing
    TLS_CLOSED                   # connection_lost was called


@cython.final
cdef class TlsRecords:
    """The protocol that the transport below a TlsTransport sees."""
    cdef TlsTransport tls


@cython.final
cdef class TlsTransport(Transport):
    cdef TlsState state
    cdef bint announces          # tell connection_made when the handshake is done
    cdef bint established        # it was done
    cdef bint was_made           # the protocol knows the connection: it gets connection_lost
    cdef bint buffered           # the protocol is a BufferedProtocol
    cdef bint reading_paused
    cdef bint writing_paused     # the protocol was told pause_writing
    cdef bint in_flush           # on the reactor's flush list
    cdef bint lower_is_full      # the transport below said pause_writing
    cdef bint lower_is_held      # we paused its reading
    cdef bint lower_has_ended    # ... and eof_received
    cdef bint peer_is_done       # its close_notify came, or the end of its bytes
    cdef bint waits_for_peer     # encrypting waits for a renegotiation
    cdef int lost_writes         # writes after close() or the loss of the connection
    cdef size_t discarded        # bytes received since close()
    cdef double handshake_timeout    # seconds
    cdef double shutdown_timeout
    cdef OutQueue out            # plaintext not yet encrypted
    cdef TlsEngine engine
    cdef object lower            # the transport below, once connected
    cdef object receive          # bound data_received, or get_buffer of a BufferedProtocol
    cdef object received         # bound buffer_updated of a BufferedProtocol
    cdef object context_of_tls   # ssl.SSLContext
    cdef object server           # told when the connection is gone
    cdef object waiter           # a future: the handshake is done
    cdef object timer            # the handshake's, later the shutdown's
    cdef object fault            # of decrypting, until what came before it is delivered
    cdef object __weakref__

    cdef int begin(self, object lower) except -1
    cdef int step_handshake(self) except -1
    cdef int limit_lower(self) except -1
    cdef int tell_made(self) except -1
    cdef int failed(self, object exception) except -1
    cdef int protocol_failed(self, str method, object exception=*) except -1
    cdef int tell_waiter(self, object exception) except -1
    cdef int abort_with(self, object exception) except -1
    cdef int close_lower_with(self, object exception) except -1
    cdef int start_closing(self) except -1
    cdef int shut_down(self) except -1
    cdef int close_lower(self) except -1
    cdef int peer_closed(self) except -1
    cdef int tell_eof(self) except -1
    cdef int lower_ended(self) except -1
    cdef int lower_lost(self, object exception) except -1
    cdef int tell_lost(self, object exception) except -1
    cdef int bind_protocol(self, object protocol) except -1
    cdef int receive_ciphertext(self, const char* data, size_t size) except -1
    cdef int hold_lower(self, bint held) except -1
    cdef int read_on_closing(self, size_t size) except -1
    cdef int after_reading(self) except -1
    cdef bint can_write(self) except -1


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


# ----------------------------------------------------------------- datagrams --

cdef enum:
    PEER_SLOTS = 512             # of each table of an AddressCache, a power of two
    RECEIVE_BATCH = 32           # datagrams taken in one system call


@cython.final
cdef class Peer:
    """An address that datagrams come from or go to, as the kernel and as Python know it.  Never changes."""
    cdef sockaddr_storage address
    cdef socklen_t size          # of address; 0: only Python's own socket can send to `name`
    cdef object name


@cython.final
cdef class AddressCache:
    """The addresses a loop met lately: which tuple a sockaddr becomes, and what sockaddr a tuple means.

    Each table has one place per hash value; what comes later takes it.
    """
    cdef PyObject* by_address[PEER_SLOTS]    # owned Peers, or NULL
    cdef PyObject* by_name[PEER_SLOTS]       # the same, by the identity of the tuple

    cdef Peer received(self, sockaddr* address, socklen_t size)
    cdef Peer named(self, int family, object name)
    cdef int enter(self, PyObject** place, Peer peer) except -1


@cython.final
cdef class ReceiveBuffers:
    """Where a batch of datagrams lands: room for the largest that there are."""
    cdef char* room
    cdef pl_mmsghdr messages[RECEIVE_BATCH]
    cdef iovec vectors[RECEIVE_BATCH]
    cdef Address sources[RECEIVE_BATCH]


cdef struct Parcel:
    PyObject* data               # bytes, owned
    PyObject* peer               # Peer, owned; NULL where the kernel knows the address


cdef struct ParcelQueue:
    Parcel* parcels
    int head
    int count
    int capacity
    size_t size                  # bytes in it, as flow control counts them


cdef struct Dispatch:             # what a system call made of the queue
    int sent                     # so many of the first left
    int error                    # what stopped the next one, or 0
    int joined                   # that were in the message with the next one, itself included


@cython.final
cdef class DatagramTransport(Transport):
    cdef StreamState state
    cdef int family
    cdef bint connected          # the kernel knows where all goes
    cdef bint reading_paused
    cdef bint writing_paused     # the protocol was told pause_writing
    cdef bint in_flush           # on the reactor's flush list
    cdef bint blocked            # the kernel's buffer, or the receiver's, is full
    cdef bint sending            # send_parcels is running
    cdef bint batching           # several came at once lately: take them in batches
    cdef int singles             # events since then that brought only one
    cdef int lost_writes         # sendto calls after it was closed
    cdef size_t segment_limit    # bytes: larger ones are not joined to runs of one size (0: none are)
    cdef int segment_faults      # how often the kernel refused such a run
    cdef ParcelQueue out
    cdef ReceiveBuffers buffers
    cdef AddressCache addresses
    cdef Peer last               # the last sender
    cdef Peer remote             # of remote_addr on a socket that is not connected
    cdef object remote_addr      # as given: the only address that sendto may name
    cdef object receive          # bound datagram_received
    cdef object sock             # owns fd
    cdef list undelivered        # received before a callback paused reading or left the loop: (data, address)
    cdef TimerHandle retry       # where the poller cannot tell when to send again
    cdef double retry_delay      # s, of the last one in vain; 0: there was none
    cdef object __weakref__

    cdef int set_state(self, StreamState state) except -1
    cdef int bind_protocol(self, object protocol) except -1
    cdef int want(self) except -1
    cdef int lose(self, object exception) except -1
    cdef int release_fd(self) except -1
    cdef int fault(self, str method) except -1
    cdef int report_fault_in(self, str what, object exception) except -1
    cdef int told_error(self, object exception) except -1


# ------------------------------------------------------- pipes and processes --

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
    cdef int release_fd(self) except -1
    @cython.final
    cdef int notify(self, str name, PyObject* argument) except -1
    @cython.final
    cdef int protocol_failed(self, str method) except -1


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
    cdef bint writing_paused     # the protocol was told pause_writing
    cdef int lost_writes         # writes after the pipe was closed or lost
    cdef OutQueue out

    cdef int send_queue(self) except -1
    cdef int write_failed(self, int error) except -1
    cdef int check_pressure(self) except -1
    cdef int relieve_pressure(self) except -1


@cython.final
cdef class ChildWatcher(Watcher):
    """A child's pidfd, which is readable once the child has exited."""
    cdef int pid
    cdef object callback         # told the exit status, once; None from then on
    cdef object context          # in which it is told

    cdef int release_fd(self) except -1


# ------------------------------------------------------------------ the loop --

cdef class SocketCalls(Reactor):
    """The sock_* methods of a loop."""


cdef class Loop(SocketCalls):
    cdef dict future_keywords    # {"loop": self} while it runs: what a future is made with
    cdef char* scratch           # where small reads land before they become bytes
    cdef ReceiveBuffers buffers  # these two: made for the first datagram transport
    cdef AddressCache addresses
    cdef char* tls_scratch       # see tls_io.pxi; made for the first TLS connection
    cdef bint portable_tls       # use ssl.MemoryBIO even where OpenSSL can be called directly
    cdef object task_factory     # set_task_factory's
    cdef object __weakref__

    cdef object make_task(self, object coro, dict kwargs)
    cdef int add_callback(self, object fd, object callback, tuple args, bint writing, str method) except -1
    @cython.final
    cdef Handle make_handle(self, object callback, PyObject** args, Py_ssize_t count, object context)
    @cython.final
    cdef TimerHandle make_timer(self, double deadline, object callback, PyObject** args, Py_ssize_t count,
                                object context)
    @cython.final
    cdef int fill(self, Handle handle, object callback, PyObject** args, Py_ssize_t count,
                  object context) except -1
    @cython.final
    cdef int check_call(self, object callback, str method, bint any_thread) except -1
    @cython.final
    cdef int soon(self, object callback, PyObject* argument, object context) except -1
