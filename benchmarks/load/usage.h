/* Clocks, and what the server processes used. */
#ifndef USAGE_H
#define USAGE_H

#include <stdbool.h>

double now(void);

#define MOST_SERVERS 64

/* What a phase of the run took: wall clock, and the CPU time of this process, of the servers, and of each of them. */
struct usage {
    double secs, own_cpu, server_cpu, of_server[MOST_SERVERS];
};

struct memory {
    long rss, pss;
};

void watch_servers(const char *pids);
/* How many server processes are watched. */
int servers_watched(void);
struct usage usage_now(void);
struct usage usage_since(struct usage begin);
/* Whether the servers have used any CPU time since then; true if none are watched. */
bool servers_worked(struct usage begin);
struct memory server_memory(void);

#endif
