# Listening sockets.
#
# Connections are accepted in batches, and TCP_NODELAY is not set on each: the kernel
# hands it down from the listening socket.  Out of descriptors, the listener steps
# aside for a second (level-triggered, it would spin) and is told of once.

cdef enum:
    ACCEPT_BATCH = 64
cdef double ACCEPT_RETRY_DELAY = 1.0


@cython.final
cdef class Listener(Watcher):
    """Accepts connections on `sock` and makes a transport, with a protocol of `factory`, for each."""

    def __init__(self, Loop loop not None, sock, factory, server, tls=None):
        self.loop = loop
        self.reactor = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.factory = factory
        self.tls = tls
        self.server = server
        self.context = PyContext_CopyCurrent()

    def __repr__(self):
        return f"<pinloop.Listener fd={self.fd} {'accepting' if self.interest else 'idle'}>"

    def start(self):
        """Accept from now on."""
        if self.reactor is None:
            raise RuntimeError("Listener.__init__ was not called")
        self.reactor.watch(self, EV_READ)

    def stop(self):
        """Accept no more.  The socket stays open; it is its owner's to close."""
        if self.reactor is None:
            raise RuntimeError("Listener.__init__ was not called")
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        self.reactor.unwatch(self)

    cdef int on_ready(self, uint32_t mask) except -1:
        cdef sockaddr_storage address
        cdef socklen_t size
        cdef int fd, i
        for i in range(ACCEPT_BATCH):
            if self.interest == 0:
                break             # a protocol of this batch closed the server
            size = sizeof(address)
            memset(&address, 0, sizeof(Address))
            fd = pl_accept(self.fd, &address, &size)
            if fd >= 0:
                self.accepted(fd, &address, size)
            elif would_block(errno):
                break
            elif self.accept_failed(errno):
                break
        return 0

    cdef int accept_failed(self, int error) except -1:
        """1 when accepting must stop for now, 0 to go on with the next connection."""
        # These belong to a connection that is gone already, not to the listener.
        if error == ECONNABORTED or error == EPROTO or error == EPERM:
            return 0
        if out_of_resources(error):
            self.back_off(error)
            return 1
        self.reactor.report({
            "message": "Error accepting a connection", "exception": os_error(error, "accept"),
            "socket": TransportSocket(self.sock),
        })
        self.stop()
        return 1

    cdef int back_off(self, int error) except -1:
        self.reactor.watch(self, 0)
        self.retry = self.loop.later(ACCEPT_RETRY_DELAY, self.start, self.context)
        if self.exhausted:
            return 0
        self.exhausted = True
        return self.reactor.report({
            "message": f"socket.accept() out of system resource; trying again every {ACCEPT_RETRY_DELAY:g} s",
            "exception": os_error(error, "accept"), "socket": TransportSocket(self.sock),
        })

    cdef int accepted(self, int fd, sockaddr_storage* address, socklen_t size) except -1:
        cdef StreamTransport transport
        cdef TlsRecords records = None
        cdef object context = PyContext_Copy(self.context)
        self.exhausted = False
        try:
            protocol = context.run(self.factory)
            if self.tls is not None:
                protocol = records = make_tls(self.loop, protocol, self.tls, None, True, None, True)
            transport = make_stream(self.loop, fd, protocol, context)
        except BaseException as failure:
            close(fd)
            if is_exit(failure):
                raise
            return self.reactor.report({
                "message": "Error on transport creation for incoming connection",
                "exception": failure,
            })
        memcpy(&transport.remote, address, min(size, <socklen_t>sizeof(Address)))
        read_addresses(fd, &transport.local, &transport.remote)
        if address.ss_family == AF_UNIX:
            remember_unix_names(transport, unix_name(<sockaddr*>address, size))
        if self.server is None:
            pass
        elif records is not None:
            records.tls.server = self.server
            self.server._attach(records.tls)
        else:
            transport.server = self.server
            self.server._attach(transport)
        self.reactor.watch(transport, 0)
        return transport.begin()
