# TLS engines: ciphertext in, plaintext out, and back.  No sockets, no protocols.
#
# Each works on an ssl.SSLObject, whose own methods do what is rare: handshake, shutdown,
# certificates.  What happens per record differs.  OpensslEngine calls OpenSSL on the
# object's SSL*, straight from and into our buffers.  MemoryEngine goes through
# ssl.MemoryBIO and is for interpreters whose OpenSSL cannot be reached.

cdef enum:
    TLS_RECORD = 16 * 1024   # plaintext of the largest record (RFC 8446, 5.1)
    TLS_WANTS_MORE = -1      # of decrypt: no whole record is left; of encrypt: the peer must speak first


cdef class TlsEngine:
    """What TlsTransport needs of TLS."""

    cdef int handshake(self) except -1:
        """Go on with the handshake: 1 once it is done, 0 when it needs more from the peer."""
        try:
            self.ssl_object.do_handshake()
        except (py_ssl.SSLWantReadError, py_ssl.SSLSyscallError):
            return 0
        return 1

    cdef int shut(self) except -1:
        """Send close_notify: 1 if the peer's was received too, 0 if it is still to come."""
        try:
            self.ssl_object.unwrap()
        except (py_ssl.SSLWantReadError, py_ssl.SSLSyscallError):
            return 0
        return 1

    cdef int feed(self, const char* data, size_t size) except -1:
        """Take ciphertext in; it is read by what is called next."""
        raise NotImplementedError

    cdef size_t unread(self) except? 0:
        """An upper bound of the plaintext that decrypt may still give without being fed."""
        raise NotImplementedError

    cdef int settle(self) except -1:
        """The buffer given to `feed` is about to be used for something else."""
        return 0

    cdef ssize_t decrypt(self, char* target, size_t room) except -2:
        """Bytes of plaintext; 0 at the peer's close_notify; TLS_WANTS_MORE."""
        raise NotImplementedError

    cdef ssize_t encrypt(self, const char* data, size_t size) except -2:
        """Bytes taken, or TLS_WANTS_MORE while the peer renegotiates."""
        raise NotImplementedError

    cdef int lend(self, char* room, size_t size) except -1:
        """A buffer to write output into, until it is taken."""
        return 0

    cdef PyObject* output(self, char** data, size_t* size) except? NULL:
        """What there is to send.  The owner of `data` is returned, or NULL if it is the engine's."""
        raise NotImplementedError

    cdef int output_taken(self) except -1:
        """What `output` gave was sent or copied."""
        return 0

    cdef int let_go(self) except -1:
        """The connection is over: buffers go back."""
        return 0


@cython.final
cdef class OpensslEngine(TlsEngine):

    def __dealloc__(self):
        if self.bio != NULL:
            # The SSL object may live on: it finds nothing at the end of its BIO.
            pl_openssl.BIO_set_data(self.bio, NULL)
        pl_wire_drop_output(&self.wire)
        PyMem_RawFree(self.rest)

    cdef int feed(self, const char* data, size_t size) except -1:
        cdef char* joined
        if self.wire.in_size == 0:
            self.wire.in_, self.wire.in_size = data, size
            return 0
        # What was left of earlier records is in `rest`: this goes behind it.
        joined = <char*>PyMem_RawMalloc(self.wire.in_size + size)
        if joined == NULL:
            raise MemoryError()
        memcpy(joined, self.wire.in_, self.wire.in_size)
        memcpy(joined + self.wire.in_size, data, size)
        PyMem_RawFree(self.rest)
        self.rest = joined
        self.wire.in_ = joined
        self.wire.in_size += size
        return 0

    cdef size_t unread(self) except? 0:
        if self.wire.in_size == 0 and not pl_openssl.SSL_pending(self.ssl):
            return 0
        return self.wire.in_size + TLS_RECORD

    cdef int settle(self) except -1:
        cdef char* kept
        if self.wire.in_size == 0:
            if self.rest != NULL:
                PyMem_RawFree(self.rest)
                self.rest = NULL
        elif self.rest == NULL:
            kept = <char*>PyMem_RawMalloc(self.wire.in_size)
            if kept == NULL:
                raise MemoryError()
            memcpy(kept, self.wire.in_, self.wire.in_size)
            self.rest = kept
            self.wire.in_ = kept
        return 0

    cdef ssize_t decrypt(self, char* target, size_t room) except -2:
        cdef size_t done = 0
        cdef int error
        pl_openssl.ERR_clear_error()
        if pl_openssl.SSL_read_ex(self.ssl, target, room, &done) > 0:
            return done
        error = pl_openssl.SSL_get_error(self.ssl, 0)
        if error == PL_SSL_ERROR_WANT_READ:
            return TLS_WANTS_MORE
        if error == PL_SSL_ERROR_ZERO_RETURN:
            return 0
        raise self.failure(error)

    cdef ssize_t encrypt(self, const char* data, size_t size) except -2:
        cdef size_t done = 0
        cdef int error
        pl_openssl.ERR_clear_error()
        if pl_openssl.SSL_write_ex(self.ssl, data, size, &done) > 0:
            return done
        error = pl_openssl.SSL_get_error(self.ssl, 0)
        if error == PL_SSL_ERROR_WANT_READ:
            return TLS_WANTS_MORE
        raise self.failure(error)

    cdef object failure(self, int error):
        """What OpenSSL's error queue says, as the ssl module would raise it."""
        cdef unsigned long code = pl_openssl.ERR_peek_last_error()
        cdef const char* text
        pl_openssl.ERR_clear_error()
        if self.wire.out_of_memory:
            return MemoryError()
        if error != PL_SSL_ERROR_SSL or code == 0:
            return py_ssl.SSLEOFError(py_ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")
        text = pl_openssl.ERR_reason_error_string(code)
        reason = text.decode() if text != NULL else "unknown error"
        text = pl_openssl.ERR_lib_error_string(code)
        library = "SSL" if text == NULL or b"SSL" in text else text.decode()
        name = reason.upper().replace(" ", "_")
        exception = py_ssl.SSLError(PL_SSL_ERROR_SSL, f"[{library}: {name}] {reason}")
        exception.library, exception.reason = library, name
        return exception

    cdef int lend(self, char* room, size_t size) except -1:
        if self.wire.out == NULL:
            self.wire.out = room
            self.wire.out_room = size
            self.wire.out_size = 0
            self.wire.out_is_lent = True
        return 0

    cdef PyObject* output(self, char** data, size_t* size) except? NULL:
        data[0] = self.wire.out
        size[0] = self.wire.out_size
        return NULL

    cdef int output_taken(self) except -1:
        pl_wire_drop_output(&self.wire)
        return 0

    cdef int let_go(self) except -1:
        pl_wire_drop_output(&self.wire)
        self.wire.in_ = NULL
        self.wire.in_size = 0
        PyMem_RawFree(self.rest)
        self.rest = NULL
        return 0


@cython.final
cdef class MemoryEngine(TlsEngine):

    cdef int feed(self, const char* data, size_t size) except -1:
        self.incoming.write(PyBytes_FromStringAndSize(data, size))
        return 0

    cdef size_t unread(self) except? 0:
        cdef size_t waiting = self.incoming.pending
        if waiting == 0 and not self.ssl_object.pending():
            return 0
        return waiting + TLS_RECORD

    cdef ssize_t decrypt(self, char* target, size_t room) except -2:
        cdef Py_ssize_t asked = min(room, <size_t>(4 * TLS_RECORD))
        cdef object count
        try:
            count = self.ssl_object.read(asked, PyMemoryView_FromMemory(target, asked, PyBUF_WRITE))
        except (py_ssl.SSLWantReadError, py_ssl.SSLSyscallError):
            return TLS_WANTS_MORE
        except py_ssl.SSLZeroReturnError:
            return 0              # its close_notify after ours
        return count

    cdef ssize_t encrypt(self, const char* data, size_t size) except -2:
        try:
            return self.ssl_object.write(PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ))
        except (py_ssl.SSLWantReadError, py_ssl.SSLSyscallError):
            return TLS_WANTS_MORE

    cdef PyObject* output(self, char** data, size_t* size) except? NULL:
        self.sending = self.outgoing.read() if self.outgoing.pending else b""
        data[0] = PyBytes_AS_STRING(self.sending)
        size[0] = PyBytes_GET_SIZE(self.sending)
        return <PyObject*>self.sending

    cdef int output_taken(self) except -1:
        self.sending = b""
        return 0


cdef TlsEngine tls_engine(object context, bint server_side, object server_hostname, bint portable):
    """An engine for one connection, the fast one where it works.  Raises what wrap_bio raises."""
    cdef MemoryEngine memory
    cdef OpensslEngine direct
    cdef pl_ssl* ssl
    incoming, outgoing = py_ssl.MemoryBIO(), py_ssl.MemoryBIO()
    ssl_object = context.wrap_bio(
        incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    if not portable and openssl_is_there():
        ssl_socket = ssl_object._sslobj
        of_context = ssl_socket.context
        ssl = pl_ssl_of(<PyObject*>ssl_socket, <PyObject*>of_context)
        if ssl != NULL:
            direct = OpensslEngine.__new__(OpensslEngine)
            direct.ssl_object = ssl_object
            direct.ssl = ssl
            direct.bio = pl_wire_attach(&direct.wire, ssl)
            if direct.bio == NULL:
                raise MemoryError()
            return direct
    memory = MemoryEngine.__new__(MemoryEngine)
    memory.ssl_object = ssl_object
    memory.incoming, memory.outgoing, memory.sending = incoming, outgoing, b""
    return memory


cdef bint openssl_is_there() except -1:
    file = getattr(sys.modules.get("_ssl"), "__file__", None)
    return file is not None and pl_libssl_load(os.fsencode(file))


def tls_engine_name():
    """The engine of new connections: "openssl", or "memory" where OpenSSL cannot be called directly."""
    if py_ssl is None:
        raise RuntimeError("this Python has no ssl module")
    context = py_ssl.SSLContext(py_ssl.PROTOCOL_TLS_CLIENT)
    engine = tls_engine(context, False, "localhost", False)
    return "openssl" if isinstance(engine, OpensslEngine) else "memory"
