# Sockets, descriptors, clocks, atomics: the POSIX side of compat.h.
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "compat.h" nogil:
    const int EAGAIN, EWOULDBLOCK, EINTR, EEXIST, ENOENT, EBADF, EPERM, ENOSYS, EINVAL
    const int EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO
    const int EPIPE, ECONNRESET, ENOTCONN, EIO, ESRCH, EMSGSIZE

    ctypedef unsigned int socklen_t

    struct iovec:
        void* iov_base
        size_t iov_len

    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen

    ctypedef struct pl_mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

    struct sockaddr:
        unsigned short sa_family

    struct sockaddr_storage:
        unsigned short ss_family

    struct in_addr:
        pass

    struct in6_addr:
        pass

    struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    struct sockaddr_un:
        unsigned short sun_family
        char sun_path[104]

    const int AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM
    const int PL_ABSTRACT_NAMES
    const size_t PL_UNIX_HEADER, PL_UNIX_ROOM
    const int MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR

    ssize_t recv(int fd, void* buffer, size_t size, int flags)
    ssize_t send(int fd, const void* buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    ssize_t recvmsg(int fd, msghdr* message, int flags)
    ssize_t recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* source, socklen_t* room)
    ssize_t sendto(int fd, const void* buffer, size_t size, int flags,
                   const sockaddr* target, socklen_t target_size)
    int pl_recv_many(int fd, pl_mmsghdr* messages, int count, int* error)
    int pl_send_many(int fd, pl_mmsghdr* messages, int count, int* error)
    bint pl_can_segment(int fd)
    void pl_set_segment(msghdr* message, void* room, size_t segment)
    int shutdown(int fd, int how)
    int getsockname(int fd, sockaddr* address, socklen_t* size)
    int getpeername(int fd, sockaddr* address, socklen_t* size)
    const char* inet_ntop(int family, const void* source, char* target, socklen_t size)
    int inet_pton(int family, const char* source, void* target)
    uint16_t ntohs(uint16_t value)
    uint32_t ntohl(uint32_t value)
    uint16_t htons(uint16_t value)
    uint32_t htonl(uint32_t value)
    int close(int fd)
    ssize_t read(int fd, void* buffer, size_t size)
    ssize_t write(int fd, const void* buffer, size_t size)
    ssize_t writev(int fd, const iovec* vectors, int count)
    int fcntl(int fd, int command, ...)
    const int F_DUPFD_CLOEXEC

    struct pollfd:
        int fd
        short events
        short revents
    const short POLLOUT
    int poll(pollfd* fds, unsigned long count, int timeout_ms)

    void* memmem(const void* haystack, size_t size, const void* needle, size_t needle_size)
    int pl_is_tcp(int fd)
    ssize_t pl_sendfile(int out, int source, int64_t offset, size_t count)
    int pl_accept(int fd, sockaddr_storage* address, socklen_t* size)
    int pl_set_nonblocking(int fd)
    bint pl_hung_up(int fd)
    int pl_reap(int pidfd, int pid, int* code)
    bint pl_is_running(int pidfd, int pid)
    int pl_signal_child(int pidfd, int sig)
    int pl_wake_open(int* rfd, int* wfd)
    void pl_wake_write(int wfd)
    void pl_wake_drain(int rfd)
    int64_t pl_monotonic_ns()
    int64_t pl_ticks()
    bint pl_ticks_are_even()
    const bint PL_TICKS_VARY
    int pl_fork_depth
    int pl_watch_forks()

    ctypedef void* pl_atomic_ptr
    ctypedef int pl_atomic_int
    void* pl_ptr_peek(pl_atomic_ptr* p)
    void* pl_ptr_load(pl_atomic_ptr* p)
    void* pl_ptr_take(pl_atomic_ptr* p)
    bint pl_ptr_swap_if(pl_atomic_ptr* p, void** expected, void* desired)
    void pl_int_store(pl_atomic_int* p, int value)
    int pl_int_take(pl_atomic_int* p)

    bint pl_unlikely(bint condition)
    int pl_bit_length(uint64_t value)

    void pl_end_after_hangup(int fd, int parent, double grace)
    void pl_go_on_without_parent()
