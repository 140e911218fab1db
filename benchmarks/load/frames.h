/* Websocket frames (RFC 6455, section 5), from the client's side. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"

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

#endif
