/* What the command line says, and the messages that it describes. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"

struct options options = {
    .mode = "echo", .host = "127.0.0.1", .path = "/engine.io/", .query = "", .clients = 100, .in_flight = 1, .burst = 1,
    .count = 10000, .ramp = 200, .size = 60, .seconds = 5, .settle = 0.3, .timeout = 10, .proven = "",
};

/* No number of the command line is larger. */
#define MOST 1000000000
/* Host, path and query together; a request's head has room for them. */
#define LONGEST_TARGET 512

/* What the command line says about messages, before it is known how long they are. */
static const char *message, *answer, *undo = "", *hello = "", *greeting = "", *trigger, *news;
static const char *transport = "websocket", *protocol = "engine.io";

/* Each option has one of these places for its value. */
static const struct {
    const char *name;
    const char **text;
    int *count;
    double *amount;
} known[] = {
    {"mode", .text = &options.mode},           {"transport", .text = &transport},
    {"protocol", .text = &protocol},           {"host", .text = &options.host},
    {"port", .count = &options.port},          {"path", .text = &options.path},
    {"query", .text = &options.query},         {"server", .text = &options.servers},
    {"others", .text = &options.others},       {"then", .count = &options.then},
    {"clients", .count = &options.clients},    {"ramp", .count = &options.ramp},
    {"sources", .count = &options.sources},    {"in-flight", .count = &options.in_flight},
    {"rate", .amount = &options.rate},         {"burst", .count = &options.burst},
    {"count", .count = &options.count},        {"size", .count = &options.size},
    {"message", .text = &message},             {"answer", .text = &answer},
    {"undo", .text = &undo},                   {"undone", .text = &options.undone},
    {"hello", .text = &hello},                 {"greeting", .text = &greeting},
    {"proof", .text = &options.proof},         {"proven", .text = &options.proven},
    {"trigger", .text = &trigger},             {"news", .text = &news},
    {"seconds", .amount = &options.seconds},   {"warmup", .amount = &options.warmup},
    {"settle", .amount = &options.settle},     {"timeout", .amount = &options.timeout},
};
enum { KNOWN = sizeof known / sizeof *known, TLS = KNOWN, FEATURES };

/* A number from `least` on, which is all of the text. */
static double number(const char *name, const char *text, double least) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least) || value > MOST)
        die("--%s takes a number from %g to %d, not %s", name, least, MOST, text);
    return value;
}

static int whole(const char *name, const char *text) {
    double value = number(name, text, 1);
    if (value != (int)value) die("--%s takes a whole number, not %s", name, text);
    return value;
}

static void set_option(int index, const char *value) {
    if (known[index].text) *known[index].text = value;
    if (known[index].count) *known[index].count = whole(known[index].name, value);
    if (known[index].amount) *known[index].amount = number(known[index].name, value, 0);
}

static void print_features(void) {
#ifdef WITH_TLS
    puts("tls");
#endif
    exit(0);
}

/* Return which of the choices the text is. */
static int choice(const char *name, const char *text, const char *const *choices) {
    for (int i = 0; choices[i]; i++)
        if (!strcmp(text, choices[i])) return i;
    die("--%s cannot be %s", name, text);
}

static void read_command_line(int argc, char **argv) {
    struct option names[KNOWN + 3] = {{0}};
    for (int i = 0; i < KNOWN; i++) names[i] = (struct option){known[i].name, required_argument, NULL, 'o'};
    names[TLS] = (struct option){"tls", no_argument, NULL, 't'};
    names[FEATURES] = (struct option){"features", no_argument, NULL, 'f'};
    int index, found;
    while ((found = getopt_long(argc, argv, "", names, &index)) != -1) {
        if (found == 'o') set_option(index, optarg);
        else if (found == 't') options.tls = true;
        else if (found == 'f') print_features();
        else exit(2);
    }
    if (optind < argc) die("unknown argument %s", argv[optind]);
    if (!options.port) die("--port is needed");
    if (options.port > 65535) die("--port %d is none", options.port);
    if (options.then > 65535) die("--then %d is no port", options.then);
    if (strlen(options.host) + strlen(options.path) + strlen(options.query) > LONGEST_TARGET)
        die("--host, --path and --query have more than %d letters together", LONGEST_TARGET);
    options.transport = choice("transport", transport, (const char *const[]){"websocket", "polling", "upgrade", NULL});
    options.plain = choice("protocol", protocol, (const char *const[]){"engine.io", "plain", NULL});
    if (options.plain && options.transport != WEBSOCKET) die("a plain server has websockets only");
    if (!*undo != !options.undone) die("--undo and --undone belong together");
    if (options.then && options.transport == WEBSOCKET) die("--then needs a handshake by polling");
}

/* Messages */

/* Return the text with its `@` replaced by `fill` letters. */
static char *filled(const char *text, size_t fill) {
    size_t before = strcspn(text, "@"), length = strlen(text);
    if (before == length) return strdup(text);
    char *whole = malloc(length + fill);
    memcpy(whole, text, before);
    memset(whole + before, 'x', fill);
    strcpy(whole + before + fill, text + before + 1);
    return whole;
}

/* Encode a message for both transports, as many times in a row as it is sent at once. */
static struct message encode(const char *text, int times) {
    struct message m = {{0}, {0}};
    for (int i = 0; i < times && *text; i++) {
        if (i) append(&m.text, "\x1e", 1);
        append(&m.text, text, strlen(text));
        append_frame(&m.frame, TEXT, text, strlen(text));
    }
    return m;
}

static void prepare_messages(void) {
    if (!message) message = options.plain ? "@" : "4@";
    size_t bare = strlen(message) - !!strchr(message, '@');
    if (strchr(message, '@') && (size_t)options.size < bare) die("--size must be at least %zu for this message", bare);
    size_t fill = strchr(message, '@') ? options.size - bare : 0;
    options.message = encode(filled(message, fill), 1);
    options.answer = filled(answer ? answer : message, fill);
    options.answer_length = strlen(options.answer);
    options.undo = encode(undo, 1);
    options.hello = encode(hello, 1);
    options.greeting = greeting;
    options.greeting_length = strlen(greeting);
    bool is_fanout = !strcmp(options.mode, "fanout");
    options.trigger = encode(trigger ? trigger : !is_fanout ? "" : options.plain ? "b" : "4b", options.burst);
    options.news = news ? news : options.plain ? "hello broadcast payload" : "4hello broadcast payload";
    options.news_length = strlen(options.news);
    options.pong = encode("3", 1);
    options.probe = encode("2probe", 1);
    options.upgrade = encode("5", 1);
}

void read_options(int argc, char **argv) {
    read_command_line(argc, argv);
    prepare_messages();
}
