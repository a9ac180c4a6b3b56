/* The timer that a machine has without vmlab's. It calls timer_count() once a period. */
#ifndef OTHER_TIMER_H
#define OTHER_TIMER_H

#include "io.h"

extern const char other_timer_name[];

void other_timer_init(void);
/* A period of so many microseconds, over and over. */
void other_timer_start(uint32_t period);
void other_timer_stop(void);

/* Of timer.c: counts a tick, and stops after the last one; whether more are to come. */
bool timer_count(void);

#endif
