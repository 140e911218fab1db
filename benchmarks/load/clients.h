/* An Engine.IO client: websocket, polling, the upgrade between them. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"
#include "options.h"
#include "streams.h"

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
    char token[256];        /* of its session, from its first greeting */
    int proofs;             /* how often it has said that this is its session */
};

extern struct client *clients; /* as many as the options say */

/* What a mode hears of clients. */
struct listener {
    void (*ready)(struct client *c);
    void (*message)(struct client *c, const unsigned char *p, size_t n);
    /* A connection was lost or refused; without a listener that is the end of the run. */
    void (*lost)(struct client *c);
};

extern struct listener listener;

/* Make the clients; none of them is open yet. */
void clients_begin(void);
void client_open(struct client *c);
void client_close(struct client *c);
void client_send(struct client *c, const struct message *m);
/* Ask for a polling handshake over a connection that is kept; for the mode that measures handshakes. */
void client_shake(struct client *c, long number);

#endif
