/* echo and http: N connections, each with one request under way at a time.
 *
 * A connection is idle, or sends and receives one exchange (a server may answer before it has read it all).
 * A closed loop asks again as soon as it has its answer. An open loop has a rate: when each request is due is drawn
 * without a look at the server, a due request takes any idle connection or waits for one, and its latency counts from
 * when it was due. So a server that stalls pays for every request that would have come meanwhile.
 * Whatever goes wrong counts as one error and closes that connection; the others go on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "events.h"
#include "load.h"

enum { STAMP = 8, SCRATCH = 512 * 1024, HEAD_MAX = 4096, STALL_MS = 10000, PEEK = 4096, SPIN_NS = 5000000 };

struct conn {
    int fd; /* -1 once closed */
    int number;
    int busy, wants_write;
    uint64_t started_ns, serial;
    unsigned char stamp[STAMP]; /* first and last bytes of this echo: whose, and which */
    size_t sent, received;      /* bytes of this exchange */
    char *head;                 /* http: the head of the answer so far */
    size_t head_length, answer_length; /* answer_length: head and body, 0 until the head is read */
};

static struct conn *conns;
static int queue, open_conns, busy_conns;
static char scratch[SCRATCH];
static char *message; /* echo: what lies between the stamps; http: the whole request */
static size_t message_length;

static struct bounds bounds;
static uint64_t run_started_ns, run_ends_ns, run_issued, last_answer_ns;
static struct conn **idle; /* open loop: connections that are free */
static int idle_count;
static uint64_t due_ns; /* open loop: when the next request is due; UINT64_MAX once all are sent */
static uint64_t no_idle_ns; /* open loop: when a due request last found no connection */
static uint64_t dice;

static void set_idle(struct conn *c) {
    if (c->busy) busy_conns--;
    c->busy = 0;
}

static void give_up(struct conn *c, const char *why) {
    count_error("connection %d, request %llu: %s", c->number, (unsigned long long)c->serial, why);
    set_idle(c);
    close(c->fd);
    c->fd = -1;
    open_conns--;
}

/* ---- sending ---- */

static int echo_parts(struct conn *c, struct iovec parts[3]) {
    /* The message is stamp, middle, stamp; only what is not sent yet. The middle is shared, so that a thousand
     * connections of 100 KiB do not turn the client into a test of the memory. */
    size_t lengths[3] = {STAMP, message_length - 2 * STAMP, STAMP}, skip = c->sent;
    char *bases[3] = {(char *)c->stamp, message, (char *)c->stamp};
    int count = 0;
    for (int i = 0; i < 3; i++) {
        size_t used = skip < lengths[i] ? skip : lengths[i];
        skip -= used;
        if (used < lengths[i]) parts[count++] = (struct iovec){bases[i] + used, lengths[i] - used};
    }
    return count;
}

static ssize_t send_rest(struct conn *c) {
    if (options.mode == MODE_HTTP) return send(c->fd, message + c->sent, message_length - c->sent, 0);
    struct iovec parts[3];
    struct msghdr header = {.msg_iov = parts};
    header.msg_iovlen = echo_parts(c, parts);
    return sendmsg(c->fd, &header, 0);
}

static void on_writable(struct conn *c) {
    ssize_t count = send_rest(c);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        give_up(c, strerror(errno));
        return;
    }
    if (count > 0) c->sent += (size_t)count;
    int wants = c->sent < message_length;
    if (wants == c->wants_write) return;
    c->wants_write = wants;
    if (queue_want_write(queue, c->fd, c, wants) < 0) die("watch: %s", strerror(errno));
}

/* ---- open loop: when ---- */

/* The gaps are the same in every run, so all servers meet the same requests at the same times. */
static void draw_next_due(void) {
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    double share = ((double)(dice >> 11) + 1) / 9007199254740992.0; /* in (0, 1] */
    due_ns += (uint64_t)(-log(share) / bounds.rate * 1e9);
    if (due_ns >= run_ends_ns) due_ns = UINT64_MAX;
}

static int run_is_over(uint64_t now) {
    if (bounds.rate) return 0; /* what was due before the end is still sent */
    return (run_ends_ns && now >= run_ends_ns) || (bounds.count && run_issued >= bounds.count);
}

static void next_request(struct conn *c, uint64_t now) {
    if (run_is_over(now)) {
        set_idle(c);
        return;
    }
    if (!c->busy) busy_conns++;
    c->busy = 1;
    c->serial++;
    c->sent = c->received = c->head_length = c->answer_length = 0;
    c->started_ns = now;
    uint64_t stamp = ((uint64_t)c->number << 40) ^ c->serial;
    memcpy(c->stamp, &stamp, STAMP);
    run_issued++;
    on_writable(c);
}

static void answered(struct conn *c) {
    uint64_t now = now_ns();
    last_answer_ns = now;
    count_answer(now - c->started_ns);
    if (!bounds.rate) next_request(c, now);
    else {
        set_idle(c);
        idle[idle_count++] = c;
    }
}

/* What is late although a connection was free is late by this program's own fault, and told in the report. */
static void send_what_is_due(uint64_t now) {
    while (due_ns <= now && idle_count) {
        struct conn *c = idle[--idle_count];
        if (c->fd < 0) continue; /* it was closed while it was idle */
        uint64_t due = due_ns;
        if (due > no_idle_ns) tally.lag_ns += now - due;
        draw_next_due();
        next_request(c, due);
    }
    if (due_ns <= now) no_idle_ns = now;
}

/* ---- receiving: echo ---- */

/* Whether data, which is bytes [at, at + length) of the echo, agrees with the stamps at its two ends. */
static int stamps_agree(const struct conn *c, const char *data, size_t at, size_t length) {
    size_t tail = message_length - STAMP;
    if (at < STAMP) {
        size_t count = length < STAMP - at ? length : STAMP - at;
        if (memcmp(data, c->stamp + at, count)) return 0;
    }
    if (at + length <= tail) return 1;
    size_t from = at > tail ? at : tail;
    return !memcmp(data + (from - at), c->stamp + (from - tail), at + length - from);
}

/* Receive some of the echo. The middle of a large one is thrown away inside the kernel where it knows how
 * (Linux): the client must not spend on copying what makes it slower than the server it drives. */
static ssize_t receive_echo(struct conn *c) {
    size_t left = message_length - c->received;
#ifdef __linux__
    if (left > 4 * PEEK && c->received >= STAMP) return recv(c->fd, scratch, left - STAMP, MSG_TRUNC);
    if (left > 4 * PEEK) left = PEEK;
#endif
    ssize_t count = recv(c->fd, scratch, left < SCRATCH ? left : SCRATCH, 0);
    if (count > 0 && !stamps_agree(c, scratch, c->received, (size_t)count)) {
        errno = EBADMSG;
        return -1;
    }
    return count;
}

static void on_echo(struct conn *c) {
    for (;;) {
        ssize_t count = receive_echo(c);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count <= 0) {
            give_up(c, count == 0 ? "closed by the server" : errno == EBADMSG ? "wrong bytes" : strerror(errno));
            return;
        }
        c->received += (size_t)count;
        if (c->received == message_length) {
            if (c->sent < message_length) give_up(c, "answered before it was asked");
            else answered(c);
            return;
        }
        if (count < PEEK) return; /* all there was: the queue will tell of more */
    }
}

/* ---- receiving: http ---- */

static const char *header_value(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') return line + 3 + length;
    return NULL;
}

/* Read the complete head: NULL if it is right, else what is wrong with it. */
static const char *read_head(struct conn *c, size_t head_end) {
    c->head[head_end - 2] = 0;
    int status = 0;
    if (sscanf(c->head, "HTTP/1.%*d %d", &status) != 1) return "not an HTTP/1 answer";
    if (status != 200) return "status is not 200";
    const char *length = header_value(c->head, "content-length");
    if (!length) return "no Content-Length";
    c->answer_length = head_end + (size_t)strtoull(length, NULL, 10);
    return NULL;
}

static const char *take_http(struct conn *c, size_t count) {
    c->received += count;
    if (!c->answer_length) {
        if (c->head_length + count >= HEAD_MAX) return "head of the answer is too long";
        memcpy(c->head + c->head_length, scratch, count);
        c->head_length += count;
        c->head[c->head_length] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) return NULL;
        const char *wrong = read_head(c, (size_t)(end - c->head) + 4);
        if (wrong) return wrong;
    }
    return c->received > c->answer_length ? "more bytes than announced" : NULL;
}

static void on_http(struct conn *c) {
    /* Never ask for more than a head may hold before its length is known. */
    ssize_t count = recv(c->fd, scratch, c->answer_length ? SCRATCH : HEAD_MAX / 2, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        give_up(c, count == 0 ? "closed by the server" : strerror(errno));
        return;
    }
    const char *wrong = take_http(c, (size_t)count);
    if (wrong) give_up(c, wrong);
    else if (c->answer_length && c->received == c->answer_length) answered(c);
}

/* ---- the run ---- */

static void on_readable(struct conn *c) {
    if (!c->busy) {
        char byte;
        if (recv(c->fd, &byte, 1, 0) < 0 && (errno == EAGAIN || errno == EINTR)) return;
        give_up(c, "closed or spoke without being asked");
    } else if (options.mode == MODE_HTTP) on_http(c);
    else on_echo(c);
}

static void dispatch(struct ready *ready) {
    struct conn *c = ready->owner;
    if (c->fd >= 0 && c->wants_write && ready->what & READY_WRITE) on_writable(c);
    if (c->fd >= 0 && ready->what & READY_READ) on_readable(c);
}

static void fail_stalled(void) {
    for (int i = 0; i < options.connections; i++)
        if (conns[i].fd >= 0 && conns[i].busy) give_up(&conns[i], "no answer for 10 seconds");
}

/* How long to wait for answers. Up to a few milliseconds before a request is due it does not sleep at all: waking up
 * takes longer than an echo, and would count as the server's. */
static int patience_ms(uint64_t now) {
    if (!bounds.rate || due_ns == UINT64_MAX || !idle_count) return STALL_MS;
    return due_ns < now + SPIN_NS ? 0 : (int)((due_ns - now) / 1000000) - 1;
}

static void begin(struct bounds wanted) {
    bounds = wanted;
    run_issued = 0;
    idle_count = 0;
    run_started_ns = last_answer_ns = due_ns = now_ns();
    run_ends_ns = wanted.seconds > 0 ? run_started_ns + (uint64_t)(wanted.seconds * 1e9) : 0;
    for (int i = 0; i < options.connections; i++) {
        if (conns[i].fd < 0) continue;
        if (wanted.rate) idle[idle_count++] = &conns[i];
        else next_request(&conns[i], run_started_ns);
    }
    dice = 88172645463325252u;
    no_idle_ns = 0;
    if (wanted.rate) draw_next_due();
    else due_ns = UINT64_MAX;
}

void exchange_run(struct bounds wanted) {
    struct ready ready[READY_MAX];
    begin(wanted);
    while (busy_conns || (due_ns != UINT64_MAX && open_conns)) {
        uint64_t now = bounds.rate ? now_ns() : 0;
        if (bounds.rate) send_what_is_due(now);
        int wait_ms = patience_ms(now), count = queue_wait(queue, ready, wait_ms);
        if (count < 0 && errno != EINTR) die("wait: %s", strerror(errno));
        if (count == 0 && wait_ms == STALL_MS) fail_stalled();
        for (int i = 0; i < count; i++) dispatch(&ready[i]);
    }
    tally.seconds = (double)(last_answer_ns - run_started_ns) / 1e9;
    if (!open_conns) count_error("every connection is closed");
}

static void prepare_message(void) {
    if (options.mode == MODE_ECHO) {
        message_length = options.size < 2 * STAMP ? 2 * STAMP : options.size;
        message = malloc(message_length);
        if (!message) die("out of memory");
        for (size_t i = 0; i < message_length; i++) message[i] = (char)('a' + i % 23);
        return;
    }
    message = malloc(HEAD_MAX);
    if (!message) die("out of memory");
    int length = snprintf(message, HEAD_MAX, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n\r\n", options.path, options.host,
                          options.port);
    if (length >= HEAD_MAX) die("path is too long");
    message_length = (size_t)length;
}

static void open_one(struct conn *c, int number) {
    c->number = number;
    c->fd = connect_to_server(number);
    if (c->fd < 0) die("connect %d of %d: %s", number + 1, options.connections, strerror(errno));
    set_nonblocking(c->fd);
    if (options.mode == MODE_HTTP && !(c->head = malloc(HEAD_MAX))) die("out of memory");
    if (queue_add(queue, c->fd, c) < 0) die("watch: %s", strerror(errno));
}

void exchange_open(void) {
    queue = queue_open();
    if (queue < 0) die("event queue: %s", strerror(errno));
    prepare_message();
    conns = calloc((size_t)options.connections, sizeof *conns);
    idle = calloc((size_t)options.connections, sizeof *idle);
    if (!conns || !idle) die("out of memory");
    for (int i = 0; i < options.connections; i++) open_one(&conns[i], i);
    open_conns = options.connections;
}
