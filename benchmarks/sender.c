/* A broadcaster that costs as little as it can, so that the receiver beside it is what is measured.
 *
 *     sender [--host H] [--port P] [--redis HOST:PORT] [--connections N] [--rate R] [--bytes B] [--publishers K]
 *            [--seconds S] [--batch-ms M] [--personal]
 *
 * Speaks the reference gateway's contract on /ws (plain) and /socket.io/ (Engine.IO 4, websocket transport), and answers
 * GET /health and /stats.  With --redis it passes on what arrives on tickstock.*; else it makes its own messages: once N
 * connections have subscribed, each gets R messages/s (0: as many as it takes) of about B bytes for S seconds (0: until
 * ended), in turn from K publishers, with Tickstorm's identity, run "bench", times of CLOCK_MONOTONIC.  Each message is
 * one send() per connection; --batch-ms joins what came within M ms; --personal writes a number of the recipient
 * into each frame, so that no two connections get the same bytes.  SIGTERM ends it; the last line is one JSON object.
 * It filters nothing: every subscriber gets everything.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 1 << 17, IN = 8192, OUT_LIMIT = 8 << 20, FLAT_OUT_HIGH = 1 << 16, FRAME = 1 << 16, REDIS_IN = 1 << 22 };

struct client {
    int fd, upgraded, socketio, subscribed, want_write;
    size_t in, out, out_at, out_room;   /* bytes in `text`; bytes queued in `queue` from out_at on */
    char *queue, text[IN];
};

static struct client *clients[MAX_FD], *ready_list[MAX_FD];
static int set, subscribed, redis_fd = -1, listener;
static double batch_ms;
static size_t queued_total;
static uint64_t sends, deliveries, received, dropped_clients, waits;
static volatile sig_atomic_t ended;

static void die(const char *what) { perror(what); exit(1); }
static void on_signal(int number) { (void)number; ended = 1; }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* -- SHA-1 and base64 of the upgrade's key (RFC 3174, RFC 4648) */

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const unsigned char *data, size_t size, unsigned char digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    unsigned char m[128] = {0};
    size_t total = size + 9 > 64 ? 128 : 64;
    memcpy(m, data, size);
    m[size] = 0x80;
    for (int i = 0; i < 8; i++) m[total - 1 - i] = (size * 8) >> (8 * i);
    for (size_t block = 0; block < total; block += 64) {
        for (int i = 0; i < 16; i++) {
            const unsigned char *b = m + block + 4 * i;
            w[i] = (uint32_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            static const uint32_t k[4] = {0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6};
            uint32_t t = rol(a, 5) + f + e + k[i / 20] + w[i];
            e = d, d = c, c = rol(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

static void base64(const unsigned char *data, int size, char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < size; i += 3) {
        uint32_t v = data[i] << 16 | (i + 1 < size ? data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
        for (int k = 0; k < 4; k++) *out++ = i + k > size ? '=' : letters[v >> (18 - 6 * k) & 63];
    }
    *out = 0;
}

/* -- sending */

static void drop(struct client *c) {
    epoll_ctl(set, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    clients[c->fd] = NULL;
    subscribed -= c->subscribed;
    queued_total -= c->out;
    free(c->queue);
    free(c);
}

static void watch(struct client *c, int want_write) {
    if (c->want_write == want_write) return;
    c->want_write = want_write;
    struct epoll_event e = {.events = EPOLLIN | (want_write ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(set, EPOLL_CTL_MOD, c->fd, &e);
}

/* Queue what the socket does not take; returns -1 where the client is gone. */
static int put(struct client *c, const char *data, size_t size) {
    if (!c->out) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        sends++;
        if (n < 0 && errno != EAGAIN) { drop(c); return -1; }
        if (n > 0) data += n, size -= n;
        if (!size) return 0;
        waits++;
    }
    if (c->out + size > OUT_LIMIT) { dropped_clients++; drop(c); return -1; }
    if (c->out_at + c->out + size > c->out_room) {
        if (c->out) memmove(c->queue, c->queue + c->out_at, c->out);
        c->out_at = 0;
        if (c->out + size > c->out_room) c->queue = realloc(c->queue, c->out_room = (c->out + size) * 2);
    }
    memcpy(c->queue + c->out_at + c->out, data, size);
    c->out += size, queued_total += size;
    watch(c, 1);
    return 0;
}

static void drain(struct client *c) {
    ssize_t n = send(c->fd, c->queue + c->out_at, c->out, MSG_NOSIGNAL | MSG_DONTWAIT);
    sends++;
    if (n < 0) { if (errno != EAGAIN) drop(c); return; }
    c->out_at += n, c->out -= n, queued_total -= n;
    if (!c->out) c->out_at = 0, watch(c, 0);
}

static size_t frame(char *out, const char *payload, size_t size) {
    size_t head = 2;
    out[0] = (char)0x81;
    if (size < 126) out[1] = size;
    else out[1] = 126, out[2] = size >> 8, out[3] = size & 255, head = 4;
    memmove(out + head, payload, size);
    return head + size;
}

static int say(struct client *c, const char *text) {
    char out[IN + 16];
    return put(c, out, frame(out, text, strlen(text)));
}

/* What one turn sends, plain and as Socket.IO. */
static char plain[REDIS_IN], sio[REDIS_IN];
static size_t plain_size, sio_size;
static unsigned joined;

/* Where the recipient's number stands in them (--personal). */
enum { TO_DIGITS = 6, PLACES = 4096 };
static int personal;
struct places { char *at[PLACES]; unsigned count; };
static struct places plain_to, sio_to;

static void address(struct places *to, int number) {
    char digits[TO_DIGITS];
    for (int i = TO_DIGITS - 1; i >= 0; i--, number /= 10) digits[i] = '0' + number % 10;
    for (unsigned i = 0; i < to->count; i++) memcpy(to->at[i], digits, TO_DIGITS);
}

static void keep_place(struct places *to, char *from, char *end) {
    char *at = personal ? memmem(from, end - from, "\"to\":\"", 6) : NULL;
    if (at && to->count < PLACES) to->at[to->count++] = at + 6;
}

static void flush_batch(void) {
    if (!joined) return;
    int count = 0;
    for (int fd = 0; fd < MAX_FD && count < subscribed; fd++)
        if (clients[fd] && clients[fd]->subscribed) ready_list[count++] = clients[fd];
    for (int i = 0; i < count; i++) {
        struct client *c = ready_list[i];
        deliveries += joined;
        if (personal) address(c->socketio ? &sio_to : &plain_to, c->fd);
        put(c, c->socketio ? sio : plain, c->socketio ? sio_size : plain_size);
    }
    plain_size = sio_size = joined = plain_to.count = sio_to.count = 0;
}

static void add_message(const char *channel, size_t channel_size, const char *payload, size_t size) {
    static char text[FRAME];
    const char *type = memmem(payload, size, "\"event_type\":\"", 14);
    const char *end = type ? memchr(type + 14, '"', payload + size - type - 14) : NULL;
    int name = end ? end - type - 14 : 7;
    const char *event = end ? type + 14 : "message";
    if (size + channel_size + 200 > FRAME) return;
    if (plain_size + size + 512 > REDIS_IN || sio_size + size + 512 > REDIS_IN || plain_to.count == PLACES) flush_batch();
    const char *to = personal ? "\"to\":\"000000\"," : "";
    int n = snprintf(text, sizeof text, "{\"event\":\"%.*s\",%s\"channel\":\"%.*s\",\"data\":%.*s}", name, event, to,
                     (int)channel_size, channel, (int)size, payload);
    char *from = plain + plain_size;
    plain_size += frame(from, text, n);
    keep_place(&plain_to, from, plain + plain_size);
    n = snprintf(text, sizeof text, "42[\"%.*s\",{%s%.*s]", name, event, to, (int)size - 1, payload + 1);
    from = sio + sio_size;
    sio_size += frame(from, text, n);
    keep_place(&sio_to, from, sio + sio_size);
    joined++;
}

/* -- clients */

static void answer_http(struct client *c, const char *body) {
    char out[512];
    int n = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
        "Connection: close\r\n\r\n%s", strlen(body), body);
    if (put(c, out, n) == 0 && clients[c->fd]) drop(c);
}

static void upgrade(struct client *c) {
    char out[512], body[300], accept[32], key[100] = "";
    if (!strncmp(c->text, "GET /health", 11)) {
        snprintf(body, sizeof body, "{\"status\":\"ready\",\"redis\":\"subscribed\",\"postgres\":\"ok\",\"clients\":%d,"
            "\"subscribed\":%d,\"version\":\"bench\"}", subscribed, subscribed);
        answer_http(c, body);
        return;
    }
    const char *at = strcasestr(c->text, "\r\nSec-WebSocket-Key:");
    if (!at || sscanf(at + 20, " %60[A-Za-z0-9+/=]", key) != 1) {
        struct rusage u;
        getrusage(RUSAGE_SELF, &u);
        snprintf(body, sizeof body, "{\"received\":%lu,\"deliveries\":%lu,\"rss_bytes\":%ld}", received, deliveries, u.ru_maxrss * 1024);
        answer_http(c, body);
        return;
    }
    unsigned char digest[20];
    strcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    sha1((unsigned char *)key, strlen(key), digest);
    base64(digest, 20, accept);
    int n = snprintf(out, sizeof out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    c->upgraded = 1;
    c->socketio = !strncmp(c->text, "GET /socket.io/", 15);
    if (put(c, out, n)) return;
    if (c->socketio) say(c, "0{\"sid\":\"bench\",\"upgrades\":[],\"pingInterval\":3000000,\"pingTimeout\":3000000,\"maxPayload\":1000000}");
}

static void hear(struct client *c, char *text, size_t size) {
    char answer[256];
    text[size] = 0;
    const char *id = strstr(text, "\"id\":");
    int number = id ? atoi(id + 5) : 0;
    if (c->socketio && !strncmp(text, "40", 2)) { say(c, "40{\"sid\":\"bench\"}"); return; }
    int on = strstr(text, "unsubscribe") ? 0 : strstr(text, "subscribe") ? 1 : -1;
    if (on < 0) return;
    const char *lists = "\"channels\":[],\"patterns\":[],\"symbols\":[]";
    if (c->socketio && text[2] >= '0' && text[2] <= '9') snprintf(answer, sizeof answer, "43%d[{\"id\":%d,%s}]", atoi(text + 2), number, lists);
    else if (c->socketio) snprintf(answer, sizeof answer, "42[\"%ssubscribed\",{\"id\":%d,%s}]", on ? "" : "un", number, lists);
    else snprintf(answer, sizeof answer, "{\"event\":\"%ssubscribed\",\"data\":{\"id\":%d,%s}}", on ? "" : "un", number, lists);
    if (say(c, answer)) return;
    subscribed += on - c->subscribed;
    c->subscribed = on;
}

static void read_client(struct client *c) {
    int fd = c->fd;
    ssize_t n = recv(fd, c->text + c->in, IN - 1 - c->in, 0);
    if (n <= 0) { drop(c); return; }
    c->in += n;
    c->text[c->in] = 0;
    if (!c->upgraded) {
        char *end = strstr(c->text, "\r\n\r\n");
        if (!end) return;
        size_t used = end + 4 - c->text;
        upgrade(c);
        if (clients[fd] != c) return;
        memmove(c->text, c->text + used, c->in -= used);
    }
    for (size_t at = 0; clients[fd] == c;) {
        size_t left = c->in - at, size = left >= 2 ? (unsigned char)c->text[at + 1] & 127 : 0, head = size == 126 ? 4 : 2;
        if (left < 2 || left < head) { memmove(c->text, c->text + at, c->in = left); break; }
        if (head == 4) size = (unsigned char)c->text[at + 2] << 8 | (unsigned char)c->text[at + 3];
        if (left < head + 4 + size) {
            if (head + 4 + size > IN - 1) drop(c);
            else memmove(c->text, c->text + at, c->in = left);
            break;
        }
        char *mask = c->text + at + head, *text = mask + 4;
        char copy[IN];
        for (size_t i = 0; i < size; i++) copy[i] = text[i] ^ mask[i & 3];
        int opcode = c->text[at] & 15;
        at += head + 4 + size;
        if (opcode == 8) { put(c, "\x88\x02\x03\xe8", 4); if (clients[fd] == c) drop(c); break; }
        if (opcode == 1) hear(c, copy, size);
    }
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), one = 1;
        if (fd < 0) return;
        if (fd >= MAX_FD) { close(fd); return; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd] = calloc(1, sizeof(struct client));
        clients[fd]->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
}

/* -- Redis */

static void open_redis(const char *address) {
    char host[64] = "127.0.0.1";
    int port = 6379;
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2) { errno = EINVAL; die("--redis HOST:PORT"); }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    redis_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(redis_fd, (struct sockaddr *)&to, sizeof to)) die("redis");
    static const char ask[] = "*2\r\n$10\r\nPSUBSCRIBE\r\n$11\r\ntickstock.*\r\n";
    if (send(redis_fd, ask, sizeof ask - 1, 0) < 0) die("redis");
    struct epoll_event e = {.events = EPOLLIN, .data.fd = redis_fd};
    if (epoll_ctl(set, EPOLL_CTL_ADD, redis_fd, &e)) die("epoll_ctl");
}

/* One bulk string of a reply; NULL where it is not whole yet. */
static const char *bulk(const char *at, const char *end, const char **text, size_t *size) {
    const char *line = memchr(at, '\n', end - at);
    if (!line) return NULL;
    *size = *at == '$' ? strtoul(at + 1, NULL, 10) : 0;
    *text = line + 1;
    if (*at == ':') return line + 1;
    return (size_t)(end - line - 1) < *size + 2 ? NULL : line + 1 + *size + 2;
}

static void read_redis(void) {
    static char in[REDIS_IN];
    static size_t held;
    ssize_t n = recv(redis_fd, in + held, sizeof in - held, MSG_DONTWAIT);
    if (n <= 0) { if (n == 0 || errno != EAGAIN) die("redis left"); return; }
    held += n;
    const char *at = in, *end = in + held;
    while (at < end) {
        const char *line = memchr(at, '\n', end - at), *next = line ? line + 1 : NULL, *part[4];
        size_t size[4];
        int parts = *at == '*' ? atoi(at + 1) : 0;
        for (int i = 0; next && i < parts && i < 4; i++) next = bulk(next, end, &part[i], &size[i]);
        if (!next) break;
        if (parts == 4 && size[0] == 8) {
            received++;
            add_message(part[2], size[2], part[3], size[3]);
            if (batch_ms == 0) flush_batch();
        }
        at = next;
    }
    memmove(in, at, held = end - at);
}

/* -- own messages */

static void make_message(uint64_t n, int publishers, size_t size_wanted, int64_t due) {
    static const char channel[] = "tickstock.events.patterns";
    char payload[4096];
    int64_t now = now_ns();
    int size = snprintf(payload, sizeof payload, "{\"event_type\":\"pattern_detected\",\"pattern\":\"Doji\",\"symbol\":\"TEST_%04d\","
        "\"tickstorm\":{\"r\":\"bench\",\"s\":%llu,\"q\":%llu,\"d\":%lld,\"t\":%lld},\"confidence\":0.87", (int)(n % publishers),
        (unsigned long long)(n % publishers) << 32, (unsigned long long)(n / publishers), (long long)due, (long long)now);
    size_t around = 70;
    if (size + around + 14 < size_wanted && size_wanted < sizeof payload - 64) {
        size += snprintf(payload + size, sizeof payload - size, ",\"padding\":\"%.*s\"", (int)(size_wanted - size - around - 13),
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    }
    payload[size++] = '}';
    received++;
    add_message(channel, sizeof channel - 1, payload, size);
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"redis", 1, 0, 'r'}, {"connections", 1, 0, 'n'},
        {"rate", 1, 0, 'e'}, {"bytes", 1, 0, 'b'}, {"publishers", 1, 0, 'k'}, {"seconds", 1, 0, 's'}, {"batch-ms", 1, 0, 'm'}, {"personal", 0, 0, 'i'}, {0}};
    const char *host = "127.0.0.1", *redis = NULL;
    int port = 0, wanted = 1, publishers = 20, bytes = 260, option, started = 0;
    double rate = 0, seconds = 0;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) switch (option) {
        case 'h': host = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'r': redis = optarg; break;
        case 'n': wanted = atoi(optarg); break;
        case 'e': rate = atof(optarg); break;
        case 'b': bytes = atoi(optarg); break;
        case 'k': publishers = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'm': batch_ms = atof(optarg); break;
        case 'i': personal = 1; break;
        default: return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sigaction end = {.sa_handler = on_signal};
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGINT, &end, NULL);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof at;
    int one = 1;
    inet_pton(AF_INET, host, &at.sin_addr);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&at, &size);
    set = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &e);
    if (redis) open_redis(redis);
    printf("sender ready on %s:%d\n", host, ntohs(at.sin_port));
    fflush(stdout);

    int64_t begin = 0, flushed = 0;
    uint64_t made = 0;
    while (!ended) {
        int64_t now = now_ns();
        int wait = 100;
        if (!redis && !started && subscribed >= wanted) started = 1, begin = now + 200000000;
        if (started && !redis) {
            double age = (now - begin) / 1e9;
            if (seconds > 0 && age >= seconds) started = 2;
            if (started == 1 && rate > 0) {
                uint64_t due = age > 0 ? age * rate + 1 : 0;
                while (made < due) {
                    make_message(made, publishers, bytes, begin + (int64_t)(made / rate * 1e9));
                    made++;
                    if (batch_ms == 0) flush_batch();
                }
                wait = 1;
            } else if (started == 1 && age >= 0) {
                if (queued_total < FLAT_OUT_HIGH * (size_t)wanted / 4) {
                    for (int i = 0; i < 64; i++, made++) make_message(made, publishers, bytes, now_ns());
                    flush_batch();
                    wait = 0;
                } else wait = 1;
            }
        }
        if (joined && (now - flushed) / 1e6 >= batch_ms) flush_batch(), flushed = now;
        if (joined) wait = 1;
        struct epoll_event ready[512];
        int n = epoll_wait(set, ready, 512, wait);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) accept_all();
            else if (fd == redis_fd) read_redis();
            else {
                if (clients[fd] && ready[i].events & EPOLLOUT) drain(clients[fd]);
                if (clients[fd] && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_client(clients[fd]);
            }
        }
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double cpu = u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    printf("{\"received\":%lu,\"deliveries\":%lu,\"sends\":%lu,\"queued_times\":%lu,\"dropped_clients\":%lu,\"cpu_s\":%.3f}\n",
        received, deliveries, sends, waits, dropped_clients, cpu);
    return 0;
}
