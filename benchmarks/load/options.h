/* What the command line says. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"

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
    struct message message, undo, hello, trigger, pong, probe, upgrade;
    const char *proof, *proven; /* what one says that comes back to its session, and what the answer has to contain */
    const char *answer, *undone, *greeting, *news; /* what comes back for each, and what a trigger sends to all */
    size_t answer_length, greeting_length, news_length;
};

extern struct options options;

/* Take what the command line says, or say what is wrong with it and end. */
void read_options(int argc, char **argv);

#endif
