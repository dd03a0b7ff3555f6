/* load: the client side of the benchmark. It connects first, says so, then does what it is told on stdin.
 *
 *     load echo|http|udp|fetch|idle|connect --port N [--host A] [--connections N] [--size BYTES]
 *          [--window N] [--path /] [--sources N]
 *
 *     echo     N connections send BYTES and wait for the same BYTES; length and both ends are checked
 *     http     N keep-alive connections GET a path; status and Content-Length are checked
 *     udp      N sockets with a window of N datagrams each send BYTES; the same, and what is lost is sent anew
 *     fetch    one connection orders a file of BYTES (8 bytes, big-endian), reads it, orders again; both ends are checked
 *     idle     N connections are held
 *     connect  N at a time are opened, echo BYTES once and are closed, half of them by reset
 *
 * It prints {"connected": N}. Then one line in, one line of JSON out, until stdin ends:
 *     seconds S | count C   do it; prints requests, errors, lost, first_error, seconds, p50_us, p99_us, p999_us, max_us
 *     rate R seconds S      echo, http: R requests per second, at times that are drawn beforehand (Poisson), whether
 *                           those before are answered or not; a latency counts from the time drawn. lag_us is by how much the
 *                           program itself was late, on average: so much of each latency is its own
 *     alive                 idle: prints how many connections are still open and silent
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

struct options options = {.host = "127.0.0.1", .connections = 1, .window = 1, .size = 1024, .path = "/"};
struct tally tally;

void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(1);
}

void count_error(const char *format, ...) {
    if (tally.errors++) return;
    va_list values;
    va_start(values, format);
    vsnprintf(tally.first_error, sizeof tally.first_error, format, values);
    va_end(values);
}

/* ---- latency: a histogram of 64 steps per power of two, 1.6 % wide ---- */

void count_answer(uint64_t latency_ns) {
    int power = latency_ns < LATENCY_STEPS ? LATENCY_BITS : 63 - __builtin_clzll(latency_ns);
    tally.latency[power * LATENCY_STEPS + (int)(latency_ns >> (power - LATENCY_BITS) & (LATENCY_STEPS - 1))]++;
    tally.requests++;
}

static double latency_us(double share) {
    uint64_t wanted = (uint64_t)((double)tally.requests * share), seen = 0;
    for (int i = 0; i < LATENCY_BUCKETS; i++) {
        seen += tally.latency[i];
        if (!seen || seen < wanted) continue;
        return (double)((LATENCY_STEPS + (uint64_t)(i % LATENCY_STEPS)) << (i / LATENCY_STEPS - LATENCY_BITS)) / 1e3;
    }
    return 0;
}

/* ---- report ---- */

static void print_quoted(const char *text) {
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else putchar((unsigned char)*text < ' ' ? ' ' : *text);
    putchar('"');
}

static void print_report(void) {
    printf("{\"requests\": %llu, \"errors\": %llu, \"lost\": %llu, \"seconds\": %.9f, ",
           (unsigned long long)tally.requests, (unsigned long long)tally.errors, (unsigned long long)tally.lost,
           tally.seconds);
    printf("\"lag_us\": %.2f, ", tally.requests ? (double)tally.lag_ns / 1e3 / (double)tally.requests : 0);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"first_error\": ",
           latency_us(.5), latency_us(.99), latency_us(.999), latency_us(1));
    print_quoted(tally.first_error);
    printf("}\n");
    fflush(stdout);
}

/* ---- options ---- */

static long number(const char *name, const char *text, long least) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < least) die("%s: not a number of at least %ld: %s", name, least, text);
    return value;
}

static enum mode mode_named(const char *name) {
    static const char *const names[MODES] = {"echo", "http", "udp", "fetch", "idle", "connect"};
    for (int i = 0; i < MODES; i++)
        if (!strcmp(name, names[i])) return (enum mode)i;
    die("unknown mode %s: echo, http, udp, fetch, idle or connect", name);
}

static void set_option(const char *name, const char *value) {
    if (!strcmp(name, "--host")) options.host = value;
    else if (!strcmp(name, "--port")) options.port = (int)number(name, value, 1);
    else if (!strcmp(name, "--connections")) options.connections = (int)number(name, value, 1);
    else if (!strcmp(name, "--window")) options.window = (int)number(name, value, 1);
    else if (!strcmp(name, "--size")) options.size = (size_t)number(name, value, 1);
    else if (!strcmp(name, "--path")) options.path = value;
    else if (!strcmp(name, "--sources")) options.sources = (int)number(name, value, 0);
    else die("unknown option %s", name);
}

static void check_udp(void) {
    if (options.window > WINDOW_MAX) die("--window: %d at most", WINDOW_MAX);
    if (options.connections > CONNECTIONS_MAX) die("--connections: %d at most", CONNECTIONS_MAX);
    if (options.size > DATAGRAM_MAX) die("--size: a datagram holds %d bytes at most", DATAGRAM_MAX);
}

static void parse(int count, char **words) {
    if (count < 2) die("which mode? echo, http, udp, fetch, idle or connect");
    options.mode = mode_named(words[1]);
    for (int i = 2; i < count; i += 2) {
        if (i + 1 == count) die("%s needs a value", words[i]);
        set_option(words[i], words[i + 1]);
    }
    if (!options.port) die("--port is needed");
    if (options.mode == MODE_UDP) check_udp();
}

/* ---- commands ---- */

static void obey(const char *line) {
    struct bounds bounds = {0};
    if (!strncmp(line, "alive", 5) && options.mode == MODE_IDLE) {
        printf("{\"alive\": %d}\n", idle_alive());
        fflush(stdout);
        return;
    }
    if (sscanf(line, "rate %lf seconds %lf", &bounds.rate, &bounds.seconds) == 2) {
        if (bounds.rate <= 0 || (options.mode != MODE_ECHO && options.mode != MODE_HTTP))
            die("not a command here: %s", line);
    } else if (!strncmp(line, "seconds ", 8)) bounds.seconds = strtod(line + 8, NULL);
    else if (!strncmp(line, "count ", 6)) bounds.count = strtoull(line + 6, NULL, 10);
    if ((bounds.seconds <= 0 && !bounds.count) || options.mode == MODE_IDLE) die("not a command here: %s", line);
    memset(&tally, 0, sizeof tally);
    if (options.mode == MODE_CONNECT) connect_run(bounds);
    else if (options.mode == MODE_UDP) datagrams_run(bounds);
    else if (options.mode == MODE_FETCH) fetch_run(bounds);
    else exchange_run(bounds);
    print_report();
}

int main(int count, char **words) {
    char line[256];
    signal(SIGPIPE, SIG_IGN);
    parse(count, words);
    if (options.mode == MODE_IDLE) idle_open();
    else if (options.mode == MODE_UDP) datagrams_open();
    else if (options.mode == MODE_FETCH) fetch_open();
    else if (options.mode != MODE_CONNECT) exchange_open();
    printf("{\"connected\": %d}\n", options.mode == MODE_CONNECT ? 0 : options.connections);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) obey(line);
    return 0;
}
