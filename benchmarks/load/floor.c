/* floor: the least that a websocket server costs, in system calls and memory; other servers are measured as multiples.
 *
 * It echoes every message, and sends one to everybody when a message is the trigger of a broadcast ("4b", or an event
 * named "b"): one send per receiver and message. It speaks just enough Engine.IO 4 to be measured: an open packet. It
 * checks nothing that eioload does not do, so it is not a server: no path, no key (eioload's is constant), no close
 * handshake, no heartbeat, no fragments. Messages may have up to 1 MB and arrive and leave in pieces.
 *
 * Build: gcc -O2 -o floor floor.c      Usage: floor PORT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_FILES (1 << 20)
#define LONGEST (1 << 20)
#define ROOM (LONGEST + 14)

/* Bytes that wait: the beginning of a frame, or what a receiver did not take yet. Most connections have none. */
struct waiting {
    unsigned char *data;
    size_t length;
};

struct connection {
    bool upgraded;
    int place; /* in `upgraded_fds` */
    struct waiting in, out;
};

static struct connection *connections;
static int *upgraded_fds, upgraded_count = 0, epoll;
static unsigned char buffer[ROOM]; /* all connections are read into this one */

/* The accept value of eioload's key, and an open packet. */
static const char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char opening[] = "0{\"sid\":\"x\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
static const char news[] = "4hello broadcast payload";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void keep(struct waiting *w, const unsigned char *data, size_t n) {
    if (!n) return;
    w->data = realloc(w->data, w->length + n);
    if (!w->data) fail("memory");
    memmove(w->data + w->length, data, n);
    w->length += n;
}

static void forget(struct waiting *w) {
    free(w->data);
    *w = (struct waiting){NULL, 0};
}

static void drop(int fd) {
    struct connection *c = &connections[fd];
    if (c->upgraded) {
        int last = upgraded_fds[--upgraded_count];
        upgraded_fds[c->place] = last;
        connections[last].place = c->place;
    }
    forget(&c->in);
    forget(&c->out);
    close(fd);
}

static void wait_for(int fd, bool writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event)) fail("epoll_ctl");
}

/* Send; what is not taken now waits. A connection that is gone shows itself at the next read. */
static void send_all(int fd, const unsigned char *data, size_t n) {
    struct waiting *out = &connections[fd].out;
    ssize_t sent = out->length ? 0 : send(fd, data, n, MSG_NOSIGNAL);
    if (sent < 0) sent = errno == EAGAIN ? 0 : (ssize_t)n;
    if ((size_t)sent == n) return;
    if (!out->length) wait_for(fd, true);
    keep(out, data + sent, n - sent);
}

static void on_writable(int fd) {
    struct waiting *out = &connections[fd].out;
    ssize_t sent = send(fd, out->data, out->length, MSG_NOSIGNAL);
    if (sent < 0) return;
    out->length -= sent;
    memmove(out->data, out->data + sent, out->length);
    if (out->length) return;
    forget(out);
    wait_for(fd, false);
}

static size_t write_head(unsigned char *to, size_t n) {
    to[0] = 0x81;
    if (n < 126) {
        to[1] = n;
        return 2;
    }
    size_t size = n < 65536 ? 2 : 8;
    to[1] = size == 2 ? 126 : 127;
    for (size_t i = 0; i < size; i++) to[2 + i] = (uint64_t)n >> 8 * (size - 1 - i);
    return 2 + size;
}

/* Eight bytes at a time: a long message must cost what memory costs. */
static void unmask(unsigned char *data, size_t n, const unsigned char *key) {
    uint64_t keys, word;
    memcpy(&keys, key, 4);
    memcpy((char *)&keys + 4, key, 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, data + i, 8);
        word ^= keys;
        memcpy(data + i, &word, 8);
    }
    for (; i < n; i++) data[i] ^= key[i & 3];
}

static bool is_trigger(const unsigned char *p, size_t n) {
    return (n == 2 && !memcmp(p, "4b", 2)) || (n > 13 && !memcmp(p, "4{\"event\":\"b\"", 13));
}

static void broadcast(void) {
    unsigned char frame[64];
    size_t head = write_head(frame, sizeof news - 1);
    memcpy(frame + head, news, sizeof news - 1);
    for (int k = 0; k < upgraded_count; k++) send_all(upgraded_fds[k], frame, head + sizeof news - 1);
}

/* Answer the whole frames in the data; return how many bytes they were, or -1 at what eioload never sends.
 * The echoes are made in place: a masked frame is four bytes longer than its echo, so none is overwritten. */
static ssize_t on_frames(int fd, unsigned char *data, size_t n) {
    size_t used = 0, made = 0;
    while (n - used >= 2) {
        unsigned char *frame = data + used;
        size_t length = frame[1] & 127, head = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (n - used < head + 4) break;
        if (head > 2) length = 0;
        for (size_t i = 2; i < head; i++) length = length << 8 | frame[i];
        if (frame[0] != 0x81 || length > LONGEST) return -1;
        if (n - used - head - 4 < length) break;
        unsigned char *payload = frame + head + 4, key[4];
        memcpy(key, frame + head, 4);
        unmask(payload, length, key);
        used += head + 4 + length;
        if (is_trigger(payload, length)) {
            broadcast();
            continue;
        }
        size_t size = length < 126 ? 2 : length < 65536 ? 4 : 10;
        memmove(data + made + size, payload, length);
        made += write_head(data + made, length) + length;
    }
    if (made) send_all(fd, data, made);
    return used;
}

static ssize_t on_request(int fd, const unsigned char *data, size_t n) {
    unsigned char answer[512];
    if (n < 4 || memcmp(data + n - 4, "\r\n\r\n", 4)) return 0;
    size_t length = sizeof accepted - 1;
    memcpy(answer, accepted, length);
    length += write_head(answer + length, sizeof opening - 1);
    memcpy(answer + length, opening, sizeof opening - 1);
    connections[fd].upgraded = true;
    connections[fd].place = upgraded_count;
    upgraded_fds[upgraded_count++] = fd;
    send_all(fd, answer, length + sizeof opening - 1);
    return n;
}

static void on_readable(int fd) {
    struct connection *c = &connections[fd];
    size_t before = c->in.length;
    /* The rest of a frame is read behind its beginning. */
    if (before) memcpy(buffer, c->in.data, before);
    ssize_t got = recv(fd, buffer + before, ROOM - before, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(fd);
        return;
    }
    size_t n = before + got;
    ssize_t used = c->upgraded ? on_frames(fd, buffer, n) : on_request(fd, buffer, n);
    if (used < 0 || (!used && n == ROOM)) {
        drop(fd);
        return;
    }
    if (!before && (size_t)used == n) return;
    forget(&c->in);
    keep(&c->in, buffer + used, n - used);
}

static void accept_some(int listener) {
    int one = 1;
    for (int k = 0; k < 64; k++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED) fail("accept");
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd] = (struct connection){0};
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

static int listen_on(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    return listener;
}

int main(int argc, char **argv) {
    int port = argc == 2 ? atoi(argv[1]) : 0;
    if (port < 1 || port > 65535) {
        fputs("usage: floor PORT\n", stderr);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MOST_FILES ? files.rlim_max : MOST_FILES;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    connections = calloc(files.rlim_cur, sizeof *connections);
    upgraded_fds = calloc(files.rlim_cur, sizeof *upgraded_fds);
    if (!connections || !upgraded_fds) fail("memory");
    int listener = listen_on(port);
    epoll = epoll_create1(0);
    struct epoll_event first = {.events = EPOLLIN, .data.fd = listener}, events[1024];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &first)) fail("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_some(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT) on_writable(fd);
            if (events[i].events & ~EPOLLOUT) on_readable(fd);
        }
    }
}
