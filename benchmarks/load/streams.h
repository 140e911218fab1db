/* Byte streams over TCP, with TLS where it is asked for. */
#ifndef STREAMS_H
#define STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

struct client;

/* What a client uses a stream for. */
enum role { SOCKET, POLL, POST, ROLES };

struct stream {
    int fd; /* -1: closed */
    enum role role;
    int number; /* of its client */
    struct client *client;
    uint32_t generation; /* tells a late event of a closed connection from one of its successor */
    bool connected, writing, corked;
    struct bytes in;  /* received and not consumed: the rest of an unfinished frame or answer */
    struct bytes out; /* not taken by the kernel yet, from out_sent on */
    size_t out_sent;
    void *tls;
};

/* What the owner of the streams answers and hears. */
struct owner {
    /* The stream of a client, by the client's number. */
    struct stream *(*stream)(int number, enum role role);
    /* The server's port that the stream leads to. */
    int (*port)(const struct stream *s);
    void (*connected)(struct stream *s);
    /* Take what has come; return how much of it was used. */
    size_t (*received)(struct stream *s, unsigned char *data, size_t n);
    void (*lost)(struct stream *s, const char *why);
};

void streams_begin(const struct owner *owner);
void stream_open(struct stream *s);
void stream_close(struct stream *s);
/* Send now, or as soon as the other side takes it. While the stream is corked nothing leaves before uncork. */
void stream_send(struct stream *s, const void *data, size_t n);
void stream_uncork(struct stream *s);
/* Wait for events, no longer than until the given time, and handle them. */
void pump(double until);
/* Tell the cipher in use, or NULL without TLS. */
const char *stream_cipher(struct stream *s);

#endif
