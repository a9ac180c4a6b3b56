/* What the rest of the monitor asks of the shell. */
#ifndef SHELL_H
#define SHELL_H

#include "io.h"

/* Comes before whatever is printed unasked: leaves the prompt's line, which is written again. */
void notice(void);
/* The next key; until it comes, devices are served. Called and left with interrupts on. */
uint8_t wait_key(void);

#endif
