#include "smp.h"

#include "text.h"
#include "timer.h"
#include "wake.h"

#define SMP_WAIT 100000   /* microseconds for an unknown number of CPUs */
#define SMP_LIMIT 1000000 /* microseconds before a missing CPU is given up */

/* Used by the code where they start. */
uint32_t smp_stacks_taken;
char smp_stacks[SMP_OTHERS_MAX << SMP_STACK_SHIFT] __attribute__((aligned(16)));

static volatile bool arrived[256];
static uint32_t others;

static uint32_t others_arrived(void)
{
    return __atomic_load_n(&others, __ATOMIC_ACQUIRE);
}

/* Each CPU but the first comes through here once, on its own stack. */
void smp_arrive(void)
{
    arrived[wake_own_id()] = true;
    __atomic_fetch_add(&others, 1, __ATOMIC_RELEASE);
}

uint32_t smp_start(uint32_t expected)
{
    memset((void *)arrived, 0, sizeof(arrived));
    arrived[wake_own_id()] = true;
    smp_stacks_taken = 0;
    others = 0;
    if (expected == 1)
        return 1;

    timer_start(expected ? SMP_LIMIT : SMP_WAIT, 1);
    wake_others();
    if (!expected) {
        timer_wait(1);
    } else {
        while (1 + others_arrived() < expected && !timer_ticks)
            cpu_relax();
        if (!timer_ticks)
            timer_stop();
    }
    return 1 + others_arrived();
}

void smp_report(uint32_t cpus, uint32_t expected)
{
    for (unsigned id = 0, shown = 0; id < 256 && shown < cpus; id++) {
        if (arrived[id]) {
            print("cpu %u up\n", id);
            shown++;
        }
    }
    print("smp: %u cpu%s", cpus, cpus == 1 ? "" : "s");
    if (cpus < expected)
        print(", %u expected", expected);
    print("\n");
}
