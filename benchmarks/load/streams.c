/* Byte streams over TCP, with TLS where it is asked for: partial reads, partial writes, one epoll for all. */
#define _GNU_SOURCE
#include "streams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "options.h"
#include "usage.h"

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *context;
#endif

/* Linux has 28,000 ports for outgoing connections of one address to one server. */
#define CONNECTIONS_PER_SOURCE 20000
#define CHUNK 262144

static const struct owner *owner;
static int epoll;
static int sources;
static struct sockaddr_in server;
static unsigned char chunk[CHUNK];

void streams_begin(const struct owner *of_all) {
    owner = of_all;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    prctl(PR_SET_TIMERSLACK, 1); /* a fixed rate needs to wake up in time */
    server = (struct sockaddr_in){.sin_family = AF_INET};
    if (inet_pton(AF_INET, options.host, &server.sin_addr) != 1) die("%s is not an IPv4 address", options.host);
    int most = options.clients * (options.transport == WEBSOCKET ? 1 : 2);
    sources = options.sources ? options.sources : 1 + most / CONNECTIONS_PER_SOURCE;
    if (!options.tls) return;
#ifdef WITH_TLS
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#else
    die("TLS is not measured: eioload was built without OpenSSL");
#endif
}

/* Events carry the client's number, the stream's role, and its generation. */
static uint64_t ticket(const struct stream *s) {
    uint64_t place = (uint64_t)s->number * ROLES + s->role;
    return place << 32 | s->generation;
}

static struct stream *stream_of(uint64_t ticket) {
    uint64_t place = ticket >> 32;
    struct stream *s = owner->stream(place / ROLES, place % ROLES);
    return s->fd >= 0 && s->generation == (uint32_t)ticket ? s : NULL;
}

static void watch(struct stream *s, int operation, bool writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.u64 = ticket(s)};
    if (epoll_ctl(epoll, operation, s->fd, &event)) die("epoll_ctl: %s", strerror(errno));
    s->writing = writing;
}

static void choose_source(struct stream *s) {
    int one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + s->number % sources);
    setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(s->fd, (void *)&from, sizeof from)) die("cannot bind a source address: %s", strerror(errno));
}

void stream_open(struct stream *s) {
    int one = 1;
    s->generation++;
    s->connected = s->corked = false;
    s->in.length = s->out.length = s->out_sent = 0;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) die("cannot open a socket: %s (raise the limit of open files)", strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (sources > 1) choose_source(s);
    server.sin_port = htons(owner->port(s));
    if (connect(s->fd, (void *)&server, sizeof server) && errno != EINPROGRESS) {
        int error = errno;
        stream_close(s);
        owner->lost(s, strerror(error));
        return;
    }
#ifdef WITH_TLS
    if (options.tls) {
        s->tls = SSL_new(context);
        SSL_set_fd(s->tls, s->fd);
        SSL_set_connect_state(s->tls);
    }
#endif
    watch(s, EPOLL_CTL_ADD, true);
}

void stream_close(struct stream *s) {
    if (s->fd < 0) return;
#ifdef WITH_TLS
    SSL_free(s->tls);
    s->tls = NULL;
#endif
    close(s->fd);
    s->fd = -1;
    s->generation++;
}

static void lose(struct stream *s, const char *why) {
    stream_close(s);
    owner->lost(s, why);
}

/* Both return what recv and send do: a count, 0 at the end of the stream, -1 with errno. */
#ifdef WITH_TLS
static ssize_t tls_result(struct stream *s, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(s->tls, result);
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) errno = EAGAIN;
    else if (error != SSL_ERROR_SYSCALL || !errno) errno = EPROTO;
    return -1;
}
#endif

static ssize_t take(struct stream *s, void *to, size_t room) {
#ifdef WITH_TLS
    if (s->tls) return tls_result(s, SSL_read(s->tls, to, room));
#endif
    return recv(s->fd, to, room, 0);
}

static ssize_t give(struct stream *s, const void *data, size_t n) {
#ifdef WITH_TLS
    if (s->tls) return tls_result(s, SSL_write(s->tls, data, n));
#endif
    return send(s->fd, data, n, MSG_NOSIGNAL);
}

/* Send what the other side takes; return how much, or -1 if the connection is lost. */
static ssize_t send_some(struct stream *s, const unsigned char *data, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t sent = give(s, data + done, n - done);
        if (sent > 0) {
            done += sent;
        } else if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        } else {
            lose(s, sent ? strerror(errno) : "closed");
            return -1;
        }
    }
    return done;
}

static void flush(struct stream *s) {
    ssize_t sent = send_some(s, s->out.data + s->out_sent, s->out.length - s->out_sent);
    if (sent < 0) return;
    s->out_sent += sent;
    bool rest = s->out_sent < s->out.length;
    if (!rest) s->out.length = s->out_sent = 0;
    if (rest != s->writing) watch(s, EPOLL_CTL_MOD, rest);
}

void stream_send(struct stream *s, const void *data, size_t n) {
    if (s->fd < 0) return;
    if (s->corked || s->out.length) {
        append(&s->out, data, n);
        return;
    }
    ssize_t sent = send_some(s, data, n);
    if (sent < 0 || (size_t)sent == n) return;
    append(&s->out, (const unsigned char *)data + sent, n - sent);
    watch(s, EPOLL_CTL_MOD, true);
}

void stream_uncork(struct stream *s) {
    s->corked = false;
    if (s->fd >= 0 && s->out.length && !s->writing) flush(s);
}

/* Go on with connecting; true once bytes can flow. */
static bool connect_further(struct stream *s) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        lose(s, strerror(error));
        return false;
    }
#ifdef WITH_TLS
    if (s->tls) {
        int result = SSL_do_handshake(s->tls);
        int wants = result == 1 ? 0 : SSL_get_error(s->tls, result);
        if (wants && wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE) {
            lose(s, "the TLS handshake failed");
            return false;
        }
        if (wants) {
            if (s->writing != (wants == SSL_ERROR_WANT_WRITE)) watch(s, EPOLL_CTL_MOD, wants == SSL_ERROR_WANT_WRITE);
            return false;
        }
    }
#endif
    s->connected = true;
    if (s->writing) watch(s, EPOLL_CTL_MOD, false);
    return true;
}

/* Read once; false when there is nothing more to read now, or no stream any more. */
static bool read_on(struct stream *s) {
    uint32_t generation = s->generation;
    unsigned char *to = chunk;
    if (s->in.length) {
        reserve(&s->in, s->in.length + CHUNK);
        to = s->in.data + s->in.length;
    }
    ssize_t got = take(s, to, CHUNK);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got <= 0) {
        lose(s, got ? strerror(errno) : "closed by the server");
        return false;
    }
    bool kept = s->in.length;
    unsigned char *data = kept ? s->in.data : chunk;
    size_t n = kept ? s->in.length + got : (size_t)got;
    size_t used = owner->received(s, data, n);
    if (s->generation != generation) return false;
    if (kept) memmove(s->in.data, data + used, n - used);
    else append(&s->in, data + used, n - used);
    s->in.length = n - used;
    return s->tls || got == CHUNK;
}

static void on_event(struct stream *s, uint32_t events) {
    uint32_t generation = s->generation;
    if (!s->connected) {
        if (!connect_further(s)) return;
        owner->connected(s);
    } else if (events & EPOLLOUT) {
        flush(s);
    }
    if (s->generation != generation || !(events & (EPOLLIN | EPOLLERR | EPOLLHUP))) return;
    s->corked = options.in_flight > 1; /* answers of one read leave as one write */
    while (s->generation == generation && read_on(s)) continue;
    if (s->generation == generation) stream_uncork(s);
}

void pump(double until) {
    struct epoll_event events[1024];
    int most = options.rate ? 64 : 1024; /* a fixed rate must not wait for a long row of answers */
    double wait = until - now();
    if (wait < 0) wait = 0;
    struct timespec timeout = {(time_t)wait, (wait - (time_t)wait) * 1e9};
    int n = epoll_pwait2(epoll, events, most, &timeout, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct stream *s = stream_of(events[i].data.u64);
        if (s) on_event(s, events[i].events);
    }
}

const char *stream_cipher(struct stream *s) {
#ifdef WITH_TLS
    if (s->tls) return SSL_get_cipher_name(s->tls);
#endif
    (void)s;
    return NULL;
}
