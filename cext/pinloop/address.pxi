# sockaddr <-> what Python's sockets give and take, made only when asked for.

cdef enum:
    INET_SIZE = 16             # of a sockaddr_in
    INET6_SIZE = 28            # of a sockaddr_in6


cdef object address_tuple(Address* address):
    """An IP address as Python knows it; None for a family that it is not kept for."""
    return ip_name(&address.any)


cdef object ip_name(sockaddr* address):
    cdef char text[64]
    cdef sockaddr_in* v4 = <sockaddr_in*>address
    cdef sockaddr_in6* v6 = <sockaddr_in6*>address
    if address.sa_family == AF_INET:
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(v4.sin_port))
    if address.sa_family == AF_INET6:
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(v6.sin6_port), ntohl(v6.sin6_flowinfo), v6.sin6_scope_id)
    return None


cdef object unix_name(sockaddr* address, socklen_t size):
    """The name of a Unix socket: a str, bytes if it is abstract, '' if it has none."""
    cdef const char* path = (<sockaddr_un*>address).sun_path
    cdef ssize_t length = <ssize_t>size - <ssize_t>PL_UNIX_HEADER
    if length <= 0:
        return ""
    name = path[:length]
    if PL_ABSTRACT_NAMES and path[0] == 0:
        return name
    return os.fsdecode(name.split(b"\0", 1)[0])


cdef void read_addresses(int fd, Address* local, Address* remote) noexcept:
    """Ask the kernel for the addresses of a connected socket that are not known yet."""
    cdef socklen_t size = sizeof(Address)
    if local.any.sa_family == 0 and getsockname(fd, &local.any, &size) < 0:
        memset(local, 0, sizeof(Address))
    size = sizeof(Address)
    if remote.any.sa_family == 0 and getpeername(fd, &remote.any, &size) < 0:
        memset(remote, 0, sizeof(Address))


cdef object unix_sockname(int fd):
    """What getsockname says of a Unix socket; None when it does not say."""
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    memset(&address, 0, sizeof(address))
    if getsockname(fd, <sockaddr*>&address, &size) < 0:
        return None
    return unix_name(<sockaddr*>&address, size)


cdef object unix_peername(int fd):
    """What getpeername says of a Unix socket; None when it does not say."""
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    memset(&address, 0, sizeof(address))
    if getpeername(fd, <sockaddr*>&address, &size) < 0:
        return None
    return unix_name(<sockaddr*>&address, size)


# --------------------------------------------------------------- name -> sockaddr --

cdef int fill_address(Peer peer, int family, object name) except -1:
    """Put what `name` means into a peer; its size stays 0 where that takes a lookup, or fails."""
    if family == AF_INET or family == AF_INET6:
        if type(name) is tuple:
            return fill_ip(peer, family, <tuple>name)
    elif family == AF_UNIX:
        if type(name) is str or type(name) is bytes:
            return fill_unix(peer, os.fsencode(name))
    return 0


cdef int fill_ip(Peer peer, int family, tuple name) except -1:
    cdef sockaddr_in* v4 = <sockaddr_in*>&peer.address
    cdef sockaddr_in6* v6 = <sockaddr_in6*>&peer.address
    cdef int64_t numbers[3]
    cdef Py_ssize_t count = PyTuple_GET_SIZE(name), size, i
    cdef const char* host
    cdef void* target
    if not 2 <= count <= (2 if family == AF_INET else 4) or type(name[0]) is not str:
        return 0
    numbers[0] = numbers[1] = numbers[2] = 0
    for i in range(1, count):
        # Anything else is for Python's socket to convert, or to refuse.
        if type(name[i]) is not int or not 0 <= name[i] <= (0xFFFF, 0xFFFFF, 0xFFFFFFFF)[i - 1]:
            return 0
        numbers[i - 1] = name[i]
    host = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(name, 0), &size)
    if host == NULL:
        PyErr_Clear()
        return 0
    target = <void*>&v4.sin_addr if family == AF_INET else <void*>&v6.sin6_addr
    if <Py_ssize_t>strlen(host) != size or inet_pton(family, host, target) != 1:
        return 0
    if family == AF_INET:
        v4.sin_family = AF_INET
        v4.sin_port = htons(<uint16_t>numbers[0])
        peer.size = INET_SIZE
    else:
        v6.sin6_family = AF_INET6
        v6.sin6_port = htons(<uint16_t>numbers[0])
        v6.sin6_flowinfo = htonl(<uint32_t>numbers[1])
        v6.sin6_scope_id = <uint32_t>numbers[2]
        peer.size = INET6_SIZE
    return 0


cdef int fill_unix(Peer peer, bytes path) except -1:
    cdef sockaddr_un* address = <sockaddr_un*>&peer.address
    cdef size_t length = PyBytes_GET_SIZE(path)
    cdef bint abstract = PL_ABSTRACT_NAMES and path.startswith(b"\0")
    if length == 0 or (length if abstract else length + 1) > PL_UNIX_ROOM:
        return 0
    address.sun_family = AF_UNIX
    memcpy(address.sun_path, PyBytes_AS_STRING(path), length)
    peer.size = <socklen_t>(PL_UNIX_HEADER + length + (not abstract))
    return 0


# --------------------------------------------------------------------- the cache --

cdef inline size_t address_hash(const char* address, socklen_t size) noexcept:
    cdef uint64_t word, mixed = 0
    while size >= sizeof(word):
        memcpy(&word, address, sizeof(word))
        mixed = (mixed ^ word) * <uint64_t>0x9E3779B97F4A7C15
        mixed ^= mixed >> 32
        address += sizeof(word)
        size -= sizeof(word)
    return <size_t>(mixed ^ (mixed >> 9)) % PEER_SLOTS


cdef inline bint same_address(Peer peer, sockaddr* address, socklen_t size) noexcept:
    return peer.size == size and memcmp(&peer.address, address, size) == 0


cdef Peer unnamed_peer = Peer.__new__(Peer)     # a Unix socket without a name sent it


@cython.final
@cython.no_gc
cdef class Peer:
    pass


@cython.final
@cython.no_gc
cdef class AddressCache:

    def __dealloc__(self):
        cdef int i
        for i in range(PEER_SLOTS):
            Py_XDECREF(self.by_address[i])
            Py_XDECREF(self.by_name[i])

    cdef int enter(self, PyObject** place, Peer peer) except -1:
        cdef PyObject* previous = place[0]
        Py_INCREF(peer)
        place[0] = <PyObject*>peer
        Py_XDECREF(previous)
        return 0

    cdef Peer received(self, sockaddr* address, socklen_t size):
        """Who a datagram came from."""
        cdef PyObject** place
        cdef Peer peer
        if size == 0:
            return unnamed_peer
        place = &self.by_address[address_hash(<char*>address, size)]
        if place[0] != NULL and same_address(<Peer>place[0], address, size):
            return <Peer>place[0]
        peer = Peer.__new__(Peer)
        memcpy(&peer.address, address, size)
        peer.size = size
        if address.sa_family == AF_UNIX:
            peer.name = unix_name(address, size)
        else:
            peer.name = ip_name(address)
        self.enter(place, peer)
        # An answer to this very tuple need not be parsed.
        self.enter(&self.by_name[name_hash(peer.name)], peer)
        return peer

    cdef Peer named(self, int family, object name):
        """Where a datagram is to go."""
        cdef PyObject** place = &self.by_name[name_hash(name)]
        cdef Peer peer
        # The same object means the same only because it is a tuple of a str and ints, which cannot change.
        if place[0] != NULL and (<Peer>place[0]).name is name:
            peer = <Peer>place[0]
            if (<sockaddr*>&peer.address).sa_family == family:
                return peer
        peer = Peer.__new__(Peer)
        peer.name = name
        fill_address(peer, family, name)
        if peer.size:
            self.enter(place, peer)
        return peer


cdef inline size_t name_hash(object name) noexcept:
    cdef uint64_t at = <uint64_t><size_t><PyObject*>name
    return <size_t>((at * <uint64_t>0x9E3779B97F4A7C15) >> 40) % PEER_SLOTS
