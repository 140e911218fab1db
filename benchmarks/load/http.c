/* Answers to HTTP/1.1 requests, with a length or chunked. */
#define _GNU_SOURCE
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bytes.h"

static const unsigned char *find_end(const unsigned char *from, size_t n, const char *what) {
    const unsigned char *at = memmem(from, n, what, strlen(what));
    return at ? at + strlen(what) : NULL;
}

/* Return the value of a field, or NULL; the head ends with an empty line, so the value ends with one of its line ends. */
static const char *field(const struct answer *answer, const char *name) {
    const unsigned char *end = answer->head + answer->head_length, *line = answer->head;
    size_t length = strlen(name);
    while ((line = find_end(line, end - line, "\r\n")) && (size_t)(end - line) > length) {
        if (strncasecmp((const char *)line, name, length) || line[length] != ':') continue;
        const char *value = (const char *)line + length + 1;
        return value + strspn(value, " \t");
    }
    return NULL;
}

bool has_field(const struct answer *answer, const char *name, const char *value) {
    const char *found = field(answer, name);
    return found && !strncasecmp(found, value, strlen(value));
}

/* Walk over the chunks of a body: false while the last one is missing. With `to`, the parts are joined there. */
static bool read_chunks(unsigned char *body, size_t n, unsigned char *to, size_t *length, size_t *total) {
    unsigned char *at = body;
    *length = 0;
    for (;;) {
        const unsigned char *data = find_end(at, body + n - at, "\r\n");
        if (!data) return false;
        size_t size = strtoul((const char *)at, NULL, 16);
        if (size > n || (size_t)(body + n - data) < size + 2) return false;
        if (to && size) memmove(to + *length, data, size);
        *length += size;
        at = (unsigned char *)data + size + 2;
        if (!size) break;
    }
    *total = at - body;
    return true;
}

bool read_answer(unsigned char *data, size_t n, struct answer *answer) {
    const unsigned char *end = find_end(data, n, "\r\n\r\n");
    if (!end) return false;
    if (n < 12 || memcmp(data, "HTTP/1.1 ", 9)) die("not an HTTP answer: %.*s", (int)(n < 100 ? n : 100), data);
    *answer = (struct answer){.status = atoi((const char *)data + 9), .head = data, .head_length = end - data};
    answer->body = data + answer->head_length;
    answer->total = answer->head_length;
    size_t left = n - answer->head_length, rest = 0;
    if (answer->status < 200 || answer->status == 204) return true;
    if (has_field(answer, "Transfer-Encoding", "chunked")) {
        /* Twice: the parts may only be moved once all of them are there. */
        if (!read_chunks(answer->body, left, NULL, &answer->body_length, &rest)) return false;
        read_chunks(answer->body, left, answer->body, &answer->body_length, &rest);
        answer->total += rest;
        return true;
    }
    const char *length = field(answer, "Content-Length");
    if (!length && answer->status < 400) die("an answer without a length: %.*s", (int)answer->head_length, data);
    answer->body_length = length ? strtoul(length, NULL, 10) : left; /* refusals may end with the connection */
    answer->total += answer->body_length;
    return left >= answer->body_length;
}
