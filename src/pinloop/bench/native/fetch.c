/* fetch: one connection orders a file by its size, reads it to its end and orders again. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "load.h"

enum { MARK = 8, SCRATCH = 512 * 1024 };

static int fd;
static char scratch[SCRATCH];

/* Receive at most limit bytes of what lies between the marks. They are thrown away inside the kernel where it
 * knows how (Linux): a sink that copies would be slower than the server that it drives. */
static ssize_t discard(size_t limit) {
#ifdef __linux__
    return recv(fd, scratch, limit, MSG_TRUNC);
#else
    return recv(fd, scratch, limit < SCRATCH ? limit : SCRATCH, 0);
#endif
}

static const char *reason(ssize_t count) {
    if (count == 0) return "closed by the server";
    return errno == EAGAIN || errno == EWOULDBLOCK ? "nothing for 10 seconds" : strerror(errno);
}

/* NULL if the next bytes are the mark, else what is wrong. */
static const char *expect(const char mark[MARK]) {
    char got[MARK];
    for (size_t have = 0; have < MARK;) {
        ssize_t count = recv(fd, got + have, MARK - have, 0);
        if (count <= 0) return reason(count);
        have += (size_t)count;
    }
    return memcmp(got, mark, MARK) ? "wrong bytes" : NULL;
}

static const char *fetch_one(void) {
    unsigned char order[MARK];
    for (int i = 0; i < MARK; i++) order[i] = (unsigned char)((uint64_t)options.size >> (56 - 8 * i));
    if (send(fd, order, MARK, 0) != MARK) return strerror(errno);
    const char *wrong = expect(FETCH_FIRST);
    for (size_t left = options.size - 2 * MARK; left && !wrong;) {
        ssize_t count = discard(left);
        if (count <= 0) wrong = reason(count);
        else left -= (size_t)count;
    }
    if (wrong) return wrong;
    return expect(FETCH_LAST);
}

void fetch_open(void) {
    if (options.connections != 1) die("fetch has one connection");
    if (options.size < 2 * MARK) die("--size: a file has %d bytes at least", 2 * MARK);
    fd = connect_to_server(0);
    if (fd < 0) die("connect: %s", strerror(errno));
}

/* An error is the last thing that such a connection sees. */
void fetch_run(struct bounds bounds) {
    uint64_t started = now_ns(), ends = started + (uint64_t)(bounds.seconds * 1e9), now = started;
    while (bounds.count ? tally.requests < bounds.count : now < ends) {
        uint64_t ordered = now;
        const char *wrong = fetch_one();
        if (wrong) {
            count_error("file %llu: %s", (unsigned long long)tally.requests + 1, wrong);
            break;
        }
        now = now_ns();
        count_answer(now - ordered);
    }
    tally.seconds = (double)(now - started) / 1e9;
}
