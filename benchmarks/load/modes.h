/* What is measured: echo, greedy, fan-out, idle, handshakes, storm. */
#ifndef MODES_H
#define MODES_H

void run_mode(void);

#endif
