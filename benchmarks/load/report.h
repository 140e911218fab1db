/* Samples, what a run found, and the line of JSON. */
#ifndef REPORT_H
#define REPORT_H

#include <stddef.h>

#include "usage.h"

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

/* Print the line of JSON; the cipher is NULL without TLS. */
void print_report(const char *cipher);

#endif
