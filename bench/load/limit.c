/* The physical limit of fan-out without joining: one thread, one send() for each reader and event, nothing else.
 *
 *     limit PORT
 *
 * GET follows the one topic that there is, any other method publishes its body to it. Keeps no history and reads no
 * header, so it is not a server to be used; but nothing that sends each event by itself can be faster.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536, LARGEST = 65536 };

static const char STREAM[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "4\r\n:ok\n\r\n";
static const char PUBLISHED[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok";

static int readers[MOST];
static long count, last_id;

static void publish(const char *data) {
    static char event[LARGEST + 64], chunk[LARGEST + 128];
    int size = snprintf(event, sizeof event, "id: %ld\ndata: %s\n\n", ++last_id, data);
    int length = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", size, event);
    for (long i = 0; i < count; i++) {
        if (send(readers[i], chunk, length, MSG_DONTWAIT | MSG_NOSIGNAL) == length) continue;
        shutdown(readers[i], SHUT_RDWR); /* too slow: the bench sees that it was closed */
        readers[i--] = readers[--count];
    }
}

static void forget(int fd) {
    for (long i = 0; i < count; i++)
        if (readers[i] == fd) {
            readers[i] = readers[--count];
            break;
        }
    close(fd);
}

static void serve(int fd) {
    static char request[LARGEST];
    ssize_t got = read(fd, request, sizeof request - 1);
    if (got <= 0) {
        forget(fd);
        return;
    }
    request[got] = 0;
    char *body = strstr(request, "\r\n\r\n"); /* the bench sends a request in one piece */
    if (!body || (request[0] == 'G' && count == MOST)) {
        forget(fd);
    } else if (request[0] == 'G') {
        if (write(fd, STREAM, sizeof STREAM - 1) > 0) readers[count++] = fd;
    } else {
        publish(body + 4);
        if (write(fd, PUBLISHED, sizeof PUBLISHED - 1) < 0) forget(fd);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: limit PORT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("limit");
        return 1;
    }
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            event.data.fd = fd;
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
