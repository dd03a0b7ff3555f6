/* floor: the least an echo server can cost here. No Python, no protocol, no copy beyond the kernel's own.
 *
 *     floor [udp]      prints {"port": N}, then echoes on 127.0.0.1:N until its standard input ends
 *     "cpu\n" on stdin prints what this process has used so far: {"cpu_ns": …, "user": seconds, "system": seconds}
 *
 * What it does per wake-up is what any loop must do: wait, recv, send at once. What it cannot send at once it
 * keeps, and reads no more from that connection until it is sent. Of datagrams it echoes all that are there, by one
 * recvfrom and one sendto each; one for which the system has no room is dropped, as everywhere in UDP.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "events.h"

enum { CHUNK = 256 * 1024, BACKLOG = 4096, UDP_ROOM = 208 * 1024 };

struct peer {
    int fd;
    char *unsent; /* owned; NULL while nothing waits */
    size_t offset, length;
};

static char chunk[CHUNK];
static struct peer control = {.fd = STDIN_FILENO}, listener, datagrams;

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void set_nonblocking(int fd) {
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) die("fcntl");
}

static void hang_up(struct peer *peer) {
    /* An event of this batch may still name the peer (kqueue tells read and write apart), so the struct stays;
     * the number of connections bounds what that costs. */
    close(peer->fd);
    peer->fd = -1;
    free(peer->unsent);
    peer->unsent = NULL;
}

static void accept_all(int queue) {
    for (;;) {
        int fd = accept(listener.fd, NULL, NULL), on = 1;
        if (fd < 0) return;
        set_nonblocking(fd);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer) die("calloc");
        peer->fd = fd;
        if (queue_add(queue, fd, peer) < 0) die("watch");
    }
}

static void keep_unsent(int queue, struct peer *peer, const char *data, size_t length) {
    peer->unsent = malloc(length);
    if (!peer->unsent) die("malloc");
    memcpy(peer->unsent, data, length);
    peer->offset = 0;
    peer->length = length;
    if (queue_want_read(queue, peer->fd, peer, 0) < 0) die("watch");
}

static void on_readable(int queue, struct peer *peer) {
    ssize_t got = recv(peer->fd, chunk, CHUNK, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        hang_up(peer);
        return;
    }
    ssize_t sent = send(peer->fd, chunk, (size_t)got, 0);
    if (sent < 0 && errno != EAGAIN) {
        hang_up(peer);
        return;
    }
    if (sent < 0) sent = 0;
    if (sent < got) keep_unsent(queue, peer, chunk + sent, (size_t)(got - sent));
}

static void on_writable(int queue, struct peer *peer) {
    ssize_t sent = send(peer->fd, peer->unsent + peer->offset, peer->length - peer->offset, 0);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (sent < 0) {
        hang_up(peer);
        return;
    }
    peer->offset += (size_t)sent;
    if (peer->offset < peer->length) return;
    free(peer->unsent);
    peer->unsent = NULL;
    if (queue_want_read(queue, peer->fd, peer, 1) < 0) die("watch");
}

static void echo_datagrams(void) {
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t got = recvfrom(datagrams.fd, chunk, CHUNK, 0, (struct sockaddr *)&from, &length);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got >= 0) sendto(datagrams.fd, chunk, (size_t)got, 0, (struct sockaddr *)&from, length);
    }
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static void answer_control(void) {
    char line[256];
    if (read(STDIN_FILENO, line, sizeof line) <= 0) exit(0);
    struct rusage used;
    struct timespec cpu;
    getrusage(RUSAGE_SELF, &used);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("{\"cpu_ns\": %lld, \"user\": %.6f, \"system\": %.6f}\n",
           (long long)cpu.tv_sec * 1000000000LL + cpu.tv_nsec, seconds(used.ru_utime), seconds(used.ru_stime));
    fflush(stdout);
}

static int bind_anywhere(int kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, kind, 0), room = UDP_ROOM;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0) die("bind");
    if (kind == SOCK_STREAM && listen(fd, BACKLOG) < 0) die("listen");
    if (kind == SOCK_DGRAM) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) die("getsockname");
    set_nonblocking(fd);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    int queue = queue_open(), udp = count == 2 && !strcmp(words[1], "udp");
    struct peer *first = udp ? &datagrams : &listener;
    if (queue < 0) die("event queue");
    first->fd = bind_anywhere(udp ? SOCK_DGRAM : SOCK_STREAM);
    if (queue_add(queue, first->fd, first) < 0 || queue_add(queue, control.fd, &control) < 0) die("watch");
    for (;;) {
        struct ready ready[READY_MAX];
        int found = queue_wait(queue, ready, -1);
        for (int i = 0; i < found; i++) {
            struct peer *peer = ready[i].owner;
            if (peer == &control) answer_control();
            else if (peer == &listener) accept_all(queue);
            else if (peer == &datagrams) echo_datagrams();
            else if (peer->fd >= 0 && peer->unsent) on_writable(queue, peer);
            else if (peer->fd >= 0) on_readable(queue, peer);
        }
    }
}
