# epoll(7), as compat.h presents it on every platform.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "compat.h" nogil:
    const int PL_HAVE_EPOLL

    ctypedef union epoll_data_t:
        int fd
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    const uint32_t EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET
    const int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL

    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)
    int epoll_wait(int epfd, epoll_event* events, int capacity, int timeout_ms)
    int pl_epoll_pwait2(int epfd, epoll_event* events, int capacity, int64_t timeout_ns)
