#include "smp.h"

#include "lapic.h"
#include "text.h"
#include "timer.h"

#define SMP_WAIT 100000   /* microseconds for an unknown number of CPUs */
#define SMP_LIMIT 1000000 /* microseconds before a missing CPU is given up */

#define ICR_PENDING 0x1000
#define ICR_INIT 0xc4500    /* all but this CPU, assert, INIT */
#define ICR_STARTUP 0xc4600 /* all but this CPU, assert, start-up; the low byte is the page */

extern const char trampoline[], trampoline_end[];

/* Used by the trampoline. */
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
    arrived[lapic_id()] = true;
    __atomic_fetch_add(&others, 1, __ATOMIC_RELEASE);
}

static void send(uint32_t command)
{
    lapic_write(LAPIC_ICR_LOW, command);
    while (lapic_read(LAPIC_ICR_LOW) & ICR_PENDING)
        cpu_relax();
}

uint32_t smp_start(uint32_t expected)
{
    memset((void *)arrived, 0, sizeof(arrived));
    arrived[lapic_id()] = true;
    smp_stacks_taken = 0;
    others = 0;
    if (expected == 1)
        return 1;

    memcpy((void *)TRAMPOLINE, trampoline, trampoline_end - trampoline);
    timer_start(expected ? SMP_LIMIT : SMP_WAIT, 1);
    /* Virtual CPUs need neither the 10 ms pause between the two nor a second start-up. */
    send(ICR_INIT);
    send(ICR_STARTUP | TRAMPOLINE >> 12);
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
