# sockaddr -> what socket.getpeername() would give, made only when asked for.

cdef object address_tuple(Address* address):
    """The address as Python knows it; None for a family that it is not kept for."""
    cdef char text[64]
    cdef sockaddr_in* v4 = <sockaddr_in*>address
    cdef sockaddr_in6* v6 = <sockaddr_in6*>address
    if address.any.sa_family == AF_INET:
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(v4.sin_port))
    if address.any.sa_family == AF_INET6:
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(v6.sin6_port), ntohl(v6.sin6_flowinfo), v6.sin6_scope_id)
    return None


cdef void read_addresses(int fd, Address* local, Address* remote) noexcept:
    """Ask the kernel for the addresses of a connected socket that are not known yet."""
    cdef socklen_t size = sizeof(Address)
    if local.any.sa_family == 0 and getsockname(fd, &local.any, &size) < 0:
        memset(local, 0, sizeof(Address))
    size = sizeof(Address)
    if remote.any.sa_family == 0 and getpeername(fd, &remote.any, &size) < 0:
        memset(remote, 0, sizeof(Address))
