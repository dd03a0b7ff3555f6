# The data model, continued from _core.pxd: TLS.

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
    cdef bint in_flush           # on the reactor's flush list
    cdef bint lower_is_full      # the transport below said pause_writing
    cdef bint lower_is_held      # we paused its reading
    cdef bint lower_has_ended    # ... and eof_received
    cdef bint peer_is_done       # its close_notify came, or the end of its bytes
    cdef bint waits_for_peer     # encrypting waits for a renegotiation
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
    cdef int failed(self, object exception) except -1
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
