/* One readiness queue for the benchmark's own programs: epoll on Linux, kqueue on macOS and the BSDs.
 *
 * Level-triggered. Reading is always of interest; writing only while a send is unfinished. Closing an fd
 * takes it out of either queue. An error or a hang-up is told as READY_READ: the read that follows says which.
 */
#ifndef PINLOOP_BENCH_EVENTS_H
#define PINLOOP_BENCH_EVENTS_H

enum { READY_READ = 1, READY_WRITE = 2, READY_MAX = 256 };

struct ready {
    void *owner;
    int what;
};

#if defined(__linux__) && !defined(BENCH_KQUEUE) /* libkqueue lets the other half be tried on Linux */
#include <sys/epoll.h>

static inline int queue_open(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int queue_change(int queue, int operation, int fd, void *owner, uint32_t mask) {
    struct epoll_event event = {.events = mask, .data.ptr = owner};
    return epoll_ctl(queue, operation, fd, &event);
}

static inline int queue_add(int queue, int fd, void *owner) {
    return queue_change(queue, EPOLL_CTL_ADD, fd, owner, EPOLLIN);
}

static inline int queue_want_write(int queue, int fd, void *owner, int wanted) {
    return queue_change(queue, EPOLL_CTL_MOD, fd, owner, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static inline int queue_want_read(int queue, int fd, void *owner, int wanted) {
    /* Used while a write is pending only: a reader that is switched off waits for room. */
    return queue_change(queue, EPOLL_CTL_MOD, fd, owner, wanted ? EPOLLIN : EPOLLOUT);
}

static inline int queue_wait(int queue, struct ready out[READY_MAX], int timeout_ms) {
    struct epoll_event events[READY_MAX];
    int count = epoll_wait(queue, events, READY_MAX, timeout_ms);
    for (int i = 0; i < count; i++) {
        out[i].owner = events[i].data.ptr;
        out[i].what = (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? READY_READ : 0) |
                      (events[i].events & EPOLLOUT ? READY_WRITE : 0);
    }
    return count;
}

#else
#include <sys/types.h>
#include <sys/event.h>
#include <time.h>

static inline int queue_open(void) { return kqueue(); }

static inline int queue_change(int queue, int filter, int operation, int fd, void *owner) {
    struct kevent change;
    EV_SET(&change, fd, filter, operation, 0, 0, owner);
    return kevent(queue, &change, 1, NULL, 0, NULL);
}

static inline int queue_add(int queue, int fd, void *owner) {
    return queue_change(queue, EVFILT_READ, EV_ADD, fd, owner);
}

static inline int queue_want_write(int queue, int fd, void *owner, int wanted) {
    return queue_change(queue, EVFILT_WRITE, wanted ? EV_ADD : EV_DELETE, fd, owner);
}

static inline int queue_want_read(int queue, int fd, void *owner, int wanted) {
    if (queue_change(queue, EVFILT_READ, wanted ? EV_ADD : EV_DELETE, fd, owner) < 0) return -1;
    return queue_want_write(queue, fd, owner, !wanted);
}

static inline int queue_wait(int queue, struct ready out[READY_MAX], int timeout_ms) {
    struct kevent events[READY_MAX];
    struct timespec limit = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    int count = kevent(queue, NULL, 0, events, READY_MAX, timeout_ms < 0 ? NULL : &limit);
    for (int i = 0; i < count; i++) {
        out[i].owner = events[i].udata;
        out[i].what = events[i].filter == EVFILT_WRITE ? READY_WRITE : READY_READ;
    }
    return count;
}
#endif

#endif
