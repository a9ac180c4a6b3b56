/* What the monitor says of the parts that only this machine has. */
#ifndef OWN_H
#define OWN_H

#include "io.h"

/* Of `regions`: one line of it, and those of the interrupt controller. */
void region(uint64_t start, uint64_t size, const char *what);
void own_regions(void);
/* Of `devices`: those that are always there. */
void own_devices(void);
void present(const char *where, const char *name, bool there);

#endif
