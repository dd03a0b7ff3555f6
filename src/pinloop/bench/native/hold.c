/* idle and connect: connections that are only held, or opened, used once and closed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

static int *held;

void idle_open(void) {
    held = calloc((size_t)options.connections, sizeof *held);
    if (!held) die("out of memory");
    for (int i = 0; i < options.connections; i++) {
        held[i] = connect_to_server(i);
        if (held[i] < 0) die("connect %d of %d: %s", i + 1, options.connections, strerror(errno));
    }
}

int idle_alive(void) {
    int alive = 0;
    for (int i = 0; i < options.connections; i++) {
        char byte;
        alive += recv(held[i], &byte, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    }
    return alive;
}

/* One round trip on a blocking socket: whether the bytes came back. */
static int echoes(int fd, const char *sent, char *got) {
    if (send(fd, sent, options.size, 0) != (ssize_t)options.size) return 0;
    for (size_t received = 0; received < options.size;) {
        ssize_t count = recv(fd, got + received, options.size - received, 0);
        if (count <= 0) return 0;
        received += (size_t)count;
    }
    return !memcmp(sent, got, options.size);
}

/* Every second connection leaves by reset: a server meets both ends of a connection, and the ports of these are
 * free again at once. */
static void leave(int fd, uint64_t serial) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (serial % 2) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

/* Open a wave of connections, let each echo one message, close them all. */
static void wave(int *fds, int width, uint64_t serial, const char *sent, char *got) {
    for (int i = 0; i < width; i++) {
        fds[i] = connect_to_server((int)((serial + (uint64_t)i) % 1000000));
        if (fds[i] < 0) count_error("connect %llu: %s", (unsigned long long)serial + i, strerror(errno));
    }
    for (int i = 0; i < width; i++) {
        if (fds[i] < 0) continue;
        uint64_t started = now_ns();
        if (echoes(fds[i], sent, got)) count_answer(now_ns() - started);
        else count_error("connection %llu: its bytes did not come back", (unsigned long long)serial + i);
    }
    for (int i = 0; i < width; i++)
        if (fds[i] >= 0) leave(fds[i], serial + (uint64_t)i);
}

void connect_run(struct bounds bounds) {
    int *fds = calloc((size_t)options.connections, sizeof *fds);
    char *sent = malloc(options.size + 1), *got = malloc(options.size + 1);
    if (!fds || !sent || !got) die("out of memory");
    memset(sent, 'c', options.size);
    uint64_t started = now_ns(), ends = started + (uint64_t)(bounds.seconds * 1e9), done = 0;
    while (bounds.count ? done < bounds.count : now_ns() < ends) {
        uint64_t left = bounds.count ? bounds.count - done : UINT64_MAX;
        int width = left < (uint64_t)options.connections ? (int)left : options.connections;
        wave(fds, width, done, sent, got);
        done += (uint64_t)width;
    }
    tally.seconds = (double)(now_ns() - started) / 1e9;
    free(fds);
    free(sent);
    free(got);
}
