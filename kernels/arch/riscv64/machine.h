/* The ways a guest's life ends. */
#ifndef MACHINE_H
#define MACHINE_H

#include "io.h"
#include "platform.h"
#include "sbi.h"

#define EXIT_STATUS "VALUE"
#define FINISHER_CODE_MAX 0xffff

/* Switches the machine off when all went well (value 0), or ends the run with that status, by the test finisher;
 * what is too large for it becomes the largest. Without either the CPU just stops. */
_Noreturn static inline void machine_exit(uint32_t value)
{
    if (!value)
        sbi(SBI_SRST, 0, SBI_SHUTDOWN, 0, 0);
    if (value > FINISHER_CODE_MAX)
        value = FINISHER_CODE_MAX;
    write32(FINISHER_BASE, value ? value << 16 | FINISHER_FAIL : FINISHER_PASS);
    stop();
}

_Noreturn static inline void machine_reset(void)
{
    sbi(SBI_SRST, 0, SBI_COLD_REBOOT, 0, 0);
    stop();
}

#endif
