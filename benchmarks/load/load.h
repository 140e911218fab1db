/* eioload, what its files share.
 *
 *   eioload.c   the command line, and the order of a run
 *   modes.c     what is measured: echo, greedy, fan-out, idle, handshakes, storm
 *   clients.c   an Engine.IO client: websocket, polling, the upgrade between them
 *   frames.c    websocket frames
 *   http.c      answers to HTTP requests
 *   streams.c   TCP and TLS: partial reads, partial writes, one epoll for all
 *   report.c    clocks, samples, what the server processes used, the line of JSON
 *
 * A run either measured what it says or ends in die(): nothing that goes wrong is left out of a figure.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* report.c: failing, buffers */

/* Say what went wrong on standard error and end with status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct bytes {
    unsigned char *data;
    size_t length, capacity;
};

void reserve(struct bytes *b, size_t capacity);
void append(struct bytes *b, const void *data, size_t n);

/* eioload.c: what the command line says */

enum transport { WEBSOCKET, POLLING, UPGRADE };

/* A message as each transport sends it: encoded once, sent often. */
struct message {
    struct bytes text;  /* the Engine.IO packet, or the bare text for plain websocket servers */
    struct bytes frame; /* the same as a masked websocket frame */
};

struct options {
    const char *mode, *host, *path, *query, *servers;
    const char *others; /* ports of all clients but the first, with commas; NULL: as the first */
    int then;           /* port of what follows a client's handshake; 0: the same */
    int port, clients, in_flight, burst, count, ramp, sources, size;
    enum transport transport;
    bool plain; /* no Engine.IO: no heartbeat, no query, ready once upgraded */
    bool tls;
    double rate, seconds, warmup, settle, timeout;
    struct message message, hello, trigger, pong, probe, upgrade;
    const char *answer, *greeting, *news; /* what comes back for message and hello, and what a trigger sends to all */
    size_t answer_length, greeting_length, news_length;
};

extern struct options options;

/* streams.c */

struct client;

enum role { SOCKET, POLL, POST, ROLES };

struct stream {
    int fd; /* -1: closed */
    enum role role;
    struct client *client;
    uint32_t generation; /* tells a late event of a closed connection from one of its successor */
    bool connected, writing, corked;
    struct bytes in;  /* received and not consumed: the rest of an unfinished frame or answer */
    struct bytes out; /* not taken by the kernel yet, from out_sent on */
    size_t out_sent;
    void *tls;
};

void streams_begin(void);
void stream_open(struct stream *s);
void stream_close(struct stream *s);
/* Send now, or as soon as the other side takes it. While the stream is corked nothing leaves before uncork. */
void stream_send(struct stream *s, const void *data, size_t n);
void stream_uncork(struct stream *s);
/* Wait for events, no longer than until the given time, and handle them. */
void pump(double until);
/* Tell the cipher in use, or NULL without TLS. */
const char *stream_cipher(struct stream *s);

/* frames.c */

enum opcode { CONTINUATION, TEXT, BINARY, CLOSE = 8, PING, PONG };

struct frame {
    enum opcode opcode;
    bool final;
    const unsigned char *payload;
    size_t length, total; /* of the payload, and with the header */
};

void append_frame(struct bytes *to, enum opcode opcode, const void *payload, size_t n);
/* Read the frame at the beginning of the data; false while it is not there as a whole. */
bool read_frame(const unsigned char *data, size_t n, struct frame *frame);

/* http.c */

struct answer {
    int status;
    unsigned char *head, *body;
    size_t head_length, body_length, total;
};

/* Read the answer at the beginning of the data, chunked or not; false while it is not there as a whole. */
bool read_answer(unsigned char *data, size_t n, struct answer *answer);
/* Whether a field of the answer's head has this value (the name in any case). */
bool has_field(const struct answer *answer, const char *name, const char *value);

/* clients.c */

enum phase { DOWN, OPENING, PROBING, PAUSING, GREETING, READY };

/* A queue of times: what was sent and is not answered yet. */
struct times {
    double *at;
    unsigned head, count, capacity;
};

struct client {
    int number;
    enum phase phase;
    struct stream streams[ROLES];
    bool upgraded;          /* the websocket's 101 came */
    bool polling, posting;  /* a request awaits its answer */
    bool collecting;        /* more packets come for the same POST */
    char sid[128];
    struct bytes fragments; /* of a message that came in several frames */
    bool in_fragments;
    struct bytes outgoing;  /* packets that wait for the POST in the air to end */
    struct times sent;
    long received;          /* messages since this client was ready, or since the round began */
    bool retrying;          /* of a storm: it was dropped, and comes back */
    bool returned;          /* it is back */
};

extern struct client *clients;

/* What a mode hears of clients. */
struct listener {
    void (*ready)(struct client *c);
    void (*message)(struct client *c, const unsigned char *p, size_t n);
    /* A connection was lost or refused; without a listener that is the end of the run. */
    void (*lost)(struct client *c);
};

extern struct listener listener;

void client_open(struct client *c);
void client_close(struct client *c);
void client_send(struct client *c, const struct message *m);
/* Ask for a polling handshake over a connection that is kept; for the mode that measures handshakes. */
void client_shake(struct client *c, long number);

/* What streams.c tells. */
void client_connected(struct stream *s);
size_t client_received(struct stream *s, unsigned char *data, size_t n);
void client_lost(struct stream *s, const char *why);

/* modes.c */

void connect_all(void);
void run_mode(void);

/* report.c */

double now(void);

#define MOST_SERVERS 64

/* What a phase of the run took: wall clock, and the CPU time of this process, of the servers, and of each of them. */
struct usage {
    double secs, own_cpu, server_cpu, of_server[MOST_SERVERS];
};

struct memory {
    long rss, pss;
};

void watch_servers(const char *pids);
struct usage usage_now(void);
struct usage usage_since(struct usage begin);
/* Whether the servers have used any CPU time since then; true if none are watched. */
bool servers_worked(struct usage begin);
struct memory server_memory(void);

struct samples {
    double *at;
    size_t count, capacity;
};

void add_sample(struct samples *s, double value);

/* What a run found. */
struct results {
    struct usage connect, run;
    struct memory before, after;
    int connected; /* clients that `connect` and the memory are about: all but the first */
    long messages, retries, rounds;
    struct samples latency, late;
};

extern struct results results;

void print_report(void);

#endif
