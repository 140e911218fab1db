/* Websocket frames (RFC 6455, section 5), from the client's side. */
#include "frames.h"

#include <stdint.h>
#include <string.h>

/* More than any message that is measured; a length above it is nonsense, not a reason to allocate. */
#define LONGEST (256u << 20)

/* Clients must mask. A constant key that is not zero costs the server the same as a random one. */
static const unsigned char key[4] = {0x12, 0x34, 0x56, 0x78};

void append_frame(struct bytes *to, enum opcode opcode, const void *payload, size_t n) {
    unsigned char head[14] = {0x80 | opcode};
    size_t length = 2;
    if (n < 126) {
        head[1] = 0x80 | n;
    } else {
        int size = n < 65536 ? 2 : 8;
        head[1] = 0x80 | (size == 2 ? 126 : 127);
        for (int i = 0; i < size; i++) head[length++] = (uint64_t)n >> 8 * (size - 1 - i);
    }
    memcpy(head + length, key, sizeof key);
    append(to, head, length + sizeof key);
    reserve(to, to->length + n);
    for (size_t i = 0; i < n; i++) to->data[to->length + i] = ((const unsigned char *)payload)[i] ^ key[i & 3];
    to->length += n;
}

bool read_frame(const unsigned char *data, size_t n, struct frame *frame) {
    if (n < 2) return false;
    if (data[0] & 0x70) die("a frame with reserved bits: not a websocket, or compressed without being asked");
    if (data[1] & 0x80) die("a masked frame from a server");
    uint64_t length = data[1] & 127;
    size_t head = length == 126 ? 4 : length == 127 ? 10 : 2;
    if (n < head) return false;
    if (head > 2) length = 0;
    for (size_t i = 2; i < head; i++) length = length << 8 | data[i];
    if (length > LONGEST) die("a frame of %llu bytes", (unsigned long long)length);
    if (n - head < length) return false;
    *frame = (struct frame){data[0] & 15, data[0] & 0x80, data + head, length, head + length};
    return true;
}
