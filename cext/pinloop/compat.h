/* The platform floor: every #if about an operating system, a C library or a
 * CPython version is in this file.  Nothing above it asks which platform it is.
 *
 * Both poll backends are compiled everywhere.  A platform that lacks one gets
 * stubs here that fail with ENOSYS, so the code that uses them is type-checked
 * on every build and the choice is made at run time.
 */
#ifndef PINLOOP_COMPAT_H
#define PINLOOP_COMPAT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- epoll -- */

#if defined(__linux__)
#define PL_HAVE_EPOLL 1
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* epoll with a nanosecond timeout (Linux 5.11); a libc older than 2.35 has no
 * wrapper, so it is called by number.  timeout_ns < 0 waits for ever. */
static inline int pl_epoll_pwait2(int epfd, struct epoll_event *events, int capacity, int64_t timeout_ns) {
    struct timespec ts = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return (int)syscall(SYS_epoll_pwait2, epfd, events, capacity, timeout_ns < 0 ? NULL : &ts, NULL, 0);
}
#else
#define PL_HAVE_EPOLL 0
typedef union { void *ptr; int fd; uint32_t u32; uint64_t u64; } epoll_data_t;
struct epoll_event { uint32_t events; epoll_data_t data; };
enum { EPOLLIN = 1, EPOLLPRI = 2, EPOLLOUT = 4, EPOLLERR = 8, EPOLLHUP = 16, EPOLLRDHUP = 0x2000, EPOLL_CLOEXEC = 0,
       EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3 };
#define EPOLLET (1u << 31)
static inline int epoll_create1(int flags) { (void)flags; errno = ENOSYS; return -1; }
static inline int epoll_ctl(int e, int op, int fd, struct epoll_event *ev) {
    (void)e; (void)op; (void)fd; (void)ev; errno = ENOSYS; return -1;
}
static inline int epoll_wait(int e, struct epoll_event *ev, int n, int ms) {
    (void)e; (void)ev; (void)n; (void)ms; errno = ENOSYS; return -1;
}
static inline int pl_epoll_pwait2(int e, struct epoll_event *ev, int n, int64_t ns) {
    (void)e; (void)ev; (void)n; (void)ns; errno = ENOSYS; return -1;
}
#endif

/* --------------------------------------------------------------- kqueue -- */

#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || \
    defined(__DragonFly__) || defined(PINLOOP_LIBKQUEUE)
#define PL_HAVE_KQUEUE 1
#include <sys/event.h>
#else
#define PL_HAVE_KQUEUE 0
struct kevent {
    uintptr_t ident; int16_t filter; uint16_t flags; uint32_t fflags; intptr_t data; void *udata;
};
enum { EVFILT_READ = -1, EVFILT_WRITE = -2, EV_ADD = 1, EV_DELETE = 2, EV_ENABLE = 4, EV_CLEAR = 0x20 };
static inline int kqueue(void) { errno = ENOSYS; return -1; }
static inline int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events,
                         int nevents, const struct timespec *timeout) {
    (void)kq; (void)changes; (void)nchanges; (void)events; (void)nevents; (void)timeout;
    errno = ENOSYS; return -1;
}
#endif
/* The type of kevent.udata differs (void* or intptr_t): one way to write and read it. */
#define pl_kev_set(kev, fd, filt, flag, tag) do { \
    memset((kev), 0, sizeof *(kev)); (kev)->ident = (uintptr_t)(fd); (kev)->filter = (filt); \
    (kev)->flags = (flag); (kev)->udata = (void *)(uintptr_t)(tag); } while (0)
#define pl_kev_tag(kev) ((uint32_t)(uintptr_t)(kev)->udata)

/* ----------------------------------------------- descriptors and sockets -- */

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0   /* CPython ignores SIGPIPE; the flag only saves embedders */
#endif

static inline int pl_set_flags(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* A wake-up pair: an eventfd (both ends the same number) or a pipe. */
static inline int pl_wake_open(int *rfd, int *wfd) {
#if PL_HAVE_EPOLL
    *rfd = *wfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return *rfd < 0 ? -1 : 0;
#else
    int fds[2];
    if (pipe(fds) < 0) return -1;
    if (pl_set_flags(fds[0]) < 0 || pl_set_flags(fds[1]) < 0) {
        int saved = errno; close(fds[0]); close(fds[1]); errno = saved; return -1;
    }
    *rfd = fds[0]; *wfd = fds[1];
    return 0;
#endif
}

static inline void pl_wake_write(int wfd) {
    /* EAGAIN means that a wake is pending already, which is all that is asked. */
    int saved = errno;
    uint64_t one = 1;
    ssize_t n;
    do { n = write(wfd, &one, PL_HAVE_EPOLL ? sizeof one : 1); } while (n < 0 && errno == EINTR);
    errno = saved;
}

static inline void pl_wake_drain(int rfd) {
    char buffer[256];
    while (read(rfd, buffer, sizeof buffer) == (ssize_t)sizeof buffer) {}
}

/* Whether an fd is a TCP socket's; only where it is asked for (Linux) is it ever found to be one. */
static inline int pl_is_tcp(int fd) {
#if defined(SO_PROTOCOL)
    int protocol = 0;
    socklen_t size = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
#else
    (void)fd;
    return 0;
#endif
}

/* accept(2) whose result is non-blocking and close-on-exec. */
static inline int pl_accept(int fd, struct sockaddr_storage *address, socklen_t *size) {
#if defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
    return accept4(fd, (struct sockaddr *)address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int accepted = accept(fd, (struct sockaddr *)address, size);
    if (accepted >= 0 && pl_set_flags(accepted) < 0) {
        int saved = errno; close(accepted); errno = saved; return -1;
    }
    return accepted;
#endif
}

/* Several datagrams in one system call, where the platform has it, else one by one.  Both
 * return how many there were and put what stopped them, or 0, in *error.  Built with
 * PINLOOP_PLAIN_DATAGRAMS any platform does as the poorest: for tests. */
#if (defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__)) && !defined(PINLOOP_PLAIN_DATAGRAMS)
#define PL_HAVE_MMSG 1
typedef struct mmsghdr pl_mmsghdr;
#else
#define PL_HAVE_MMSG 0
typedef struct { struct msghdr msg_hdr; unsigned int msg_len; } pl_mmsghdr;
#endif

static inline int pl_recv_each(int fd, pl_mmsghdr *messages, int count, int *error) {
    int n = 0;
    ssize_t size = 0;
    while (n < count && (size = recvmsg(fd, &messages[n].msg_hdr, 0)) >= 0)
        messages[n++].msg_len = (unsigned int)size;
    *error = size < 0 ? errno : 0;
    return n;
}

static inline int pl_send_each(int fd, pl_mmsghdr *messages, int count, int *error) {
    int n = 0;
    ssize_t size = 0;
    while (n < count && (size = sendmsg(fd, &messages[n].msg_hdr, MSG_NOSIGNAL)) >= 0) n++;
    *error = size < 0 ? errno : 0;
    return n;
}

static inline int pl_recv_many(int fd, pl_mmsghdr *messages, int count, int *error) {
#if PL_HAVE_MMSG
    int n = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
    *error = n < 0 ? errno : 0;
    if (n >= 0 || errno != ENOSYS) return n < 0 ? 0 : n;   /* ENOSYS: a sandbox that does not know it */
#endif
    return pl_recv_each(fd, messages, count, error);
}

static inline int pl_send_many(int fd, pl_mmsghdr *messages, int count, int *error) {
#if PL_HAVE_MMSG
    int n = sendmmsg(fd, messages, count, MSG_NOSIGNAL);
    *error = n < 0 ? errno : 0;
    if (n >= 0 || errno != ENOSYS) return n < 0 ? 0 : n;
#endif
    return pl_send_each(fd, messages, count, error);
}

/* Several UDP datagrams of one size to one address as a single message, which Linux (4.18) cuts up
 * as late as it can.  An older kernel, and a socket that is not UDP's, would send them in one
 * piece: hence the question before the first.  Distributions have brought the option to kernels
 * before 5.0, not always with all that it needs: those are not asked. */
#if defined(__linux__) && !defined(PINLOOP_PLAIN_DATAGRAMS)
#define PL_UDP_LEVEL 17
#define PL_UDP_SEGMENT 103
#define PL_SEGMENT_ROOM CMSG_SPACE(sizeof(uint16_t))
static inline int pl_can_segment(int fd) {
    int value;
    socklen_t size = sizeof value;
    struct utsname kernel;
    if (uname(&kernel) < 0 || atoi(kernel.release) < 5) return 0;
    return getsockopt(fd, PL_UDP_LEVEL, PL_UDP_SEGMENT, &value, &size) == 0;
}
static inline void pl_set_segment(struct msghdr *message, void *room, size_t segment) {
    uint16_t value = (uint16_t)segment;
    struct cmsghdr *control = room;
    control->cmsg_level = PL_UDP_LEVEL;
    control->cmsg_type = PL_UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(control), &value, sizeof value);
    message->msg_control = room;
    message->msg_controllen = PL_SEGMENT_ROOM;
}
#else
static inline int pl_can_segment(int fd) { (void)fd; return 0; }
static inline void pl_set_segment(struct msghdr *message, void *room, size_t segment) {
    (void)message; (void)room; (void)segment;
}
#endif

/* Linux has names of Unix sockets that begin with a null byte and are in no file system. */
#if defined(__linux__)
#define PL_ABSTRACT_NAMES 1
#else
#define PL_ABSTRACT_NAMES 0
#endif
#define PL_UNIX_HEADER offsetof(struct sockaddr_un, sun_path)
#define PL_UNIX_ROOM sizeof(((struct sockaddr_un *)0)->sun_path)

/* ----------------------------------------------------------------- pipes -- */

static inline int pl_set_nonblocking(int fd) {
    int on = 1;
    return ioctl(fd, FIONBIO, &on);      /* one call where fcntl takes two */
}

/* Whether the reading end behind `fd`, the writing end of a pipe or a socket, is gone.
 * Readable alone does not say so: a FIFO opened for both, or a socket whose peer talks,
 * is that too. */
static inline int pl_hung_up(int fd) {
    struct pollfd polled = {fd, 0, 0};
    char byte;
    if (poll(&polled, 1, 0) < 0) return 0;
    if (polled.revents) return 1;        /* POLLERR or POLLHUP: nothing else was left to tell */
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;    /* ENOTSOCK for a pipe */
}

/* -------------------------------------------------------------- processes -- */

/* Takes the exit status of the child behind a pidfd: 1 and *code (negative: the signal
 * that ended it); 0 while it runs; -1 with ECHILD if somebody else took it.  By pidfd and
 * not by number, since then the number may be another child's already; kernels before 5.4
 * know only the number. */
#define PL_P_PIDFD ((idtype_t)3)         /* P_PIDFD, which older headers lack */
static inline int pl_reap(int pidfd, int pid, int *code) {
#if defined(__linux__)
    siginfo_t info;
    int status, result;
    memset(&info, 0, sizeof info);
    if (waitid(PL_P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) == 0) {
        if (info.si_pid == 0) return 0;
        *code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        return 1;
    }
    if (errno != EINVAL) return -1;
    result = (int)waitpid(pid, &status, WNOHANG);
    if (result <= 0) return result;
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return 1;
#else
    (void)pidfd; (void)pid; (void)code; errno = ENOSYS; return -1;
#endif
}

/* Whether that child has not exited yet; its status is left. */
static inline int pl_is_running(int pidfd, int pid) {
#if defined(__linux__)
    siginfo_t info;
    int options = WEXITED | WNOHANG | WNOWAIT;
    memset(&info, 0, sizeof info);
    if (waitid(PL_P_PIDFD, (id_t)pidfd, &info, options) < 0 &&
        (errno != EINVAL || waitid(P_PID, (id_t)pid, &info, options) < 0)) return 0;
    return info.si_pid == 0;
#else
    (void)pidfd; (void)pid; return 0;
#endif
}

static inline int pl_signal_child(int pidfd, int sig) {
#if defined(__linux__)
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
    return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
#else
    (void)pidfd; (void)sig; errno = ENOSYS; return -1;
#endif
}

/* sendfile(2) as Linux has it: the bytes sent, 0 at the end of the file, -1 with errno. */
#if defined(__linux__)
#include <sys/sendfile.h>
static inline ssize_t pl_sendfile(int out, int in, int64_t offset, size_t count) {
    off_t at = (off_t)offset;
    return sendfile(out, in, &at, count);
}
#elif defined(__APPLE__)
static inline ssize_t pl_sendfile(int out, int in, int64_t offset, size_t count) {
    off_t sent = (off_t)count;
    int failed = sendfile(in, out, (off_t)offset, &sent, NULL, 0);
    return failed < 0 && sent == 0 ? -1 : (ssize_t)sent;
}
#elif defined(__FreeBSD__) || defined(__DragonFly__)
static inline ssize_t pl_sendfile(int out, int in, int64_t offset, size_t count) {
    off_t sent = 0;
    int failed = sendfile(in, out, (off_t)offset, count, NULL, &sent, 0);
    return failed < 0 && sent == 0 ? -1 : (ssize_t)sent;
}
#else
static inline ssize_t pl_sendfile(int out, int in, int64_t offset, size_t count) {
    (void)out; (void)in; (void)offset; (void)count; errno = ENOSYS; return -1;
}
#endif

/* ----------------------------------------------------------- time, forks -- */

static inline int64_t pl_monotonic_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The processor's own counter, for durations that are only told: the cheapest clock there is.  PL_TICKS_VARY
 * says that it is known only at run time whether it can be trusted. */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#include <x86intrin.h>
#define PL_TICKS_VARY 1
static inline int64_t pl_ticks(void) { return (int64_t)__rdtsc(); }
static inline int pl_ticks_are_even(void) {
    unsigned int a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d >> 8 & 1u);
}
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define PL_TICKS_VARY 0
static inline int64_t pl_ticks(void) {
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return (int64_t)ticks;
}
static inline int pl_ticks_are_even(void) { return 1; }
#else
#define PL_TICKS_VARY 0
static inline int64_t pl_ticks(void) { return pl_monotonic_ns(); }
static inline int pl_ticks_are_even(void) { return 1; }
#endif

/* How many forks lie between this process and the first one that loaded the
 * module.  A reactor remembers the number it was made under; comparing two
 * integers is what tells a forked child from its parent on the hot path.  It is
 * a fact about the process, not state of the module. */
static int pl_fork_depth = 0;
static void pl_count_fork(void) { pl_fork_depth++; }
static inline int pl_watch_forks(void) { return pthread_atfork(NULL, NULL, pl_count_fork); }

/* -------------------------------------------------------------- atomics -- */

typedef _Atomic(void *) pl_atomic_ptr;
typedef _Atomic(int) pl_atomic_int;
#define pl_ptr_peek(p) atomic_load_explicit((p), memory_order_relaxed)
#define pl_ptr_load(p) atomic_load((p))
#define pl_ptr_take(p) atomic_exchange((p), NULL)
#define pl_ptr_swap_if(p, expected, desired) atomic_compare_exchange_weak((p), (expected), (desired))
#define pl_int_store(p, v) atomic_store((p), (v))
#define pl_int_take(p) atomic_exchange((p), 0)

/* -------------------------------------------------------------- CPython -- */

/* The raised exception, normalised and with its traceback, as a new reference;
 * the error indicator is cleared. */
#if PY_VERSION_HEX >= 0x030C0000
#define pl_take_exception() PyErr_GetRaisedException()
#else
static inline PyObject *pl_take_exception(void) {
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) { PyException_SetTraceback(value, tb); Py_DECREF(tb); }
    Py_DECREF(type);
    return value;
}
#endif

static inline PyObject *pl_raise(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(Py_NewRef(exception));
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), Py_NewRef(exception),
                  PyException_GetTraceback(exception));
#endif
    return NULL;
}

/* coro.throw(exception), with the outcome told as PyIter_Send tells it. */
static inline int pl_throw(PyObject *coro, PyObject *exception, PyObject **result) {
    PyObject *name = PyUnicode_InternFromString("throw"), *raised;
    *result = name == NULL ? NULL : PyObject_CallMethodOneArg(coro, name, exception);
    Py_XDECREF(name);
    if (*result != NULL) return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return PYGEN_ERROR;
    raised = pl_take_exception();
    *result = Py_NewRef(((PyStopIterationObject *)raised)->value);
    Py_DECREF(raised);
    return PYGEN_RETURN;
}

/* How a tp_iternext ends with a value.  None needs no exception object; a tuple or an exception would be
 * taken for the arguments, so the object is made here. */
static inline int pl_stop_iteration(PyObject *value) {
    PyObject *stop;
    if (value == Py_None) return 0;
    if (!PyTuple_Check(value) && !PyExceptionInstance_Check(value)) {
        PyErr_SetObject(PyExc_StopIteration, value);
        return 0;
    }
    stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop == NULL) return -1;
    PyErr_SetObject(PyExc_StopIteration, stop);
    Py_DECREF(stop);
    return 0;
}

/* For a process that is to end with its parent, even one whose Python code holds the GIL for ever. */
static void pl_end_after_hangup(int fd, int parent, double grace) {
    struct pollfd watched[] = {{.fd = fd}, {.fd = parent, .events = POLLIN}};   /* the first for a hang-up alone */
    struct timespec left = {.tv_sec = (time_t)grace, .tv_nsec = (long)((grace - (time_t)grace) * 1e9)};
    while (poll(watched, 2, -1) <= 0) {}
    while (nanosleep(&left, &left) < 0) {}
    _exit(1);
}

/* One that is stopped would do nothing of that: have it go on when its parent ends.  The kernel means the thread
 * that made it, so the signal had better be one without effect on a process that runs. */
static void pl_go_on_without_parent(void) {
#ifdef __linux__
    (void)prctl(PR_SET_PDEATHSIG, SIGCONT);
#endif
}

/* Whether the collector is about to clear the object, as garbage: what comes back to life then is cleared all the
 * same, after it may have been put to use again.  The second bit of the word before the object, from 3.8 to 3.15. */
#define pl_is_being_collected(op) ((((uintptr_t *)(op))[-1] & 2) != 0)

/* The StopIteration by which a call's result gets to an `await`, used again and again, since from 3.12 on
 * raising one means making one: a subclass, which its last reference brings back to its loop, emptied.  Nobody
 * sees it but who steps a call by hand. */
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
#define PL_STOPS_ARE_MADE 1
typedef struct {
    PyStopIterationObject stop;
    PyObject *loop;              /* owned, while it is in use */
    PyObject **place;            /* in the loop, where it is kept */
} PlStop;

static PyTypeObject pl_stop_type;
static destructor pl_stop_destroy;

static void pl_stop_dealloc(PyObject *self) {
    PlStop *stop = (PlStop *)self;
    PyObject *loop = stop->loop, *value = stop->stop.value;
    stop->loop = NULL;
    if (loop != NULL && *stop->place == NULL && !pl_is_being_collected(self)
            && stop->stop.dict == NULL && stop->stop.notes == NULL && stop->stop.traceback == NULL
            && stop->stop.context == NULL && stop->stop.cause == NULL) {
        stop->stop.value = NULL;
        Py_SET_REFCNT(self, 1);
        *stop->place = self;
        Py_XDECREF(value);       /* whatever this and the next run: it is out of our hands */
    } else {
        pl_stop_destroy(self);
    }
    Py_XDECREF(loop);
}

static int pl_make_stop_type(void) {
    PyTypeObject *base = (PyTypeObject *)PyExc_StopIteration;
    if (pl_stop_type.tp_name != NULL) return 0;
    pl_stop_type.tp_name = "StopIteration";
    pl_stop_type.tp_basicsize = sizeof(PlStop);
    pl_stop_type.tp_base = base;
    pl_stop_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC;
    pl_stop_type.tp_traverse = base->tp_traverse;
    pl_stop_type.tp_clear = base->tp_clear;
    pl_stop_type.tp_dealloc = pl_stop_dealloc;
    pl_stop_destroy = base->tp_dealloc;
    return PyType_Ready(&pl_stop_type);
}

/* Raises it for a value, whose reference it takes over. */
static void pl_stop_with(PyObject *loop, PyObject **place, PyObject *value) {
    PyObject *stop = *place;
    if (stop == NULL) {
        stop = PyObject_CallNoArgs((PyObject *)&pl_stop_type);
        if (stop == NULL) {
            Py_DECREF(value);
            return;
        }
        ((PlStop *)stop)->place = place;
    }
    *place = NULL;
    ((PlStop *)stop)->loop = Py_NewRef(loop);
    Py_XSETREF(((PyStopIterationObject *)stop)->value, value);
    PyErr_SetRaisedException(stop);
}

/* The same for a call that keeps one of its own: whether it is as new, and the raising of it. */
static inline int pl_stop_is_fresh(PyObject *self) {
    PyStopIterationObject *stop = (PyStopIterationObject *)self;
    return Py_REFCNT(self) == 1 && stop->dict == NULL && stop->notes == NULL && stop->traceback == NULL
        && stop->context == NULL && stop->cause == NULL;
}
static inline void pl_raise_stop(PyObject *stop, PyObject *value) {
    Py_XSETREF(((PyStopIterationObject *)stop)->value, value);
    PyErr_SetRaisedException(Py_NewRef(stop));
}
#define pl_empty_stop(self) Py_CLEAR(((PyStopIterationObject *)(self))->value)
#else
#define PL_STOPS_ARE_MADE 0
#define pl_stop_is_fresh(self) 0
#define pl_raise_stop(stop, value) (pl_stop_iteration(value), Py_DECREF(value))
#define pl_empty_stop(self) ((void)0)
#define pl_make_stop_type() 0
#define pl_stop_with(loop, place, result) (pl_stop_iteration(result), Py_DECREF(result))
#endif

/* From 3.14 on asyncio keeps a thread's running loop and current task side by side in the private part of
 * the thread's state, which lies behind the public one: here it is looked for.  0: not found. */
static inline ptrdiff_t pl_find_pair(PyObject *first, PyObject *second) {
#if PY_VERSION_HEX >= 0x030E0000
    enum { WORDS = 24 };
    PyThreadState *state = PyThreadState_Get();
    PyObject **words = (PyObject **)(state + 1);
    for (int i = 0; i < WORDS; i++)
        if (words[i] == first && words[i + 1] == second) return (char *)&words[i + 1] - (char *)state;
#else
    (void)first; (void)second;
#endif
    return 0;
}
static inline PyObject **pl_in_thread_state(ptrdiff_t offset) {
    return (PyObject **)((char *)PyThreadState_Get() + offset);
}

/* How `await` takes an object, by slots alone: attributes of these names would make it an iterator to see. */
#define pl_set_awaitable(type, await_, next, send) do { \
    static PyAsyncMethods own;           /* a class without one of its own has its base's */ \
    own.am_await = (unaryfunc)(await_); \
    own.am_send = (sendfunc)(send); \
    (type)->tp_as_async = &own; \
    (type)->tp_iternext = (iternextfunc)(next); } while (0)

/* The numbers of tasks that nobody named: one series for the process, as asyncio's. */
static inline uint64_t pl_next_number(void) {
    static _Atomic(uint64_t) number = 0;
    return atomic_fetch_add_explicit(&number, 1, memory_order_relaxed) + 1;
}

/* PyThread_get_thread_ident() without two calls: on every system with pthreads it is this. */
#define pl_this_thread() ((unsigned long)pthread_self())

/* Operations that were ready, of the thread, counted on loops that are not ours; see budget.pxi. */
static inline unsigned int *pl_budget_used(void) {
    static _Thread_local unsigned int used = 0;
    return &used;
}

/* Calls a type as Python would, without making a tuple and a dict for it; a new reference or NULL. */
static inline PyObject *pl_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *made = type->tp_new(type, args, kwargs);
    if (made != NULL && type->tp_init(made, args, kwargs) < 0) Py_CLEAR(made);
    return made;
}

/* Objects that come and go with each await: the memory of the last ones of a type is kept, and used again.
 * Cython's own free lists are for classes without a base. */
enum { PL_KEPT_KINDS = 4, PL_KEPT_OBJECTS = 64 };
#if defined(Py_GIL_DISABLED)
#define pl_keep_memory(type) ((void)(type))
#else
static struct { PyTypeObject *type; int count; PyObject *objects[PL_KEPT_OBJECTS]; } pl_kept[PL_KEPT_KINDS];

static PyObject *pl_kept_alloc(PyTypeObject *type, Py_ssize_t items) {
    PyObject *made;
    int i = 0;
    while (pl_kept[i].type != type) i++;
    if (pl_kept[i].count == 0) return PyType_GenericAlloc(type, items);
    made = pl_kept[i].objects[--pl_kept[i].count];
    memset((char *)made + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    (void)PyObject_Init(made, type);
    PyObject_GC_Track(made);
    return made;
}

static void pl_kept_free(void *object) {
    int i = 0;
    while (pl_kept[i].type != Py_TYPE((PyObject *)object)) i++;
    if (pl_kept[i].count < PL_KEPT_OBJECTS) pl_kept[i].objects[pl_kept[i].count++] = (PyObject *)object;
    else PyObject_GC_Del(object);
}

/* For types without subclasses, once each. */
static inline void pl_keep_memory(PyTypeObject *type) {
    int i = 0;
    while (pl_kept[i].type != NULL) i++;
    pl_kept[i].type = type;
    type->tp_alloc = pl_kept_alloc;
    type->tp_free = pl_kept_free;
}
#endif

#define pl_type_dict(type) ((type)->tp_dict)
/* No instances by calling the type, which goes by tp_new or by a vectorcall of Cython's. */
#define pl_forbid_new(type) do { \
    (type)->tp_new = NULL; (type)->tp_vectorcall = NULL; \
    (type)->tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION; } while (0)
#define pl_tuple_items(tuple) (((PyTupleObject *)(tuple))->ob_item)

/* Whether an object whose last reference went may be kept to be used again: nobody set attributes or weak
 * references, and no finalizer ran, which would not run a second time.  Never where other threads may hold it,
 * nor under tools that look for what is used after it was freed. */
#if defined(Py_GIL_DISABLED) || defined(Py_TRACE_REFS) || defined(__SANITIZE_ADDRESS__)
#define pl_is_plain(op, type) 0
#else
#define pl_is_plain(op, type) (Py_IS_TYPE(op, type) \
    && *(PyObject **)((char *)(op) + (type)->tp_weaklistoffset) == NULL \
    && !PyObject_GC_IsFinalized(op))
#endif
/* CPython 3.11 remembers where it found a method only for objects that have their dict, or can have none. */
#define PL_WANTS_DICTS (PY_VERSION_HEX < 0x030C0000)
#define pl_set_dict_offset(type, offset) ((type)->tp_dictoffset = (offset))
#define pl_set_references(op, count) Py_SET_REFCNT(op, count)

/* Whether the caller's is the only reference, so that the object may be used again. */
#if defined(Py_GIL_DISABLED)
#if PY_VERSION_HEX >= 0x030E0000
#define pl_only_reference(op) PyUnstable_Object_IsUniquelyReferenced(op)
#else
#define pl_only_reference(op) 0
#endif
#else
#define pl_only_reference(op) (Py_REFCNT(op) == 1)
#endif

/* Whether one thread may take what another keeps for reuse, if no Python code runs between: the GIL's gift. */
#if defined(Py_GIL_DISABLED)
#define PL_SPARES_ARE_SHARED 0
#else
#define PL_SPARES_ARE_SHARED 1
#endif

/* Makes a bytes object that nobody else holds, with room for `size`, one of `data`. */
static inline void pl_bytes_refill(PyObject *bytes, const char *data, Py_ssize_t size) {
    memcpy(PyBytes_AS_STRING(bytes), data, size);
    PyBytes_AS_STRING(bytes)[size] = 0;
    Py_SET_SIZE(bytes, size);
_Py_COMP_DIAG_PUSH
_Py_COMP_DIAG_IGNORE_DEPR_DECLS
    ((PyBytesObject *)bytes)->ob_shash = -1;     /* not the hash of what was there before */
_Py_COMP_DIAG_POP
}

/* Each task and each callback has a copy of the context in which it was scheduled.  What waits needs no
 * Context object for that, only what is in it, and all that a copy shares is one pointer.  So a context is kept
 * "at rest", as the mapping of its variables, until it is entered or asked for.  Then a spare Context gets that
 * mapping; afterwards, if nothing refers to it, it becomes a spare again.
 * There is no API for that.  The layout has been the same from 3.11 to 3.15; pl_learn_contexts looks whether it is
 * here, and where it is not, no context is ever at rest. */
typedef struct { PyObject_HEAD PyObject *prev, *vars, *weakrefs; int entered; } pl_context;
static PyObject *pl_no_vars = NULL;      /* the mapping of a context without variables; NULL: not learnt */
static PyTypeObject *pl_vars_type = NULL;   /* its type */

static inline int pl_learn_contexts(void) {
#if !defined(Py_GIL_DISABLED)
    PyObject *empty = PyContext_New(), *copy = empty != NULL ? PyContext_Copy(empty) : NULL;
    pl_context *one = (pl_context *)empty, *other = (pl_context *)copy;
    int known;
    if (copy == NULL) { Py_XDECREF(empty); return -1; }
    known = Py_TYPE(empty)->tp_basicsize == sizeof(pl_context)
        && Py_TYPE(empty)->tp_weaklistoffset == offsetof(pl_context, weakrefs)
        && one->prev == NULL && one->weakrefs == NULL && one->entered == 0
        && one->vars != NULL && one->vars == other->vars && strcmp(Py_TYPE(one->vars)->tp_name, "hamt") == 0;
    if (known && PyContext_Enter(empty) == 0) {
        known = one->entered == 1 && PyThreadState_Get()->context == empty;
        PyContext_Exit(empty);
#if PY_VERSION_HEX >= 0x030C0000
        known = known && _Py_IsImmortal(one->vars);
#endif
        if (known) { pl_no_vars = Py_NewRef(one->vars); pl_vars_type = Py_TYPE(one->vars); }
    }
    Py_DECREF(copy);
    Py_DECREF(empty);
#endif
    return 0;
}

#define pl_at_rest(context) (Py_TYPE(context) == pl_vars_type)

/* What a spare Context has in it: owned where it is counted, which from 3.12 on it is not. */
#if PY_VERSION_HEX >= 0x030C0000
#define PL_TAKE_NO_VARS() pl_no_vars
#define PL_DROP_NO_VARS(vars) ((void)(vars))
#else
#define PL_TAKE_NO_VARS() Py_NewRef(pl_no_vars)
#define PL_DROP_NO_VARS(vars) Py_DECREF(vars)
#endif

/* A copy of the current context, at rest; a new reference. */
static inline PyObject *pl_copy_context(void) {
    PyObject *current;
    if (pl_no_vars == NULL) return PyContext_CopyCurrent();
    current = PyThreadState_Get()->context;
    return Py_NewRef(current == NULL ? pl_no_vars : ((pl_context *)current)->vars);
}

/* Makes the context that is kept at `place` a Context, if it is at rest, and gives it, borrowed; NULL: raised.
 * It may be the one at `spare`. */
static inline PyObject *pl_whole_context(PyObject **place, PyObject **spare) {
    PyObject *vars = *place, *context = *spare;
    if (!pl_at_rest(vars)) return vars;
    if (context != NULL && Py_REFCNT(context) == 1) *spare = NULL;
    else if ((context = PyContext_New()) == NULL) return NULL;
    PL_DROP_NO_VARS(((pl_context *)context)->vars);
    ((pl_context *)context)->vars = vars;
    *place = context;
    return context;
}

/* Enters the context that is kept at `place`, and gives it, borrowed, to be left; NULL: raised. */
static inline PyObject *pl_enter_context(PyObject **place, PyObject **spare) {
    PyObject *context = pl_whole_context(place, spare);
    return context == NULL || PyContext_Enter(context) < 0 ? NULL : context;
}

/* Leaves it, and puts it to rest if nothing but `place` refers to it, unless it is to stay what it is. */
static inline void pl_leave_context(PyObject *context, PyObject **place, PyObject **spare, int stays) {
    pl_context *known = (pl_context *)context;
    if (*place != context) {              /* a task that was initialised again in its own step */
        Py_INCREF(context);
        PyContext_Exit(context);
        Py_DECREF(context);
        return;
    }
    if (PyContext_Exit(context) < 0 || stays || Py_REFCNT(context) != 1 || known->weakrefs != NULL) return;
    *place = known->vars;
    known->vars = PL_TAKE_NO_VARS();
    if (*spare == NULL) *spare = context;
    else Py_DECREF(context);
}

#if defined(__GNUC__) || defined(__clang__)
#define pl_unlikely(x) __builtin_expect(!!(x), 0)
/* Of a value above 0. */
static inline int pl_bit_length(uint64_t value) { return 64 - __builtin_clzll(value); }
#else
#define pl_unlikely(x) (x)
static inline int pl_bit_length(uint64_t value) {
    int length = 0;
    for (; value; value >>= 1) length++;
    return length;
}
#endif

#endif /* PINLOOP_COMPAT_H */
