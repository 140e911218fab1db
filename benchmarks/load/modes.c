/* What is measured, once the clients are there. */
#include "modes.h"

#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "report.h"

#define RETRY_AFTER 0.05
/* How many seconds, and how much of the run, the sending at a fixed rate may be late. */
#define LATE_ANYWAY 0.5
#define MOST_LATE 0.2

/* Wait until a count has come to what is wanted; a count that stands still for too long is a failure. */
static void wait_for(const long *count, long wanted, const char *what) {
    long seen = *count;
    double deadline = now() + options.timeout;
    while (*count < wanted) {
        pump(deadline);
        if (*count != seen) {
            seen = *count;
            deadline = now() + options.timeout;
        } else if (now() >= deadline) {
            die("%ld of %ld %s, and nothing more for %g s", *count, wanted, what, options.timeout);
        }
    }
}

static void pump_for(double seconds) {
    for (double end = now() + seconds; now() < end;) pump(end);
}

static void expect_nothing(struct client *c, const unsigned char *p, size_t n) {
    die("connection %d received what nobody asked for: %.*s", c->number, (int)(n < 300 ? n : 300), p);
}

static void expect(const struct client *c, const unsigned char *p, size_t n, const char *text, size_t length) {
    if (n == length && !memcmp(p, text, n)) return;
    die("connection %d received %zu bytes that are not the %zu expected: %.*s", c->number, n, length,
        (int)(n < 300 ? n : 300), p);
}

/* Connecting: the first client alone, so that what a server makes once is there; then `ramp` at a time. */

static long up;
static int started;

static void open_next(struct client *c) {
    (void)c;
    up++;
    if (started > 1 && started < options.clients) client_open(&clients[started++]);
}

static void connect_all(void) {
    listener = (struct listener){open_next, expect_nothing, NULL};
    client_open(&clients[0]);
    started = 1;
    wait_for(&up, 1, "connections are up");
    results.before = server_memory();
    results.connected = options.clients - 1;
    if (results.connected) {
        struct usage begin = usage_now();
        while (started < options.clients && started <= options.ramp) client_open(&clients[started++]);
        wait_for(&up, options.clients, "connections are up");
        results.connect = usage_since(begin);
    }
    pump_for(options.settle);
    results.after = server_memory();
}

/* Echo: a closed loop keeps messages in flight; an open loop sends at a fixed rate, whatever comes back. */

static bool measuring, sending;
static int echoing; /* how many of the clients send at the fixed rate */
static long answered, sent;
static double measured_from, measured_until, due;

static void remember(struct times *t, double at) {
    if (t->count == t->capacity) {
        unsigned capacity = t->capacity ? 2 * t->capacity : 4;
        double *grown = malloc(capacity * sizeof *grown);
        if (!grown) die("out of memory");
        for (unsigned i = 0; i < t->count; i++) grown[i] = t->at[(t->head + i) % t->capacity];
        free(t->at);
        *t = (struct times){grown, 0, t->count, capacity};
    }
    t->at[(t->head + t->count++) % t->capacity] = at;
}

static double oldest(struct times *t) {
    double at = t->at[t->head];
    t->head = (t->head + 1) % t->capacity;
    t->count--;
    return at;
}

/* Whether the message of a client with this number, from 0 on, takes back what the one before has done. */
static bool takes_back(long number) { return options.undo.text.length && number % 2; }

static void send_message(struct client *c, double intended) {
    const struct message *m = takes_back(c->received + c->sent.count) ? &options.undo : &options.message;
    remember(&c->sent, intended);
    sent++;
    client_send(c, m);
}

static void echo_message(struct client *c, const unsigned char *p, size_t n) {
    if (takes_back(c->received - 1)) expect(c, p, n, options.undone, strlen(options.undone));
    else expect(c, p, n, options.answer, options.answer_length);
    if (!c->sent.count) die("connection %d received more answers than it sent messages", c->number);
    double at = oldest(&c->sent), t = now();
    answered++;
    results.messages += measuring;
    /* By when it was meant to be sent, not by when the answer came: slow answers must not fall out of the samples. */
    if (at >= measured_from && at < measured_until) add_sample(&results.latency, t - at);
    if (sending && !options.rate) send_message(c, t);
}

/* Send what is due, at its own time: latency counts from there, so waiting in a queue of ours counts as well. */
static void send_due(double until) {
    static long turn;
    double most = LATE_ANYWAY + MOST_LATE * (options.warmup + options.seconds);
    for (double t = now(); due <= t && due < until; due += 1 / options.rate) {
        double late = now() - due;
        if (late > most) die("%.0f messages a second are more than can be sent: one is %g s late", options.rate, late);
        if (due >= measured_from) add_sample(&results.late, late);
        send_message(&clients[turn++ % echoing], due);
    }
}

static void echo_until(double end) {
    for (double t = now(); t < end; t = now()) {
        if (options.rate) send_due(end);
        pump(options.rate && due < end ? due : end);
    }
    /* What was not sent in time would be missing in the samples of how late it was, and of how long it took. */
    if (options.rate) send_due(end);
}

static void run_echo(void) {
    listener.message = echo_message;
    sending = true;
    echoing = options.clients;
    due = now();
    measured_from = due + options.warmup;
    measured_until = measured_from + options.seconds;
    for (int i = 0; i < options.clients && !options.rate; i++)
        for (int k = 0; k < options.in_flight; k++) send_message(&clients[i], now());
    echo_until(measured_from);
    measuring = true;
    struct usage begin = usage_now();
    echo_until(measured_until);
    /* A slow server is measured for longer: there is no figure without an answer, and without work for it. */
    double deadline = now() + options.timeout;
    while (!options.rate && now() < deadline && !(results.messages && servers_worked(begin))) pump(deadline);
    results.run = usage_since(begin);
    measuring = sending = false;
    wait_for(&answered, sent, "messages were answered");
    pump_for(options.settle); /* an answer too many would come now */
    if (!results.messages) die("no message was answered while it was measured");
}

/* Greedy: the first client is measured at a fixed rate, while all others send triggers as fast as the server takes them. */

static void greedy_message(struct client *c, const unsigned char *p, size_t n) {
    if (!c->number) echo_message(c, p, n);
}

static void flood_until(double end) {
    for (double t = now(); t < end; t = now()) {
        bool full = true;
        for (int i = 1; i < options.clients; i++) {
            struct stream *s = &clients[i].streams[SOCKET];
            if (!s->out.length) client_send(&clients[i], &options.trigger);
            full &= s->out.length > 0;
        }
        send_due(end);
        pump(!full ? t : due < end ? due : end);
    }
    send_due(end);
}

static void run_greedy(void) {
    if (!options.rate || options.transport != WEBSOCKET) die("the mode greedy needs --rate, and websockets");
    if (options.clients < 2 || !options.trigger.text.length) die("the mode greedy needs two clients and a --trigger");
    listener.message = greedy_message;
    echoing = 1;
    due = now();
    measured_from = due + options.warmup;
    measured_until = measured_from + options.seconds;
    flood_until(measured_from);
    measuring = true;
    struct usage begin = usage_now();
    flood_until(measured_until);
    results.run = usage_since(begin);
    measuring = false;
    wait_for(&answered, sent, "messages were answered");
}

/* Fan-out: one client asks, every client must receive as many messages as were asked for; then again. */

static long arrived, expected;

static void fanout_message(struct client *c, const unsigned char *p, size_t n) {
    expect(c, p, n, options.news, options.news_length);
    if (c->received > expected) die("connection %d received a message twice", c->number);
    arrived++;
}

static void fanout_for(double seconds, bool measured) {
    double end = now() + seconds;
    do {
        double begin = now();
        for (int i = 0; i < options.clients; i++) clients[i].received = 0;
        arrived = 0;
        expected = options.burst;
        client_send(&clients[0], &options.trigger);
        wait_for(&arrived, expected * options.clients, "messages arrived");
        if (!measured) continue;
        add_sample(&results.latency, now() - begin);
        results.messages += arrived;
        results.rounds++;
    } while (now() < end);
}

static void run_fanout(void) {
    listener.message = fanout_message;
    if (options.warmup) fanout_for(options.warmup, false);
    struct usage begin = usage_now();
    fanout_for(options.seconds, true);
    results.run = usage_since(begin);
    pump_for(options.settle); /* a message too many would come now */
}

/* Rush: all send at once, and each has to get an answer; what else is sent to them meanwhile is not looked at. */

static long served;

static void rush_message(struct client *c, const unsigned char *p, size_t n) {
    if (n < options.answer_length || memcmp(p, options.answer, options.answer_length)) return;
    if (!c->sent.count) die("connection %d was answered twice", c->number);
    add_sample(&results.latency, now() - oldest(&c->sent));
    served++;
}

static void run_rush(void) {
    listener.message = rush_message;
    struct usage begin = usage_now();
    double began = now();
    for (int i = 0; i < options.clients; i++) send_message(&clients[i], began);
    wait_for(&served, options.clients, "clients were answered");
    results.run = usage_since(begin);
    results.messages = served;
    pump_for(options.settle); /* an answer too many would come now */
}

/* Idle: hold the connections; a lost one is the end of the run. What memory they take is looked at in the end. */

static void run_idle(void) {
    struct usage begin = usage_now();
    pump_for(options.seconds);
    results.run = usage_since(begin);
    results.after = server_memory();
}

/* Handshakes: polling sessions, one after another over connections that are kept. */

static long shaken, asked, wanted;

static void shake(struct client *c) {
    shaken++;
    if (asked < wanted) client_shake(c, asked++);
    else c->phase = DOWN; /* it has done its part, and must not poll */
}

static void run_handshakes(void) {
    if (options.transport != POLLING) die("handshakes are measured with --transport polling");
    long warm = options.clients + options.count / 10;
    wanted = warm + options.count;
    asked = options.clients;
    listener = (struct listener){shake, expect_nothing, NULL};
    for (int i = 0; i < options.clients; i++) client_open(&clients[i]);
    wait_for(&shaken, warm, "handshakes");
    long before = shaken;
    struct usage begin = usage_now();
    wait_for(&shaken, wanted, "handshakes");
    results.run = usage_since(begin);
    results.messages = shaken - before;
    results.after = server_memory();
}

/* Storm: all connections drop, all clients come back at once. */

static long back;
static double storm_began, retry_at;
static int *refused_clients, refused_count;

static void storm_ready(struct client *c) {
    c->returned = true;
    back++;
    add_sample(&results.latency, now() - storm_began);
}

/* One that the server dropped comes back at once; one that was turned away tries again a little later. */
static void storm_lost(struct client *c) {
    if (c->returned) die("connection %d was back, and lost again", c->number);
    if (!c->retrying) {
        c->retrying = true;
        client_open(c);
        return;
    }
    results.retries++;
    if (!refused_count) retry_at = now() + RETRY_AFTER;
    refused_clients[refused_count++] = c->number;
}

static void retry(void) {
    int count = refused_count;
    int *again = refused_clients;
    refused_clients = malloc(options.clients * sizeof *refused_clients);
    refused_count = 0;
    for (int i = 0; i < count; i++) client_open(&clients[again[i]]);
    free(again);
}

static void drop_all(void) {
    for (int i = 0; i < options.clients; i++) {
        clients[i].retrying = true;
        client_close(&clients[i]);
    }
    for (int i = 0; i < options.clients; i++) client_open(&clients[i]);
}

static void run_storm(void) {
    refused_clients = malloc(options.clients * sizeof *refused_clients);
    listener = (struct listener){storm_ready, expect_nothing, storm_lost};
    struct usage begin = usage_now();
    storm_began = now();
    if (options.trigger.text.length) client_send(&clients[0], &options.trigger);
    else drop_all();
    long seen = 0;
    double deadline = now() + options.timeout;
    while (back < options.clients) {
        pump(refused_count ? retry_at : deadline);
        if (refused_count && now() >= retry_at) retry();
        if (back != seen) deadline = now() + options.timeout;
        seen = back;
        if (now() >= deadline) die("%ld of %d clients are back after %g s", back, options.clients, now() - storm_began);
    }
    results.run = usage_since(begin);
    results.messages = back;
    listener.lost = NULL;
    pump_for(options.settle);
}

void run_mode(void) {
    static const struct {
        const char *name;
        void (*run)(void);
        bool connects; /* before it, all clients connect */
    } modes[] = {{"echo", run_echo, true},
                 {"greedy", run_greedy, true},
                 {"fanout", run_fanout, true},
                 {"rush", run_rush, true},
                 {"idle", run_idle, true},
                 {"storm", run_storm, true},
                 {"handshakes", run_handshakes, false}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i].name, options.mode)) continue;
        if (modes[i].connects) connect_all();
        modes[i].run();
        return;
    }
    die("no mode %s", options.mode);
}
