/* The generic timer, virtual (Arm DDI 0487 D12). */
#include "interrupt.h"
#include "other_timer.h"
#include "platform.h"

#define CTL_ENABLE 1
#define CTL_MASK 2

const char other_timer_name[] = "generic timer";
static uint64_t interval;

static void expired(__attribute__((unused)) unsigned line)
{
    uint64_t due = SYSTEM_READ(cntv_cval_el0) + interval;
    SYSTEM_WRITE(cntv_cval_el0, due);
    timer_count();
}

void other_timer_init(void)
{
    other_timer_stop();
    irq_enable_level(GENERIC_TIMER_IRQ, expired);
}

void other_timer_start(uint32_t period)
{
    interval = SYSTEM_READ(cntfrq_el0) * period / 1000000;
    if (!interval)
        interval = 1;
    SYSTEM_WRITE(cntv_cval_el0, SYSTEM_READ(cntvct_el0) + interval);
    SYSTEM_WRITE(cntv_ctl_el0, CTL_ENABLE);
}

void other_timer_stop(void)
{
    SYSTEM_WRITE(cntv_ctl_el0, CTL_MASK);
}
