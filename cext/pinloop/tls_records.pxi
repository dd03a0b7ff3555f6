# How a TlsTransport is put on top of another transport: as that one's protocol.

@cython.final
cdef class TlsRecords:
    """The protocol that the transport below a TlsTransport sees."""

    @property
    def __class__(self):
        return asyncio.Protocol

    def connection_made(self, transport):
        self.tls.begin(transport)

    def data_received(self, bytes data not None):
        self.tls.receive_ciphertext(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def eof_received(self):
        self.tls.lower_ended()
        return True                 # closing is up to the TLS transport

    def connection_lost(self, exception):
        self.tls.lower_lost(exception)

    def pause_writing(self):
        self.tls.lower_is_full = True

    def resume_writing(self):
        self.tls.lower_is_full = False
        write_plain(self.tls)

    def __repr__(self):
        return f"<records of {self.tls!r}>"


cdef TlsRecords make_tls(Loop loop, object protocol, object config, object server_hostname,
                         bint server_side, object waiter, bint announces):
    """The protocol for a transport below, with a new TLS transport behind it."""
    cdef TlsTransport transport = TlsTransport.__new__(TlsTransport)
    cdef TlsRecords records = TlsRecords.__new__(TlsRecords)
    transport.engine = tls_engine(
        config.context, server_side, server_hostname if server_hostname and not server_side else None,
        loop.portable_tls)
    transport.bind_protocol(protocol)
    transport.context_of_tls = config.context
    transport.handshake_timeout = config.handshake_timeout
    transport.shutdown_timeout = config.shutdown_timeout
    transport.loop = loop
    transport.reactor = loop
    transport.context = PyContext_CopyCurrent()
    transport.waiter = waiter
    transport.announces = announces
    transport.was_made = not announces
    transport.state = TLS_HANDSHAKE
    records.tls = transport
    return records


def tls_transport(Loop loop, protocol, config, server_hostname, bint server_side, waiter, bint announces,
                  bytes early not None=b""):
    """A TLS transport and the protocol to be given to the transport below it.

    `config` has `context`, `handshake_timeout` and `shutdown_timeout` (seconds).  `waiter` is
    done, or fails, with the handshake; `announces` says whether `protocol.connection_made` is
    called then.  `early` is ciphertext received already.
    """
    cdef TlsRecords records = make_tls(
        loop, protocol, config, server_hostname, server_side, waiter, announces)
    if early:
        records.tls.engine.feed(PyBytes_AS_STRING(early), PyBytes_GET_SIZE(early))
        records.tls.engine.settle()
    return records.tls, records
