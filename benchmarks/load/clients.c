/* An Engine.IO 4 client: over websocket, by polling, or by polling and then the upgrade; and a plain websocket client. */
#define _GNU_SOURCE
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "frames.h"
#include "http.h"

#define SEPARATOR '\x1e'

/* The key of every handshake, and what a websocket server must answer to it. */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

struct client *clients;
struct listener listener;

#define MOST_OTHERS 64
static int others[MOST_OTHERS], other_count;

/* Requests */

/* Write the request's target: `#` in the query stands for the client's number, so that each has an account of its own. */
static int write_target(char *to, size_t room, struct client *c, const char *transport, long number) {
    if (options.plain) return snprintf(to, room, "%s", options.path);
    size_t before = strcspn(options.query, "#");
    const char *after = options.query + before + (options.query[before] == '#');
    int n = snprintf(to, room, "%s?%.*s", options.path, (int)before, options.query);
    if (options.query[before]) n += snprintf(to + n, room - n, "%ld", number);
    n += snprintf(to + n, room - n, "%s%sEIO=4&transport=%s", after, *options.query ? "&" : "", transport);
    if (*c->sid) n += snprintf(to + n, room - n, "&sid=%s", c->sid);
    return n;
}

static void request(struct stream *s, const char *method, const struct bytes *body, long number) {
    static struct bytes text;
    char head[2048], target[1024];
    write_target(target, sizeof target, s->client, s->role == SOCKET ? "websocket" : "polling", number);
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n", method, target, options.host, options.port);
    if (s->role == SOCKET)
        n += snprintf(head + n, sizeof head - n,
                      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: " WEBSOCKET_KEY "\r\n");
    if (body)
        n += snprintf(head + n, sizeof head - n, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %zu\r\n",
                      body->length);
    text.length = 0;
    append(&text, head, n);
    append(&text, "\r\n", 2);
    if (body) append(&text, body->data, body->length);
    stream_send(s, text.data, text.length);
}

static void get(struct client *c) {
    c->polling = true;
    request(&c->streams[POLL], "GET", NULL, c->number);
}

/* Poll again; after the handshake perhaps at another server, where this connection does not lead. */
static void poll_further(struct client *c, bool was_handshake) {
    struct stream *s = &c->streams[POLL];
    if (!was_handshake || !options.then || options.transport != POLLING) {
        get(c);
        return;
    }
    stream_close(s);
    stream_open(s);
}

/* Send the waiting packets in one POST, once the one before is answered. */
static void post(struct client *c) {
    struct stream *s = &c->streams[POST];
    if (c->posting || !c->outgoing.length) return;
    if (s->fd < 0) stream_open(s);
    if (!s->connected) return;
    c->posting = true;
    request(s, "POST", &c->outgoing, c->number);
    c->outgoing.length = 0;
}

void client_send(struct client *c, const struct message *m) {
    if (options.transport == WEBSOCKET || (options.transport == UPGRADE && c->phase >= GREETING)) {
        stream_send(&c->streams[SOCKET], m->frame.data, m->frame.length);
        return;
    }
    if (c->outgoing.length) append(&c->outgoing, &(char){SEPARATOR}, 1);
    append(&c->outgoing, m->text.data, m->text.length);
    if (!c->collecting) post(c);
}

/* The life of a client */

void client_open(struct client *c) {
    c->phase = OPENING;
    c->upgraded = c->polling = c->posting = c->collecting = c->in_fragments = false;
    c->sid[0] = 0;
    c->outgoing.length = c->fragments.length = 0;
    c->sent.count = 0;
    c->received = 0;
    stream_open(&c->streams[options.transport == WEBSOCKET ? SOCKET : POLL]);
}

void client_close(struct client *c) {
    c->phase = DOWN;
    for (int role = 0; role < ROLES; role++) stream_close(&c->streams[role]);
}

static void lost(struct stream *s, const char *why) {
    static const char *const doing[] = {"while closed",    "in its handshake",         "while it probed",
                                        "in its upgrade", "before its greeting came", "after it was ready"};
    struct client *c = s->client;
    bool is_kept = s->role == POST && !c->posting && !c->outgoing.length;
    if (is_kept && c->phase != DOWN) return; /* a kept connection may end between two requests */
    enum phase phase = c->phase;
    client_close(c);
    if (!listener.lost) die("connection %d was lost %s: %s", c->number, doing[phase], why);
    listener.lost(c);
}

static void connected(struct stream *s) {
    struct client *c = s->client;
    if (s->role == SOCKET) request(s, "GET", NULL, c->number);
    else if (s->role == POST) post(c);
    else get(c);
}

/* A connection was refused with this answer. */
static void refused(struct stream *s, const unsigned char *data, size_t n) {
    char text[301];
    snprintf(text, sizeof text, "%.*s", (int)n, data);
    lost(s, text);
}

static void become_ready(struct client *c) {
    c->phase = READY;
    listener.ready(c);
}

/* Say which session this client comes back to. */
static void prove(struct client *c) {
    static struct message m;
    m.text.length = m.frame.length = 0;
    char attempt[16];
    snprintf(attempt, sizeof attempt, "%d", ++c->proofs);
    for (const char *p = options.proof; *p; p++) {
        const char *filling = *p == '$' ? c->token : *p == '#' ? attempt : NULL;
        append(&m.text, filling ? filling : p, filling ? strlen(filling) : 1);
    }
    append_frame(&m.frame, TEXT, m.text.data, m.text.length);
    client_send(c, &m);
}

static void greet(struct client *c) {
    c->phase = GREETING;
    if (c->token[0]) prove(c);
    else if (options.hello.text.length) client_send(c, &options.hello);
    else become_ready(c);
}

/* The client has stopped polling once its last request is answered; then the websocket takes over. */
static void finish_upgrade(struct client *c) {
    if (c->phase != PAUSING || c->polling || c->posting || c->collecting || c->outgoing.length) return;
    stream_close(&c->streams[POLL]);
    stream_close(&c->streams[POST]);
    stream_send(&c->streams[SOCKET], options.upgrade.frame.data, options.upgrade.frame.length);
    greet(c);
}

/* Packets */

static bool is(const unsigned char *p, size_t n, const char *text) {
    return n == strlen(text) && !memcmp(p, text, n);
}

static void on_open(struct client *c, const unsigned char *p, size_t n) {
    if (c->phase != OPENING) die("a second open packet: %.*s", (int)n, p);
    const char *sid = memmem(p, n, "\"sid\":\"", 7);
    size_t length = sid ? strcspn(sid + 7, "\"") : 0;
    if (!length || length >= sizeof c->sid) die("an open packet without a sid: %.*s", (int)n, p);
    memcpy(c->sid, sid + 7, length);
    c->sid[length] = 0;
    if (options.transport == UPGRADE) {
        c->phase = PROBING;
        stream_open(&c->streams[SOCKET]);
    } else {
        greet(c);
    }
}

/* A session's first greeting has its token; those behind it have to say that it is the same. */
static void on_greeting(struct client *c, const unsigned char *p, size_t n) {
    if (!options.proof) return;
    if (c->token[0]) {
        if (memmem(p, n, options.proven, strlen(options.proven))) return;
        die("connection %d came back to no session: %.*s", c->number, (int)(n < 300 ? n : 300), p);
    }
    const char *token = memmem(p, n, "\"token\":\"", 9);
    size_t length = token ? strcspn(token + 9, "\"") : 0;
    if (!length || length >= sizeof c->token) die("a greeting without a token: %.*s", (int)(n < 300 ? n : 300), p);
    memcpy(c->token, token + 9, length);
}

static void on_message(struct client *c, const unsigned char *p, size_t n) {
    if (c->phase == READY) {
        c->received++;
        listener.message(c, p, n);
    } else if (c->phase == GREETING && n >= options.greeting_length && !memcmp(p, options.greeting, options.greeting_length)) {
        on_greeting(c, p, n);
        become_ready(c);
    } else {
        die("an unexpected message before the greeting: %.*s", (int)(n < 300 ? n : 300), p);
    }
}

static void on_packet(struct client *c, const unsigned char *p, size_t n) {
    char type = n ? *p : 0;
    if (options.plain || type == '4') on_message(c, p, n);
    else if (type == '0') on_open(c, p, n);
    else if (is(p, n, "2")) client_send(c, &options.pong);
    else if (is(p, n, "6")) return;
    else if (is(p, n, "1")) lost(&c->streams[options.transport == WEBSOCKET ? SOCKET : POLL], "close packet");
    else if (is(p, n, "3probe") && c->phase == PROBING) {
        c->phase = PAUSING;
        finish_upgrade(c);
    } else die("an unexpected packet: %.*s", (int)(n < 300 ? n : 300), p);
}

/* Websocket */

static size_t read_upgrade(struct client *c, unsigned char *data, size_t n) {
    struct answer answer;
    if (!read_answer(data, n, &answer)) return 0;
    if (answer.status != 101) {
        refused(&c->streams[SOCKET], data, n);
        return 0;
    }
    if (!has_field(&answer, "Sec-WebSocket-Accept", WEBSOCKET_ACCEPT)) die("a 101 that does not accept the websocket's key");
    c->upgraded = true;
    if (options.plain) greet(c);
    else if (options.transport == UPGRADE)
        stream_send(&c->streams[SOCKET], options.probe.frame.data, options.probe.frame.length);
    return answer.total;
}

static void closed(struct stream *s, const struct frame *frame) {
    char why[160] = "close frame";
    if (frame->length >= 2)
        snprintf(why, sizeof why, "close frame %d %.*s", frame->payload[0] << 8 | frame->payload[1],
                 (int)frame->length - 2, frame->payload + 2);
    lost(s, why);
}

static void on_frame(struct client *c, const struct frame *frame) {
    static struct bytes pong;
    switch (frame->opcode) {
    case CLOSE: closed(&c->streams[SOCKET], frame); return;
    case PING:
        pong.length = 0;
        append_frame(&pong, PONG, frame->payload, frame->length);
        stream_send(&c->streams[SOCKET], pong.data, pong.length);
        return;
    case PONG: return;
    case BINARY: die("a binary message: only texts were sent");
    case TEXT:
        if (c->in_fragments) die("a new message inside of a fragmented one");
        if (frame->final) {
            on_packet(c, frame->payload, frame->length);
            return;
        }
        break;
    case CONTINUATION:
        if (!c->in_fragments) die("a continuation of nothing");
        break;
    default: die("a frame of unknown type %d", frame->opcode);
    }
    append(&c->fragments, frame->payload, frame->length);
    c->in_fragments = !frame->final;
    if (!frame->final) return;
    on_packet(c, c->fragments.data, c->fragments.length);
    c->fragments.length = 0;
}

static size_t read_frames(struct stream *s, unsigned char *data, size_t n) {
    uint32_t generation = s->generation;
    size_t used = 0;
    struct frame frame;
    while (s->generation == generation && read_frame(data + used, n - used, &frame)) {
        on_frame(s->client, &frame);
        used += frame.total;
    }
    return used;
}

/* Polling */

static void on_poll(struct client *c, const unsigned char *p, size_t n) {
    const struct stream *s = &c->streams[POLL];
    const unsigned char *end = p + n;
    uint32_t generation = s->generation;
    bool was_handshake = !*c->sid;
    c->polling = false;
    c->collecting = true; /* what the packets of one poll call for leaves in one POST */
    while (p && s->generation == generation) {
        const unsigned char *next = memchr(p, SEPARATOR, end - p);
        on_packet(c, p, (next ? next : end) - p);
        p = next ? next + 1 : NULL;
    }
    if (s->generation != generation) return;
    c->collecting = false;
    post(c);
    if (c->phase == PAUSING) finish_upgrade(c);
    else if (!c->polling && c->phase != DOWN) poll_further(c, was_handshake);
}

static size_t read_http(struct stream *s, unsigned char *data, size_t n) {
    struct client *c = s->client;
    struct answer answer;
    if (!read_answer(data, n, &answer)) return 0;
    bool awaited = s->role == POLL ? c->polling : c->posting;
    if (!awaited) die("an answer to no request: %.*s", (int)(n < 300 ? n : 300), data);
    if (answer.status != 200) {
        refused(s, data, n);
        return 0;
    }
    if (s->role == POLL) {
        on_poll(c, answer.body, answer.body_length);
        return answer.total;
    }
    /* The protocol says `ok`; python-engineio says `OK`. */
    if (!is(answer.body, answer.body_length, "ok") && !is(answer.body, answer.body_length, "OK"))
        die("a POST was not answered with ok: %.*s", (int)n, data);
    c->posting = false;
    post(c);
    finish_upgrade(c);
    return answer.total;
}

static size_t received(struct stream *s, unsigned char *data, size_t n) {
    if (s->role != SOCKET) return read_http(s, data, n);
    size_t used = s->client->upgraded ? 0 : read_upgrade(s->client, data, n);
    return s->client->upgraded ? used + read_frames(s, data + used, n - used) : used;
}

void client_shake(struct client *c, long number) {
    c->phase = OPENING;
    c->sid[0] = 0;
    c->polling = true;
    request(&c->streams[POLL], "GET", NULL, number);
}

/* All of them */

static void read_others(void) {
    char *end;
    for (const char *p = options.others; p && *p; p = *end ? end + 1 : end) {
        long port = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || port < 1 || port > 65535) die("%s is not a list of ports", options.others);
        if (other_count == MOST_OTHERS) die("more than %d other ports", MOST_OTHERS);
        others[other_count++] = port;
    }
}

/* One of several servers: clients are spread over them, and what follows a handshake may go to another one. */
static int port_of(const struct stream *s) {
    const struct client *c = s->client;
    if (options.then && *c->sid && (s->role == SOCKET || options.transport == POLLING)) return options.then;
    return other_count && c->number ? others[(c->number - 1) % other_count] : options.port;
}

static struct stream *stream_of(int number, enum role role) { return &clients[number].streams[role]; }

static const struct owner owner = {stream_of, port_of, connected, received, lost};

void clients_begin(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc(options.clients, sizeof *clients);
    if (!clients) die("out of memory");
    for (int i = 0; i < options.clients; i++) {
        clients[i].number = i;
        for (int role = 0; role < ROLES; role++)
            clients[i].streams[role] = (struct stream){.fd = -1, .role = role, .number = i, .client = &clients[i]};
    }
    read_others();
    streams_begin(&owner);
}
