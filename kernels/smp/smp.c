/* Every CPU of the machine, started and counted. */
#include "smp.h"

#include "bootinfo.h"
#include "interrupt.h"
#include "machine.h"
#include "timer.h"

void main(const struct start_info *info)
{
    uint32_t expected = option(info, "cpus", 0);

    interrupt_init();
    timer_init();
    interrupts_on();
    uint32_t cpus = smp_start(expected);
    smp_report(cpus, expected);
    machine_exit(cpus < expected ? 1 : option(info, "exit", 0));
}
