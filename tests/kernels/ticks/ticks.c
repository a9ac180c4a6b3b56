/* riscv64: every hart counts the interrupts of its own timer, and the first those of the teaching timer beside. */
#include "bootinfo.h"
#include "interrupt.h"
#include "machine.h"
#include "sbi.h"
#include "smp.h"
#include "text.h"
#include "timer.h"
#include "wake.h"

#define HARTS 8
#define SIE_TIMER (1u << 5)

/* Used by the code where the others start. */
uint32_t smp_stacks_taken;
char smp_stacks[SMP_OTHERS_MAX << SMP_STACK_SHIFT] __attribute__((aligned(16)));

static volatile uint32_t counts[HARTS], early[HARTS];
static uint64_t due[HARTS], interval;
static uint32_t wanted;

static void set(uint64_t time)
{
    due[hart()] = time;
    sbi(SBI_TIME, 0, time, 0, 0);
}

static void tick(__attribute__((unused)) unsigned line)
{
    if (CSR_READ(time) < due[hart()])
        early[hart()]++; /* it came before its time */
    set(++counts[hart()] < wanted ? due[hart()] + interval : UINT64_MAX);
}

static void count_here(void)
{
    set(CSR_READ(time) + interval);
    CSR_SET(sie, SIE_TIMER);
    interrupts_off();
    while (counts[hart()] < wanted)
        sleep_until_interrupt();
    interrupts_on();
}

void smp_arrive(void);

void smp_arrive(void)
{
    extern const char trap_entry[];
    CSR_WRITE(stvec, trap_entry);
    CSR_WRITE(sie, 0);
    count_here();
}

void main(const struct start_info *info)
{
    unsigned harts = option(info, "cpus", 1);
    wanted = option(info, "ticks", 100);
    interval = option(info, "interval", 1000);

    interrupt_init();
    timer_init();
    irq_enable(OWN_TIMER_LINE, tick);
    if (harts > 1)
        wake_others();
    timer_start(option(info, "period", 100), wanted);
    count_here();
    timer_wait(wanted);
    for (unsigned n = 0; n < harts && n < HARTS; n++) {
        while (counts[n] < wanted)
            cpu_relax();
        print("hart %u: %u, early %u\n", n, counts[n], early[n]);
    }
    print("teaching timer: %u, %u interrupts\n", timer_ticks, irq_counts[TIMER_IRQ]);
    machine_exit(0);
}
