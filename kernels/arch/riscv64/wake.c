#include "wake.h"

#include "sbi.h"
#include "smp.h"

/* A hart that was started before may be on its way out: so often it is asked again. */
#define PATIENCE 100000

extern const char start_other[];

unsigned wake_own_id(void)
{
    return hart();
}

/* They are numbered from 0 up; the first that the firmware does not know is behind the last. */
void wake_others(void)
{
    for (unsigned id = 0; id <= SMP_OTHERS_MAX; id++) {
        if (id == wake_own_id())
            continue;
        int64_t error = SBI_ALREADY_AVAILABLE;
        for (unsigned n = 0; n < PATIENCE && error == SBI_ALREADY_AVAILABLE; n++)
            error = sbi(SBI_HSM, SBI_HSM_HART_START, id, (uintptr_t)start_other, 0).error;
        if (error)
            return;
    }
}
