/* Failing, and buffers. */
#include "bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("eioload: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void reserve(struct bytes *b, size_t capacity) {
    if (capacity <= b->capacity) return;
    b->capacity = capacity > 2 * b->capacity ? capacity : 2 * b->capacity;
    b->data = realloc(b->data, b->capacity);
    if (!b->data) die("out of memory");
}

void append(struct bytes *b, const void *data, size_t n) {
    if (!n) return;
    reserve(b, b->length + n);
    memcpy(b->data + b->length, data, n);
    b->length += n;
}
