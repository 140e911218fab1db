/* Clocks, and what the server processes used. */
#include "usage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"

static int servers[MOST_SERVERS], server_count = 0;

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

int servers_watched(void) { return server_count; }

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
