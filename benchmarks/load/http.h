/* Answers to HTTP/1.1 requests, with a length or chunked. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct answer {
    int status;
    unsigned char *head, *body;
    size_t head_length, body_length, total;
};

/* Read the answer at the beginning of the data, chunked or not; false while it is not there as a whole. */
bool read_answer(unsigned char *data, size_t n, struct answer *answer);
/* Whether a field of the answer's head has this value (the name in any case). */
bool has_field(const struct answer *answer, const char *name, const char *value);

#endif
