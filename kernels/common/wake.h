/* How a machine starts its other CPUs. */
#ifndef WAKE_H
#define WAKE_H

#include "io.h"

/* Of this CPU, below 256. */
unsigned wake_own_id(void);
/* All others start; each calls smp_arrive() on a stack of its own, and stops when that returns. */
void wake_others(void);

#endif
