/* Ticks: from vmlab's teaching timer, or from the machine's other timer where there is none. */
#ifndef TIMER_H
#define TIMER_H

#include "io.h"

/* Ticks since timer_start(). */
extern volatile uint32_t timer_ticks;

/* interrupt_init() comes first. */
void timer_init(void);
const char *timer_name(void);
/* `ticks` interrupts, `period` microseconds apart; then the timer is off again. */
void timer_start(uint32_t period, uint32_t ticks);
void timer_stop(void);
/* Sleeps until `ticks` have come. Called and left with interrupts on. */
void timer_wait(uint32_t ticks);

#endif
