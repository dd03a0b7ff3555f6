# The data model, continued from _core.pxd: datagrams.

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
    cdef bint in_flush           # on the reactor's flush list
    cdef bint blocked            # the kernel's buffer, or the receiver's, is full
    cdef bint sending            # send_parcels is running
    cdef bint batching           # several came at once lately: take them in batches
    cdef int singles             # events since then that brought only one
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
    cdef int report_fault_in(self, str what, object exception) except -1
    cdef int told_error(self, object exception) except -1
