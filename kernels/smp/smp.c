/* Every CPU of the machine, started and counted. */
#include "smp.h"

#include "bootinfo.h"
#include "interrupt.h"
#include "machine.h"
#include "text.h"
#include "timer.h"

void main(const struct start_info *info)
{
    uint32_t expected = option(info, "cpus", 0);

    interrupt_init();
    timer_init();
    interrupts_on();
    uint32_t cpus = smp_start(expected);
    for (unsigned id = 0, shown = 0; id < 256 && shown < cpus; id++) {
        if (smp_arrived(id)) {
            print("cpu %u up\n", id);
            shown++;
        }
    }
    print("smp: %u cpu%s", cpus, cpus == 1 ? "" : "s");
    bool missing = cpus < expected;
    if (missing)
        print(", %u expected", expected);
    print("\n");
    machine_exit(missing ? 1 : option(info, "exit", 0));
}
