/* The serial line. Output needs no set-up; input does. */
#ifndef SERIAL_H
#define SERIAL_H

#include "io.h"

/* Send "\r\n" for '\n': what a terminal wants. */
extern bool serial_crlf;

void serial_put(char c);
void serial_write(const char *text, size_t length);

/* Receive by interrupt from here on; interrupt_init() comes first. */
void serial_input_init(void);
/* The next received byte, or -1. */
int serial_get(void);
/* The next received byte; sleeps until there is one. Called and left with interrupts on. */
uint8_t serial_wait(void);
/* Whether Ctrl-C was received; it and what came before it are dropped. */
bool serial_interrupted(void);

#endif
