/* Samples, what a run found, and the line of JSON. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"
#include "options.h"

struct results results;

/* Samples */

void add_sample(struct samples *s, double value) {
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 65536;
        s->at = realloc(s->at, s->capacity * sizeof *s->at);
        if (!s->at) die("out of memory");
    }
    s->at[s->count++] = value;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct samples *s, double q) { return s->at[(size_t)(q * (s->count - 1))]; }

/* The line of JSON */

static void print_samples(const char *name, struct samples *s) {
    if (!s->count) return;
    double sum = 0;
    qsort(s->at, s->count, sizeof *s->at, by_value);
    for (size_t i = 0; i < s->count; i++) sum += s->at[i];
    printf(",\"%s_ms\":{\"samples\":%zu,\"mean\":%.4f,\"p50\":%.4f,\"p99\":%.4f,\"p99.9\":%.4f,\"max\":%.4f}", name,
           s->count, sum / s->count * 1e3, quantile(s, 0.5) * 1e3, quantile(s, 0.99) * 1e3, quantile(s, 0.999) * 1e3,
           quantile(s, 1) * 1e3);
}

static void print_usage(const char *name, const char *unit, struct usage u, long count) {
    printf(",\"%s\":{\"%s\":%ld,\"secs\":%.4f,\"per_s\":%.1f,\"client_cpu_s\":%.4f,\"client_busy\":%.3f", name, unit, count,
           u.secs, count / u.secs, u.own_cpu, u.own_cpu / u.secs);
    if (servers_watched()) {
        printf(",\"server_cpu_s\":%.4f,\"server_busy\":%.3f", u.server_cpu, u.server_cpu / u.secs);
        if (count) printf(",\"server_cpu_us\":%.4f", u.server_cpu * 1e6 / count);
        for (int i = 0; i < servers_watched(); i++) printf("%s%.6f", i ? "," : ",\"each_server_cpu_s\":[", u.of_server[i]);
        putchar(']');
    }
    putchar('}');
}

void print_report(const char *cipher) {
    if (servers_watched() && results.messages && results.run.server_cpu <= 0)
        die("the server processes used no CPU time: others did the work");
    static const char *const transports[] = {"websocket", "polling", "upgrade"};
    printf("{\"mode\":\"%s\",\"transport\":\"%s\",\"clients\":%d", options.mode, transports[options.transport], options.clients);
    printf(",\"message_bytes\":%zu,\"tls\":%s%s%s", options.message.text.length, cipher ? "\"" : "",
           cipher ? cipher : "null", cipher ? "\"" : "");
    if (options.rate) printf(",\"rate\":%.1f", options.rate);
    if (results.connected) print_usage("connect", "connections", results.connect, results.connected);
    if (servers_watched()) {
        printf(",\"memory\":{\"rss\":%ld,\"pss\":%ld", results.after.rss, results.after.pss);
        if (results.connected)
            printf(",\"bytes_per_connection\":%.1f", (results.after.rss - results.before.rss) / (double)results.connected);
        putchar('}');
    }
    print_usage("run", "messages", results.run, results.messages);
    if (results.rounds) printf(",\"rounds\":%ld", results.rounds);
    printf(",\"retries\":%ld", results.retries);
    print_samples("latency", &results.latency);
    print_samples("late", &results.late);
    puts("}");
}
