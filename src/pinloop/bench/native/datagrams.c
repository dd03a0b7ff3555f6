/* udp: N connected sockets, each with a window of datagrams under way, so that the server meets a backlog.
 *
 * A place in the window is free, or waits for the echo of its latest datagram. UDP may lose one: a place that has
 * waited for LOST_MS sends anew, and what comes back late, or twice, is passed over. Whatever else goes wrong counts as one
 * error and closes that socket; the others go on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "events.h"
#include "load.h"

enum { STAMP = 8, LOST_MS = 200, SWEEP_MS = 50, STALL_MS = 10000 };

/* Which datagram this is: the socket's number, the place in its window, how often the place has sent. */
enum { PLACE_BITS = 8, SERIAL_BITS = 40 };
#define SERIAL_MASK ((UINT64_C(1) << SERIAL_BITS) - 1)

struct place {
    uint64_t stamp; /* of its latest datagram; the serial is in the low bits */
    uint64_t sent_ns;
    int waits;
};

struct channel {
    int fd; /* -1 once closed */
    uint64_t heard_ns; /* the last right echo, or the beginning of the run */
    struct place *places;
};

static struct channel *channels;
static int queue, waiting; /* waiting: places that wait, of all channels */

/* One buffer per datagram of a batch; those that come in have one byte more, which tells one that is too long. */
static char *outgoing, *incoming;
static struct iovec out_parts[WINDOW_MAX], in_parts[WINDOW_MAX];
static size_t in_lengths[WINDOW_MAX];

static struct bounds bounds;
static uint64_t run_ends_ns, run_issued, last_answer_ns;

/* ---- a batch of datagrams to or from one socket ---- */

#ifdef __linux__
static struct mmsghdr out_headers[WINDOW_MAX], in_headers[WINDOW_MAX];

static void prepare_batches(void) {
    for (int i = 0; i < options.window; i++) {
        out_headers[i].msg_hdr = (struct msghdr){.msg_iov = &out_parts[i], .msg_iovlen = 1};
        in_headers[i].msg_hdr = (struct msghdr){.msg_iov = &in_parts[i], .msg_iovlen = 1};
    }
}

/* How many of the first count went out: fewer if the system has no room, -1 if it says that this is hopeless. */
static int send_batch(int fd, int count) { return sendmmsg(fd, out_headers, (unsigned)count, 0); }

static int receive_batch(int fd) {
    int count = recvmmsg(fd, in_headers, (unsigned)options.window, 0, NULL);
    for (int i = 0; i < count; i++) in_lengths[i] = in_headers[i].msg_len;
    return count;
}
#else
static void prepare_batches(void) {}

static int send_batch(int fd, int count) {
    int sent = 0;
    while (sent < count && send(fd, out_parts[sent].iov_base, options.size, 0) >= 0) sent++;
    return sent ? sent : -1;
}

static int receive_batch(int fd) {
    int count = 0;
    for (; count < options.window; count++) {
        ssize_t length = recv(fd, in_parts[count].iov_base, options.size + 1, 0);
        if (length < 0) return count ? count : -1;
        in_lengths[count] = (size_t)length;
    }
    return count;
}
#endif

/* ---- sending ---- */

static void give_up(struct channel *c, const char *why) {
    count_error("socket %d: %s", (int)(c - channels), why);
    for (int i = 0; i < options.window; i++) {
        waiting -= c->places[i].waits;
        c->places[i].waits = 0;
    }
    close(c->fd);
    c->fd = -1;
}

static int time_is_over(uint64_t now) { return run_ends_ns && now >= run_ends_ns; }

/* Write the next datagram of a place into the batch. */
static void stamp_next(struct channel *c, struct place *place, int at, uint64_t now) {
    uint64_t which = ((uint64_t)(c - channels) << PLACE_BITS | (uint64_t)(place - c->places)) << SERIAL_BITS;
    place->stamp = which | ((place->stamp + 1) & SERIAL_MASK);
    place->sent_ns = now;
    waiting += !place->waits;
    place->waits = 1;
    char *data = out_parts[at].iov_base;
    memcpy(data, &place->stamp, STAMP);
    memcpy(data + options.size - STAMP, &place->stamp, STAMP);
}

/* What does not go out for want of room is lost like any other: its place sends anew. */
static void send_stamped(struct channel *c, int count) {
    if (count && send_batch(c->fd, count) < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
        give_up(c, strerror(errno));
}

static void fill_window(struct channel *c, uint64_t now) {
    int count = 0;
    for (int i = 0; i < options.window; i++) {
        struct place *place = &c->places[i];
        if (place->waits || time_is_over(now) || (bounds.count && run_issued >= bounds.count)) continue;
        run_issued++;
        stamp_next(c, place, count++, now);
    }
    send_stamped(c, count);
}

/* ---- receiving ---- */

enum verdict { RIGHT, LATE, WRONG };

/* Whose echo this is. The two ends agree, and name a place of this socket that waits for it. */
static enum verdict judge(struct channel *c, const char *data, size_t length, struct place **found) {
    uint64_t head, tail;
    if (length != options.size) return WRONG;
    memcpy(&head, data, STAMP);
    memcpy(&tail, data + length - STAMP, STAMP);
    uint64_t number = head >> SERIAL_BITS >> PLACE_BITS, at = head >> SERIAL_BITS & ((1 << PLACE_BITS) - 1);
    if (head != tail || number != (uint64_t)(c - channels) || at >= (uint64_t)options.window) return WRONG;
    *found = &c->places[at];
    if (head == (*found)->stamp && (*found)->waits) return RIGHT;
    return head <= (*found)->stamp ? LATE : WRONG;
}

/* Take the echoes of one batch; false if one was wrong, and the socket is closed. */
static int take_batch(struct channel *c, int count, uint64_t now) {
    for (int i = 0; i < count; i++) {
        struct place *place;
        enum verdict verdict = judge(c, in_parts[i].iov_base, in_lengths[i], &place);
        if (verdict == WRONG) {
            give_up(c, in_lengths[i] == options.size ? "wrong bytes" : "wrong length");
            return 0;
        }
        if (verdict == LATE) continue;
        place->waits = 0;
        waiting--;
        count_answer(now - place->sent_ns);
        c->heard_ns = last_answer_ns = now;
    }
    return 1;
}

static void on_readable(struct channel *c) {
    for (;;) {
        int count = receive_batch(c->fd);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count < 0) {
            give_up(c, strerror(errno));
            return;
        }
        uint64_t now = now_ns();
        if (!take_batch(c, count, now)) return;
        fill_window(c, now);
        if (c->fd < 0 || count < options.window) return; /* the queue will tell of more */
    }
}

/* ---- the run ---- */

/* Send anew what was lost; after the end of the time, let it be. */
static void sweep(struct channel *c, uint64_t now) {
    int count = 0, over = time_is_over(now);
    for (int i = 0; i < options.window; i++) {
        struct place *place = &c->places[i];
        if (!place->waits || now - place->sent_ns < LOST_MS * UINT64_C(1000000)) continue;
        tally.lost++;
        if (!over) {
            stamp_next(c, place, count++, now);
            continue;
        }
        place->waits = 0;
        waiting--;
    }
    if (count && now - c->heard_ns > STALL_MS * UINT64_C(1000000)) give_up(c, "no answer for 10 seconds");
    else send_stamped(c, count);
}

static void sweep_all(uint64_t now) {
    for (int i = 0; i < options.connections; i++)
        if (channels[i].fd >= 0) sweep(&channels[i], now);
}

static void begin(struct bounds wanted) {
    uint64_t now = now_ns();
    bounds = wanted;
    run_issued = 0;
    last_answer_ns = now;
    run_ends_ns = wanted.seconds > 0 ? now + (uint64_t)(wanted.seconds * 1e9) : 0;
    for (int i = 0; i < options.connections; i++) {
        channels[i].heard_ns = now;
        if (channels[i].fd >= 0) fill_window(&channels[i], now);
    }
}

void datagrams_run(struct bounds wanted) {
    struct ready ready[READY_MAX];
    uint64_t started = now_ns(), swept = started;
    begin(wanted);
    while (waiting) {
        int count = queue_wait(queue, ready, SWEEP_MS);
        if (count < 0 && errno != EINTR) die("wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            struct channel *c = ready[i].owner;
            if (c->fd >= 0) on_readable(c);
        }
        uint64_t now = now_ns();
        if (now - swept < SWEEP_MS * UINT64_C(1000000)) continue;
        swept = now;
        sweep_all(now);
    }
    tally.seconds = (double)(last_answer_ns - started) / 1e9;
    for (int i = 0; i < options.connections; i++)
        if (channels[i].fd >= 0) return;
    count_error("every socket is closed");
}

static void prepare_buffers(void) {
    size_t room = options.size + 1;
    outgoing = malloc(room * (size_t)options.window);
    incoming = malloc(room * (size_t)options.window);
    if (!outgoing || !incoming) die("out of memory");
    for (int i = 0; i < options.window; i++) {
        out_parts[i] = (struct iovec){outgoing + room * (size_t)i, options.size};
        in_parts[i] = (struct iovec){incoming + room * (size_t)i, room};
        memset(out_parts[i].iov_base, 'a' + i % 23, options.size);
    }
    prepare_batches();
}

void datagrams_open(void) {
    if (options.size < 2 * STAMP) options.size = 2 * STAMP; /* as echo does */
    queue = queue_open();
    if (queue < 0) die("event queue: %s", strerror(errno));
    prepare_buffers();
    channels = calloc((size_t)options.connections, sizeof *channels);
    if (!channels) die("out of memory");
    for (int i = 0; i < options.connections; i++) {
        struct channel *c = &channels[i];
        c->places = calloc((size_t)options.window, sizeof *c->places);
        if (!c->places) die("out of memory");
        c->fd = socket_to_server(SOCK_DGRAM, i);
        if (c->fd < 0) die("socket %d of %d: %s", i + 1, options.connections, strerror(errno));
        set_nonblocking(c->fd);
        if (queue_add(queue, c->fd, c) < 0) die("watch: %s", strerror(errno));
    }
}
