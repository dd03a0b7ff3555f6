/* A clock that moves by the program's own doings, preloaded into a process whose instructions are counted.
 *
 * A loop looks at the clock to decide whether to poll, and which timers are due. Under valgrind it runs some fifty
 * times slower, and faster or slower with the machine: what is counted would depend on that. Here each look at
 * the monotonic clock takes 500 ns, and a wait with a time limit in which nothing happens ends at once and takes
 * that long. So a run repeats exactly, at about the pace that the program has without valgrind.
 *
 * For a process of one thread: nobody else can bring about what a wait waits for.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

enum { LOOK_NS = 500 };

static uint64_t now_ns = 1000000000000u;

int clock_gettime(clockid_t id, struct timespec *time) {
    if (id != CLOCK_MONOTONIC) return (int)syscall(SYS_clock_gettime, id, time);
    now_ns += LOOK_NS;
    time->tv_sec = (time_t)(now_ns / 1000000000u);
    time->tv_nsec = (long)(now_ns % 1000000000u);
    return 0;
}

int epoll_wait(int queue, struct epoll_event *events, int room, int timeout_ms) {
    int found = (int)syscall(SYS_epoll_wait, queue, events, room, timeout_ms < 0 ? -1 : 0);
    if (found == 0) now_ns += (uint64_t)timeout_ms * 1000000u;
    return found;
}

int epoll_pwait(int queue, struct epoll_event *events, int room, int timeout_ms, const sigset_t *mask) {
    (void)mask; /* no signals here */
    return epoll_wait(queue, events, room, timeout_ms);
}

static long wait_ns(int queue, struct epoll_event *events, int room, const struct timespec *timeout) {
    int found = epoll_wait(queue, events, room, timeout ? 0 : -1);
    if (found == 0) now_ns += (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
    return found;
}

long syscall(long number, ...) {
    static long (*real)(long, ...);
    long a, b, c, d, e, f;
    va_list words;
    va_start(words, number);
    a = va_arg(words, long), b = va_arg(words, long), c = va_arg(words, long);
    d = va_arg(words, long), e = va_arg(words, long), f = va_arg(words, long);
    va_end(words);
    if (number == SYS_epoll_pwait2) return wait_ns((int)a, (struct epoll_event *)b, (int)c, (const struct timespec *)d);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, a, b, c, d, e, f);
}
