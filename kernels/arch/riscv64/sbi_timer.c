/* The timer of the hart, through its firmware (SBI 2.0 chapter 6). */
#include "interrupt.h"
#include "other_timer.h"
#include "platform.h"
#include "sbi.h"

#define NEVER UINT64_MAX

const char other_timer_name[] = "sbi timer";
static uint64_t interval, due;

static void set(uint64_t time)
{
    due = time;
    sbi(SBI_TIME, 0, time, 0, 0);
}

static void expired(__attribute__((unused)) unsigned line)
{
    if (timer_count())
        set(due + interval);
    else
        other_timer_stop();
}

void other_timer_init(void)
{
    other_timer_stop();
    irq_enable_level(OWN_TIMER_LINE, expired);
}

void other_timer_start(uint32_t period)
{
    interval = (uint64_t)period * TICK_HZ / 1000000;
    if (!interval)
        interval = 1;
    set(CSR_READ(time) + interval);
}

void other_timer_stop(void)
{
    set(NEVER);
}
