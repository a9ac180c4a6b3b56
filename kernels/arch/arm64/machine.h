/* The ways a guest's life ends. */
#ifndef MACHINE_H
#define MACHINE_H

#include "io.h"
#include "platform.h"
#include "psci.h"

#define EXIT_STATUS "(VALUE << 1) | 1"

/* Switches the machine off when all went well (value 0), or ends the run with status (value << 1) | 1, never 0.
 * Without the second way the CPU just stops. */
_Noreturn static inline void machine_exit(uint32_t value)
{
    if (!value)
        psci(PSCI_SYSTEM_OFF, 0, 0, 0);
    write32(DEBUG_EXIT_BASE, value);
    stop();
}

_Noreturn static inline void machine_reset(void)
{
    psci(PSCI_SYSTEM_RESET, 0, 0, 0);
    stop();
}

#endif
