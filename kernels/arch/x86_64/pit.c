/* The 8254 PIT. */
#include "interrupt.h"
#include "other_timer.h"
#include "platform.h"

#define PIT_RATE 0x34          /* channel 0, both bytes, mode 2: an edge per period */
#define PIT_SILENT 0x30        /* channel 0, mode 0, and no count follows: no edge */
#define PIT_LONGEST 50000      /* microseconds that surely fit 16 bits */
#define PIT_SHORTEST 200       /* less is refused by some hypervisors */
/* The PIT is ISA line 0, which reaches pin 2 on a PC and pin 0 where nothing overrides it. */
#define PIT_PIN 2
#define PIT_PIN_PLAIN 0

const char other_timer_name[] = "8254 timer";
static uint32_t edges, edges_per_tick;

static void edge(__attribute__((unused)) unsigned pin)
{
    if (++edges < edges_per_tick)
        return;
    edges = 0;
    timer_count();
}

void other_timer_init(void)
{
    other_timer_stop();
    irq_enable(PIT_PIN, edge);
    irq_enable(PIT_PIN_PLAIN, edge);
}

void other_timer_start(uint32_t period)
{
    if (period < PIT_SHORTEST)
        period = PIT_SHORTEST;
    edges = 0;
    edges_per_tick = (period + PIT_LONGEST - 1) / PIT_LONGEST;
    uint32_t count = (uint64_t)period * PIT_HZ / 1000000 / edges_per_tick;
    out8(PIT_COMMAND_PORT, PIT_RATE);
    out8(PIT_CHANNEL0_PORT, count);
    out8(PIT_CHANNEL0_PORT, count >> 8);
}

void other_timer_stop(void)
{
    out8(PIT_COMMAND_PORT, PIT_SILENT);
}
