#include "wake.h"

#include "psci.h"
#include "smp.h"

/* A CPU that was started before may be on its way out: so often it is asked again. */
#define PATIENCE 100000

extern const char start_other[];

unsigned wake_own_id(void)
{
    return SYSTEM_READ(mpidr_el1) & 0xff;
}

/* They are numbered from 0 up; the first that the firmware does not know is behind the last. */
void wake_others(void)
{
    for (unsigned id = 0; id <= SMP_OTHERS_MAX; id++) {
        if (id == wake_own_id())
            continue;
        int64_t answer = PSCI_ALREADY_ON;
        for (unsigned n = 0; n < PATIENCE && answer == PSCI_ALREADY_ON; n++)
            answer = (int32_t)psci(PSCI_CPU_ON, id, (uintptr_t)start_other, 0);
        if (answer)
            return;
    }
}
