# kqueue(2), as compat.h presents it on every platform.
from libc.stdint cimport int16_t, int64_t, uint16_t, uint32_t, uintptr_t
from posix.time cimport timespec

cdef extern from "compat.h" nogil:
    const int PL_HAVE_KQUEUE

    struct kevent_t "kevent":
        uintptr_t ident
        int16_t filter
        uint16_t flags
        int64_t data

    const int EVFILT_READ, EVFILT_WRITE
    const int EV_ADD, EV_ENABLE, EV_DELETE, EV_CLEAR

    int kqueue()
    int kevent(int kq, const kevent_t* changes, int nchanges, kevent_t* events, int nevents,
               const timespec* timeout)
    void pl_kev_set(kevent_t* kev, int fd, int filter, int flags, uint32_t tag)
    uint32_t pl_kev_tag(kevent_t* kev)
