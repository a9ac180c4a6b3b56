/* Timer interrupts, counted. The device accesses are the same in every run, however slow the host. */
#include "bootinfo.h"
#include "interrupt.h"
#include "machine.h"
#include "text.h"
#include "timer.h"

void main(const struct start_info *info)
{
    uint32_t ticks = option(info, "ticks", 10);
    uint32_t period = option(info, "period", 10000);

    interrupt_init();
    timer_init();
    print("irqlab: %s, a tick every %u us\n", timer_name(), period);
    timer_start(period, ticks);
    interrupts_on();
    for (uint32_t n = 1; n <= ticks; n++) {
        timer_wait(n);
        print("tick %u\n", n);
    }
    print("irqlab: %u interrupt%s\n", timer_ticks, timer_ticks == 1 ? "" : "s");
    machine_exit(option(info, "exit", 0));
}
