#include "timer.h"

#include "interrupt.h"
#include "other_timer.h"
#include "platform.h"

volatile uint32_t timer_ticks;
static uint32_t last_tick;
static bool has_timer;

static void set(unsigned offset, uint32_t value)
{
    write32(TIMER_BASE + offset, value);
}

/* Two accesses a tick, one more for the last, however late the interrupt is: what expires before the
 * acknowledgement makes an overrun, not an interrupt. The last tick disables first, for the same
 * reason: nothing may expire between the acknowledgement and the end. */
static void tick(__attribute__((unused)) unsigned line)
{
    if (++timer_ticks == last_tick)
        set(TIMER_CTRL, 0);
    if (read32(TIMER_BASE + TIMER_STATUS) & TIMER_STATUS_EXPIRED)
        set(TIMER_STATUS, TIMER_STATUS_EXPIRED);
}

bool timer_count(void)
{
    if (timer_ticks != last_tick && ++timer_ticks == last_tick)
        timer_stop();
    return timer_ticks != last_tick;
}

void timer_init(void)
{
    has_timer = probe32(TIMER_BASE + TIMER_ID) == TIMER_ID_VALUE;
    if (has_timer) {
        irq_enable(TIMER_IRQ, tick);
    } else {
        other_timer_init();
    }
}

const char *timer_name(void)
{
    return has_timer ? "teaching timer" : other_timer_name;
}

void timer_start(uint32_t period, uint32_t ticks)
{
    timer_ticks = 0;
    last_tick = ticks;
    if (ticks == 0)
        return;
    if (has_timer) {
        set(TIMER_PERIOD, period ? period : 1);
        set(TIMER_CTRL, TIMER_CTRL_ENABLE | TIMER_CTRL_IRQ_ENABLE | TIMER_CTRL_PERIODIC);
    } else {
        other_timer_start(period);
    }
}

void timer_stop(void)
{
    if (has_timer) {
        set(TIMER_CTRL, 0);
        set(TIMER_STATUS, TIMER_STATUS_EXPIRED);
    } else {
        other_timer_stop();
    }
}

void timer_wait(uint32_t ticks)
{
    interrupts_off();
    while (timer_ticks < ticks)
        sleep_until_interrupt();
    interrupts_on();
}
