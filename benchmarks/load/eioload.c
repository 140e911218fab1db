/* eioload: a load generator for websocket servers, most of all for those that speak Engine.IO 4.
 *
 * One thread, one epoll, no allocation per message: the server under test should be the bottleneck, and the line of
 * JSON on standard output says whether it was (server_busy, client_busy). Whatever goes wrong (a lost connection, a
 * refused handshake, an answer that is not the expected one, one message too few or too many) ends the run with a
 * sentence on standard error, status 1 and no figures.
 *
 * README.md has the options. Build: gcc -O2 -DWITH_TLS -o eioload $(ls *.c | grep -v floor) -lssl -lcrypto   (without OpenSSL: neither)
 */
#include <signal.h>

#include "clients.h"
#include "modes.h"
#include "options.h"
#include "report.h"
#include "usage.h"

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (options.servers) watch_servers(options.servers);
    clients_begin();
    run_mode();
    print_report(stream_cipher(&clients[0].streams[options.transport == POLLING ? POLL : SOCKET]));
    return 0;
}
