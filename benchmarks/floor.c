/* What would a C program need for the same work?  The floor: epoll, read, cut frames, find the identity, count.
 *
 *     floor HOST PORT CONNECTIONS WARM_UP_S SECONDS
 *
 * Opens plain WebSockets, subscribes, and accounts every message per connection and stream: gaps, repeats, latency from
 * due to read.  CPU and counts are those of SECONDS after WARM_UP_S; the last line is one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 4096, ROOM = 1 << 16, READ = 1 << 14, BUCKETS = 1 << 13 };

struct connection {
    int fd;
    size_t held;             /* bytes of an unfinished frame at the start of `data` */
    char *data;              /* ROOM bytes, once a frame was cut in two */
    int64_t last[STREAMS];   /* last seq + 1 by stream, 0 before the first; untouched pages cost nothing */
};

static uint64_t messages, bytes, reads, gaps, repeats, other, histogram[BUCKETS];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what) { perror(what); exit(1); }

/* Microseconds, exact below 256, then 128 equal buckets for every power of two: the scale of our own histograms. */
static unsigned bucket(int64_t us) {
    if (us < 0) us = 0;
    if (us < 256) return us;
    unsigned shift = 63 - __builtin_clzll(us) - 7, b = (shift << 7) + (us >> shift);
    return b < BUCKETS ? b : BUCKETS - 1;
}

static double quantile_ms(double q) {
    uint64_t rank = q * messages, seen = 0;
    for (unsigned b = 0; b < BUCKETS; b++)
        if ((seen += histogram[b]) > rank) return (b < 256 ? b : (uint64_t)((b & 127) + 128) << ((b >> 7) - 1)) / 1000.0;
    return 0;
}

static void account(struct connection *c, const char *text, size_t size, int64_t now) {
    const char *id = memmem(text, size, "\"tickstorm\":{", 13);
    const char *stream = id ? memmem(id, text + size - id, "\"s\":", 4) : NULL;
    if (!stream) { other++; return; }
    char *at;
    uint64_t s = strtoull(stream + 4, &at, 10);
    int64_t seq = strtoll(at + 5, &at, 10), due = strtoll(at + 5, &at, 10);
    int64_t *last = &c->last[((s >> 32) * 64 + (s & 0xfffff)) % STREAMS];      /* exact below 64 slots x 64 routes */
    if (*last && seq != *last) { if (seq > *last) gaps += seq - *last; else repeats++; }
    if (seq >= *last) *last = seq + 1;
    histogram[bucket((now - due) / 1000)]++;
    messages++;
}

static int take(struct connection *c, char *scratch) {
    char *data = scratch;
    if (c->held) { data = c->data; }
    ssize_t got = recv(c->fd, data + c->held, READ, 0);
    if (got <= 0) return got == 0 ? -1 : 0;
    int64_t now = now_ns();
    size_t end = c->held + got, at = 0;
    bytes += got, reads++;
    while (end - at >= 2) {
        size_t size = (unsigned char)data[at + 1], head = 2;
        if (size == 126) head = 4; else if (size == 127) head = 10;
        if (end - at < head) break;
        if (head == 4) size = (unsigned char)data[at + 2] << 8 | (unsigned char)data[at + 3];
        if (head == 10 || size > ROOM / 2) die("a frame too long for the floor");
        if (end - at < head + size) break;
        if ((data[at] & 15) == 1) account(c, data + at + head, size, now);
        at += head + size;
    }
    c->held = end - at;
    if (c->held) {
        if (!c->data) c->data = malloc(ROOM);
        memmove(c->data, data + at, c->held);
    }
    return 0;
}

static int connect_one(struct sockaddr_in *to, const char *host, int port) {
    char buffer[4096];
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)to, sizeof *to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int size = snprintf(buffer, sizeof buffer, "GET /ws HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n", host, port);
    if (send(fd, buffer, size, 0) != size) die("send");
    size_t got = 0;
    while (got < 4 || memcmp(buffer + got - 4, "\r\n\r\n", 4)) {       /* byte by byte: what follows is frames */
        if (got == sizeof buffer || recv(fd, buffer + got++, 1, 0) != 1) die("upgrade");
    }
    if (memcmp(buffer, "HTTP/1.1 101", 12)) { errno = 0; die("the upgrade was refused"); }
    static const char ask[] = "{\"action\":\"subscribe\",\"id\":1}";     /* masked with zeros, which masks nothing */
    size = snprintf(buffer, sizeof buffer, "\x81%c%c%c%c%c%s", (char)(0x80 | (sizeof ask - 1)), 0, 0, 0, 0, ask);
    if (send(fd, buffer, size, 0) != size) die("send");
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: floor HOST PORT CONNECTIONS WARM_UP_S SECONDS\n"); return 2; }
    int port = atoi(argv[2]), count = atoi(argv[3]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    int set = epoll_create1(0);
    static char scratch[ROOM];
    for (int i = 0; i < count; i++) {
        struct connection *c = calloc(1, sizeof *c);
        c->fd = connect_one(&to, argv[1], port);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(set, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    }
    int64_t begin = now_ns() + atof(argv[4]) * 1e9, end = begin + atof(argv[5]) * 1e9;
    int measuring = 0, open = count;
    double cpu = 0;
    for (;;) {
        int64_t now = now_ns();
        if (!measuring && now >= begin) {
            measuring = 1, messages = bytes = reads = 0, cpu = cpu_s(), begin = now;
            memset(histogram, 0, sizeof histogram);
        }
        if (now >= end || !open) break;
        struct epoll_event ready[64];
        int n = epoll_wait(set, ready, 64, 50);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (take(c, scratch) < 0) { close(c->fd); open--; }
        }
    }
    double seconds = (now_ns() - begin) / 1e9, used = cpu_s() - cpu;
    printf("{\"messages\":%lu,\"bytes\":%lu,\"reads\":%lu,\"gaps\":%lu,\"repeats\":%lu,\"other\":%lu,\"open\":%d,\"seconds\":%.3f,"
        "\"cpu_s\":%.4f,\"cpu_s_per_million\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", messages, bytes, reads, gaps, repeats,
        other, open, seconds, used, messages ? used * 1e6 / messages : 0, quantile_ms(0.5), quantile_ms(0.99));
    return 0;
}
