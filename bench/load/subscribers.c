/* N readers of an event stream over one epoll: what arrives, how much of it, and how late.
 *
 *     subscribers [-X METHOD] [-d BODY] [-H "Name: value"] [-T FILE] [-n EVENTS] [-t SECONDS] [-a TEXT] [-l] [-s]
 *                 PORT PATH READERS
 *
 * An event counts when its data holds a stamp: CLOCK_MONOTONIC in nanoseconds, within the first characters of the line
 * (so `data: 1234567890123 text` and `data: {"content": "1234567890123"}` count, greetings and end markers do not), or
 * with -a right after the first TEXT in it. Its age on arrival is its latency; all processes of one machine share that
 * clock. -l: all readers follow the same events, and how old each is when the last of them has it is measured, too.
 *
 * -T: each reader is a user of its own, and sends one line of FILE as its bearer token.
 *
 * Writes {"ready": true, …} once each reader has the head of its answer, and the result when each has had EVENTS
 * events or after SECONDS without all of them. Without -n it waits for that number on stdin (the bench knows it once it
 * has published); the end of stdin ends it. -s: only the end of stdin ends it (idle connections), and comments, such as
 * heartbeats, are counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    KEPT = 1024,         /* bytes of an unfinished line that are kept between two reads */
    STAMP_WITHIN = 24,   /* the stamp begins within so many characters of the data */
    STAMP_DIGITS = 10,   /* fewer digits are no stamp: ten seconds after boot it has them */
    SAMPLES = 1 << 20,
    ROUNDS = 1 << 16,    /* events whose last reader is looked for */
    STDIN = -1,
};

struct reader {
    int fd, has_head, inside_line;
    size_t kept;
    long events;
    char tail[KEPT];
};

/* One event on its way to all readers: how many have it, and when the latest of them got it. */
struct round {
    long had;
    long long stamp, last_at;
};

static struct reader *readers;
static struct round *rounds; /* by the event's number; NULL without -l */
static const char *before_stamp;
static int stay;
static long count, ready, closed, comments, expected = -1, behind, total;
static long long bytes, first_at, last_at;
static long long samples[SAMPLES];
static long sampled, stride = 1, until_sample = 1;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "subscribers: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
    exit(1);
}

static void sample(long long latency) {
    if (--until_sample) return;
    until_sample = stride;
    if (sampled == SAMPLES) { /* full: every second one stays, and from now on half as many come */
        for (long i = 0; i < SAMPLES / 2; i++) samples[i] = samples[2 * i];
        sampled = SAMPLES / 2;
        stride *= 2;
    }
    samples[sampled++] = latency;
}

static int ascending(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static double percentile(double part) {
    return sampled ? samples[(long)((sampled - 1) * part)] / 1e6 : 0;
}

static void take_round(long number, long long stamp, long long at) {
    if (number >= ROUNDS) return;
    struct round *round = &rounds[number];
    if (!round->had++) round->stamp = stamp;
    if (round->stamp != stamp) {
        errno = 0;
        fail("readers of one topic were given different events");
    }
    round->last_at = at; /* reads come one after the other */
}

/* The last of these in each event that all have had, as samples (those of single readers are done with). */
static long sample_rounds(void) {
    long whole = 0;
    for (long n = 0; rounds && n < ROUNDS && rounds[n].had; n++)
        if (rounds[n].had == count) samples[whole++] = rounds[n].last_at - rounds[n].stamp;
    return whole;
}

static void take_data(struct reader *r, const char *data, const char *end, long long at) {
    if (before_stamp) {
        data = memmem(data, end - data, before_stamp, strlen(before_stamp));
        if (!data) return;
        data += strlen(before_stamp);
    }
    const char *last = data + STAMP_WITHIN < end ? data + STAMP_WITHIN : end;
    for (const char *p = data; p < last; p++) {
        if (*p < '0' || *p > '9') continue;
        char *stop;
        long long stamp = strtoll(p, &stop, 10);
        if (stop - p < STAMP_DIGITS) return;
        if (!first_at) first_at = at;
        last_at = at;
        total++;
        if (rounds) take_round(r->events, stamp, at);
        if (++r->events == expected) behind--;
        sample(at - stamp);
        return;
    }
}

/* The events in these bytes (which end with a NUL); answers how many of them, at the end, are to be seen again. */
static size_t take(struct reader *r, const char *p, const char *end, long long at) {
    const char *field;
    while ((field = memmem(p, end - p, "\ndata: ", 7))) {
        const char *data = field + 7, *eol = memchr(data, '\n', end - data);
        if (!eol && end - field < KEPT) return end - field;
        take_data(r, data, eol ? eol : end, at);
        p = data;
    }
    return end - p < 6 ? end - p : 6; /* all but the last byte of "\ndata: " */
}

/* Lines that begin with a colon, in the bytes that have just come. */
static void take_comments(struct reader *r, const char *p, const char *end) {
    for (; p < end; p++) {
        comments += *p == ':' && !r->inside_line;
        r->inside_line = *p != '\n';
    }
}

static void receive(struct reader *r) {
    static char buffer[KEPT + (1 << 18) + 1];
    memcpy(buffer, r->tail, r->kept);
    ssize_t got = read(r->fd, buffer + r->kept, sizeof buffer - KEPT - 1);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        close(r->fd);
        r->fd = -1;
        closed++;
        return;
    }
    long long at = now();
    bytes += got;
    char *begin = buffer, *end = buffer + r->kept + got;
    *end = 0;
    if (stay) take_comments(r, end - got, end);
    if (!r->has_head) {
        if (got < 16 || strncmp(buffer, "HTTP/1.1 2", 10)) {
            fprintf(stderr, "subscribers: the answer is no stream: %.200s\n", buffer);
            exit(1);
        }
        begin = strstr(buffer, "\r\n\r\n"); /* heads come in one piece from all servers here */
        if (!begin) { errno = 0; fail("the head of an answer came in pieces"); }
        r->has_head = 1;
        ready++;
    }
    r->kept = take(r, begin, end, at);
    memcpy(r->tail, end - r->kept, r->kept);
}

static void expect(long events) {
    expected = events;
    behind = 0;
    for (long i = 0; i < count; i++) behind += readers[i].events < expected;
}

/* The lines of a file of tokens, one for each reader, each as a header. */
static char **read_tokens(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    char **headers = calloc(count, sizeof *headers), *line = NULL;
    size_t size = 0;
    for (long i = 0; i < count; i++) {
        ssize_t length = getline(&line, &size, file);
        if (length <= 0) {
            fprintf(stderr, "subscribers: %s has %ld tokens for %ld readers\n", path, i, count);
            exit(1);
        }
        line[strcspn(line, "\r\n")] = 0;
        if (asprintf(&headers[i], "Authorization: Bearer %s\r\n", line) < 0) fail("memory");
    }
    free(line);
    fclose(file);
    return headers;
}

/* `head` is the request up to its last header, `rest` the empty line and the body. */
static void open_readers(int port, const char *head, char **tokens, const char *rest, int epoll) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (long i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0) fail("socket");
        if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
        char *request;
        int length = asprintf(&request, "%s%s%s", head, tokens ? tokens[i] : "", rest);
        if (length < 0 || write(fd, request, length) != length) fail("write");
        free(request);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        readers[i].fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static void report(long long began) {
    long least = total;
    for (long i = 0; i < count; i++) if (readers[i].events < least) least = readers[i].events;
    qsort(samples, sampled, sizeof *samples, ascending);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"events\": %ld, \"least\": %ld, \"closed\": %ld, \"bytes\": %lld, \"seconds\": %.6f, \"elapsed\": %.3f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, \"cpu\": %.3f, \"comments\": %ld, ",
           total, least, closed, bytes, (last_at - first_at) / 1e9, (now() - began) / 1e9, percentile(0.5),
           percentile(0.99), percentile(1), cpu, comments);
    sampled = sample_rounds();
    qsort(samples, sampled, sizeof *samples, ascending);
    printf("\"rounds\": %ld, \"last_p50_ms\": %.3f, \"last_p99_ms\": %.3f, \"last_max_ms\": %.3f}\n", sampled,
           percentile(0.5), percentile(0.99), percentile(1));
}

int main(int argc, char **argv) {
    const char *method = "GET", *body = NULL, *token_file = NULL;
    char headers[4096] = "";
    double limit = 60;
    int option;
    while ((option = getopt(argc, argv, "X:d:H:T:n:t:a:ls")) != -1) {
        switch (option) {
        case 'X': method = optarg; break;
        case 'd': body = optarg; break;
        case 'H':
            if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) return 2;
            strcat(strcat(headers, optarg), "\r\n");
            break;
        case 'T': token_file = optarg; break;
        case 'a': before_stamp = optarg; break;
        case 'l': rounds = calloc(ROUNDS, sizeof *rounds); break;
        case 'n': expected = atol(optarg); break;
        case 't': limit = atof(optarg); break;
        case 's': stay = 1; break;
        default: return 2;
        }
    }
    if (argc - optind != 3) {
        fprintf(stderr, "usage: subscribers [-X METHOD] [-d BODY] [-H HEADER] [-T FILE] [-n EVENTS] [-t SECONDS] [-a TEXT] "
                        "[-l] [-s] PORT PATH READERS\n");
        return 2;
    }
    count = atol(argv[optind + 2]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < (rlim_t)count + 16) {
        fprintf(stderr, "subscribers: %ld readers need as many files, allowed are %lu (ulimit -Hn)\n", count,
                (unsigned long)files.rlim_cur);
        return 1;
    }
    char length[64] = "", *head, *rest;
    if (body) snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    if (asprintf(&head, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%s%s", method,
                 argv[optind + 1], headers, length) < 0) return 1;
    if (asprintf(&rest, "\r\n%s", body ? body : "") < 0) return 1;
    char **tokens = token_file ? read_tokens(token_file) : NULL;
    readers = calloc(count, sizeof *readers);

    int epoll = epoll_create1(0), announced = 0;
    struct epoll_event input = {.events = EPOLLIN, .data.u64 = (uint64_t)STDIN}, events[512];
    int listens = expected < 0 || stay;
    if (listens && epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input)) fail("stdin");
    long long began = now(), deadline = began + (long long)(limit * 1e9);
    open_readers(atoi(argv[optind]), head, tokens, rest, epoll);
    if (expected >= 0) expect(expected);

    while (stay || ((expected < 0 || behind) && closed < count && now() < deadline)) {
        int n = epoll_wait(epoll, events, 512, 100);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 != (uint64_t)STDIN) {
                receive(&readers[events[i].data.u64]);
                continue;
            }
            char line[64];
            ssize_t got = read(0, line, sizeof line - 1);
            if (got <= 0) {
                stay = 0;
                deadline = 0;
                epoll_ctl(epoll, EPOLL_CTL_DEL, 0, NULL);
                for (long r = 0; r < count; r++) /* what has come already counts */
                    if (readers[r].fd >= 0) receive(&readers[r]);
            } else {
                line[got] = 0;
                expect(atol(line));
                deadline = now() + (long long)(limit * 1e9);
            }
        }
        if (ready == count && !announced) {
            announced = 1;
            printf("{\"ready\": true, \"seconds\": %.6f}\n", (now() - began) / 1e9);
            fflush(stdout);
        }
    }
    report(began);
    return 0;
}
