/* Publishes for some seconds: each connection sends a request, waits for the response, and sends the next one.
 *
 *     publisher [-H "Name: value"] [-d BODY] PORT PATH CONNECTIONS SECONDS [PAUSE]
 *
 * With PAUSE (seconds) each connection sends at most one request per PAUSE, and the connections take turns. The body is what `subscribers` looks for: a
 * stamp (CLOCK_MONOTONIC, nanoseconds), a space and 100 characters; with -d it is BODY, in which the first STAMP stands
 * for that. The Content-Type is text/plain, or application/json with -d, unless a -H gives another. Connections are
 * kept alive and reused for all requests. Prints one JSON object: the requests answered with 2xx, the seconds taken,
 * and the median and 99th percentile of the milliseconds until the response. Any other response ends it with exit code
 * 1, as does a connection that the server closes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LARGEST = 65536,     /* bytes of a request, and of a response */
    SAMPLES = 1 << 20,
    PAD = 100,
};

struct connection {
    int fd, waiting;     /* waiting: a request was sent, its response is not complete */
    long long sent_at, next_at;
    size_t received;
    char response[LARGEST];
};

static struct connection *connections;
static char head[LARGEST];
static const char *body_before = "", *body_after = "";
static char pad[PAD + 2];
static long count, published, open_connections;
static long long until, pause_ns;
static long long samples[SAMPLES];
static long sampled;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "publisher: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(1);
}

static void post(struct connection *c) {
    static char request[LARGEST * 3], body[LARGEST];
    long long stamp = now();
    int size = snprintf(body, sizeof body, "%s%lld%s%s", body_before, stamp, pad, body_after);
    int length = snprintf(request, sizeof request, "%sContent-Length: %d\r\n\r\n%s", head, size, body);
    if (send(c->fd, request, length, MSG_NOSIGNAL) != length) fail("cannot send a request: %s", strerror(errno));
    c->sent_at = stamp;
    c->received = 0;
    c->waiting = 1;
}

/* Whether the response is complete, framed by its length or in chunks; the servers measured here send no trailers. */
static int complete(const struct connection *c) {
    const char *body = strstr(c->response, "\r\n\r\n");
    if (!body) return 0;
    body += 4;
    size_t here = c->response + c->received - body;
    for (const char *line = c->response; line < body; line = strstr(line, "\r\n") + 2)
        if (!strncasecmp(line, "content-length:", 15)) return here >= strtoul(line + 15, NULL, 10);
    return here >= 5 && !memcmp(body + here - 5, "0\r\n\r\n", 5);
}

static void finish(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    open_connections--;
}

static void receive(struct connection *c) {
    ssize_t got = read(c->fd, c->response + c->received, LARGEST - 1 - c->received);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("the server closed a publisher's connection");
    c->received += got;
    c->response[c->received] = 0;
    if (!complete(c)) {
        if (c->received == LARGEST - 1) fail("the response is larger than %d bytes", LARGEST);
        return;
    }
    if (strncmp(c->response, "HTTP/1.1 2", 10)) fail("refused: %.300s", c->response);
    long long at = now();
    if (sampled < SAMPLES) samples[sampled++] = at - c->sent_at;
    c->waiting = 0;
    published++;
    if (at >= until) {
        finish(c);
    } else if (pause_ns) {
        c->next_at += pause_ns;
        if (c->next_at < at) c->next_at = at; /* what was late is not made up for: requests would come in bursts */
    } else {
        post(c);
    }
}

static void open_all(int port, int epoll) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    for (long i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("cannot connect: %s", strerror(errno));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        connections[i].fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    open_connections = count;
}

/* Sends what is due; returns the time until the next request is due (at most 100 ms), in nanoseconds. */
static long long post_due(void) {
    long long at = now(), least = 100000000;
    for (long i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        if (c->fd < 0 || c->waiting) continue;
        if (c->next_at <= at) {
            post(c);
        } else if (c->next_at - at < least) {
            least = c->next_at - at;
        }
    }
    return least;
}

static int ascending(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static void report(long long began) {
    double seconds = (now() - began) / 1e9;
    qsort(samples, sampled, sizeof *samples, ascending);
    printf("{\"published\": %ld, \"seconds\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", published, seconds,
           samples[(sampled - 1) / 2] / 1e6, samples[(long)((sampled - 1) * 0.99)] / 1e6);
}

int main(int argc, char **argv) {
    char headers[LARGEST / 2] = "";
    const char *type = NULL;
    char *body = NULL;
    int option, has_type = 0;
    while ((option = getopt(argc, argv, "H:d:")) != -1) {
        switch (option) {
        case 'H':
            if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) return 2;
            has_type |= !strncasecmp(optarg, "content-type:", 13);
            strcat(strcat(headers, optarg), "\r\n");
            break;
        case 'd': body = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind < 4 || argc - optind > 5) {
        fprintf(stderr, "usage: publisher [-H HEADER] [-d BODY] PORT PATH CONNECTIONS SECONDS [PAUSE]\n");
        return 2;
    }
    if (body) {
        char *stamp = strstr(body, "STAMP");
        if (!stamp || strlen(body) > LARGEST / 2) fail("the body must contain STAMP, and be below %d bytes", LARGEST / 2);
        *stamp = 0;
        body_before = body;
        body_after = stamp + 5;
    }
    type = has_type ? "" : body ? "Content-Type: application/json\r\n" : "Content-Type: text/plain\r\n";
    pad[0] = ' ';
    memset(pad + 1, 'x', PAD);
    int length = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s", argv[optind + 1], type, headers);
    if (length >= (int)sizeof head) return 2;
    count = atol(argv[optind + 2]);
    connections = calloc(count, sizeof *connections);
    pause_ns = argc - optind == 5 ? (long long)(atof(argv[optind + 4]) * 1e9) : 0;

    int epoll = epoll_create1(0);
    struct epoll_event events[64];
    open_all(atoi(argv[optind]), epoll);
    long long began = now();
    until = began + (long long)(atof(argv[optind + 3]) * 1e9);
    for (long i = 0; i < count; i++) connections[i].next_at = began + pause_ns * i / count;
    while (open_connections) {
        long long wait = post_due();
        struct timespec timeout = {.tv_nsec = wait};
        int n = epoll_pwait2(epoll, events, 64, &timeout, NULL);
        for (int i = 0; i < n; i++) receive(&connections[events[i].data.u64]);
    }
    report(began);
    return 0;
}
