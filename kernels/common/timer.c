#include "timer.h"

#include "interrupt.h"
#include "platform.h"

#define PIT_RATE 0x34          /* channel 0, both bytes, mode 2: an edge per period */
#define PIT_SILENT 0x30        /* channel 0, mode 0, and no count follows: no edge */
#define PIT_LONGEST 50000      /* microseconds that surely fit 16 bits */
#define PIT_SHORTEST 200       /* less is refused by some hypervisors */
/* The PIT is ISA line 0, which reaches pin 2 on a PC and pin 0 where nothing overrides it. */
#define PIT_PIN 2
#define PIT_PIN_PLAIN 0

volatile uint32_t timer_ticks;
static uint32_t last_tick;
static bool has_timer;
static uint32_t pit_edges, pit_edges_per_tick;

static void set(unsigned offset, uint32_t value)
{
    write32(TIMER_BASE + offset, value);
}

/* Two accesses a tick, one more for the last, however late the interrupt is: what expires before the
 * acknowledgement makes an overrun, not an interrupt. The last tick disables first, for the same
 * reason: nothing may expire between the acknowledgement and the end. */
static void tick(__attribute__((unused)) unsigned pin)
{
    if (++timer_ticks == last_tick)
        set(TIMER_CTRL, 0);
    if (read32(TIMER_BASE + TIMER_STATUS) & TIMER_STATUS_EXPIRED)
        set(TIMER_STATUS, TIMER_STATUS_EXPIRED);
}

static void pit_edge(__attribute__((unused)) unsigned pin)
{
    if (timer_ticks == last_tick || ++pit_edges < pit_edges_per_tick)
        return;
    pit_edges = 0;
    if (++timer_ticks == last_tick)
        timer_stop();
}

static void pit_start(uint32_t period)
{
    if (period < PIT_SHORTEST)
        period = PIT_SHORTEST;
    pit_edges = 0;
    pit_edges_per_tick = (period + PIT_LONGEST - 1) / PIT_LONGEST;
    uint32_t count = (uint64_t)period * PIT_HZ / 1000000 / pit_edges_per_tick;
    out8(PIT_COMMAND_PORT, PIT_RATE);
    out8(PIT_CHANNEL0_PORT, count);
    out8(PIT_CHANNEL0_PORT, count >> 8);
}

void timer_init(void)
{
    has_timer = read32(TIMER_BASE + TIMER_ID) == TIMER_ID_VALUE;
    if (has_timer) {
        irq_enable(TIMER_IRQ, tick);
    } else {
        timer_stop();
        irq_enable(PIT_PIN, pit_edge);
        irq_enable(PIT_PIN_PLAIN, pit_edge);
    }
}

const char *timer_name(void)
{
    return has_timer ? "teaching timer" : "8254 timer";
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
        pit_start(period);
    }
}

void timer_stop(void)
{
    if (has_timer) {
        set(TIMER_CTRL, 0);
        set(TIMER_STATUS, TIMER_STATUS_EXPIRED);
    } else {
        out8(PIT_COMMAND_PORT, PIT_SILENT);
    }
}

void timer_wait(uint32_t ticks)
{
    interrupts_off();
    while (timer_ticks < ticks)
        sleep_until_interrupt();
    interrupts_on();
}
