/* How a guest's life ends. */
#ifndef MACHINE_H
#define MACHINE_H

#include "io.h"
#include "platform.h"

/* Ends the run with status (value << 1) | 1; without the debug-exit port the CPU just stops. */
_Noreturn static inline void machine_exit(uint32_t value)
{
    out32(DEBUG_EXIT_PORT, value);
    stop();
}

_Noreturn static inline void machine_reset(void)
{
    out8(I8042_COMMAND_PORT, I8042_RESET);
    stop();
}

#endif
