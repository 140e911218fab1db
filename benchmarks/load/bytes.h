/* Failing, and buffers. */
#ifndef BYTES_H
#define BYTES_H

#include <stddef.h>

/* Say what went wrong on standard error and end with status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct bytes {
    unsigned char *data;
    size_t length, capacity;
};

void reserve(struct bytes *b, size_t capacity);
void append(struct bytes *b, const void *data, size_t n);

#endif
