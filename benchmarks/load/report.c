/* Clocks, buffers, samples, what the server processes used, and the line of JSON. */
#include "load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct results results;
static int servers[MOST_SERVERS], server_count = 0;

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

/* Clocks */

static double seconds_of(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) die("a server process has ended");
    return t.tv_sec + t.tv_nsec * 1e-9;
}

double now(void) { return seconds_of(CLOCK_MONOTONIC); }

void watch_servers(const char *pids) {
    char *end;
    for (const char *p = pids; *p; p = *end ? end + 1 : end) {
        clockid_t clock;
        long pid = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',')) die("%s is not a list of process ids", pids);
        if (server_count == MOST_SERVERS) die("more than %d server processes", MOST_SERVERS);
        if (pid <= 0 || clock_getcpuclockid(pid, &clock)) die("no process %ld", pid);
        servers[server_count++] = pid;
    }
}

/* The processes' own clocks: nanoseconds, all threads, those that ended too. /proc/PID/stat counts hundredths of a second. */
static double server_cpu(int i) {
    clockid_t clock;
    if (clock_getcpuclockid(servers[i], &clock)) die("server process %d has ended", servers[i]);
    return seconds_of(clock);
}

struct usage usage_now(void) {
    struct usage u = {.secs = now(), .own_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
    for (int i = 0; i < server_count; i++) u.server_cpu += u.of_server[i] = server_cpu(i);
    return u;
}

struct usage usage_since(struct usage begin) {
    struct usage u = usage_now();
    u.secs -= begin.secs;
    u.own_cpu -= begin.own_cpu;
    u.server_cpu -= begin.server_cpu;
    for (int i = 0; i < server_count; i++) u.of_server[i] -= begin.of_server[i];
    return u;
}

bool servers_worked(struct usage begin) { return !server_count || usage_now().server_cpu > begin.server_cpu; }

static void add_memory(struct memory *total, int pid) {
    char name[64], line[256];
    long kilobytes;
    snprintf(name, sizeof name, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(name, "r");
    if (!file) die("%s: %s", name, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "Rss: %ld", &kilobytes) == 1) total->rss += kilobytes * 1024;
        if (sscanf(line, "Pss: %ld", &kilobytes) == 1) total->pss += kilobytes * 1024;
    }
    fclose(file);
}

struct memory server_memory(void) {
    struct memory total = {0, 0};
    for (int i = 0; i < server_count; i++) add_memory(&total, servers[i]);
    return total;
}

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
    if (server_count) {
        printf(",\"server_cpu_s\":%.4f,\"server_busy\":%.3f", u.server_cpu, u.server_cpu / u.secs);
        if (count) printf(",\"server_cpu_us\":%.4f", u.server_cpu * 1e6 / count);
        for (int i = 0; i < server_count; i++) printf("%s%.6f", i ? "," : ",\"each_server_cpu_s\":[", u.of_server[i]);
        putchar(']');
    }
    putchar('}');
}

void print_report(void) {
    if (server_count && results.messages && results.run.server_cpu <= 0)
        die("the server processes used no CPU time: others did the work");
    static const char *const transports[] = {"websocket", "polling", "upgrade"};
    const char *cipher = stream_cipher(&clients[0].streams[options.transport == POLLING ? POLL : SOCKET]);
    printf("{\"mode\":\"%s\",\"transport\":\"%s\",\"clients\":%d", options.mode, transports[options.transport], options.clients);
    printf(",\"message_bytes\":%zu,\"tls\":%s%s%s", options.message.text.length, cipher ? "\"" : "",
           cipher ? cipher : "null", cipher ? "\"" : "");
    if (options.rate) printf(",\"rate\":%.1f", options.rate);
    if (results.connected) print_usage("connect", "connections", results.connect, results.connected);
    if (server_count) {
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
