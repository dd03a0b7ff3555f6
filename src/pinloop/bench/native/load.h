/* The load program's parts: what one connection is, what a run has counted, and who does what.
 *
 *     load.c      options, commands, the report          (knows every part)
 *     net.c       addresses, connecting, the clock       (knows nobody)
 *     exchange.c  echo and http: N connections, one request at a time on each
 *     datagrams.c udp: N sockets, a window of datagrams on each
 *     fetch.c     fetch: a file over and over, thrown away
 *     hold.c      idle and connect: connections that are held, or opened and closed
 */
#ifndef PINLOOP_BENCH_LOAD_H
#define PINLOOP_BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>

enum mode { MODE_ECHO, MODE_HTTP, MODE_UDP, MODE_FETCH, MODE_IDLE, MODE_CONNECT, MODES };

enum { WINDOW_MAX = 64, CONNECTIONS_MAX = 65535, DATAGRAM_MAX = 65507 };

/* The first and the last bytes of every file that is fetched. */
#define FETCH_FIRST "pinloop>"
#define FETCH_LAST "<pinloop"

struct options {
    enum mode mode;
    const char *host; /* numeric IPv4 */
    int port;
    int connections;
    int window;       /* udp: datagrams under way on each socket */
    size_t size;      /* echo, udp, connect: bytes per message; fetch: of the file */
    const char *path; /* http */
    int sources;      /* source addresses 127.0.0.1 … 127.0.0.<sources>; 0 leaves the choice to the kernel */
};

extern struct options options;

/* Bounds of one run: whichever is not zero. With a rate it is an open loop; see exchange.c. */
struct bounds {
    double seconds;
    uint64_t count;
    double rate; /* echo, http: requests per second; 0 for as many as are answered */
};

enum { LATENCY_BITS = 6, LATENCY_STEPS = 1 << LATENCY_BITS, LATENCY_BUCKETS = 64 * LATENCY_STEPS, ERROR_TEXT = 160 };

struct tally {
    uint64_t requests; /* answered, and found right */
    uint64_t errors;
    uint64_t lost;  /* datagrams that were sent anew */
    uint64_t lag_ns; /* open loop: by how much requests were sent late by our own fault, all together */
    double seconds; /* from the first request sent to the last answer */
    uint64_t latency[LATENCY_BUCKETS];
    char first_error[ERROR_TEXT];
};

extern struct tally tally;

/* load.c */
void count_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void count_answer(uint64_t latency_ns);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* net.c */
uint64_t now_ns(void);
int socket_to_server(int kind, int number); /* SOCK_STREAM or SOCK_DGRAM; blocking; -1 and errno */
int connect_to_server(int number);          /* a stream with TCP_NODELAY; -1 and errno */
void set_nonblocking(int fd);
void set_patience(int fd, int seconds); /* a blocking call on fd fails with EAGAIN after that long */

/* exchange.c */
void exchange_open(void);
void exchange_run(struct bounds bounds);

/* datagrams.c */
void datagrams_open(void);
void datagrams_run(struct bounds bounds);

/* fetch.c */
void fetch_open(void);
void fetch_run(struct bounds bounds);

/* hold.c */
void idle_open(void);
int idle_alive(void); /* how many connections are still open and silent */
void connect_run(struct bounds bounds);

#endif
