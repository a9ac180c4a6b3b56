/* Devices that raise their lines again while they are being served: window n has the n-th line. */
#include "bootinfo.h"
#include "interrupt.h"
#include "machine.h"
#include "text.h"

#define CAUSE 0x0 /* 1: it wants to be served */
#define ACK 0x4   /* serves it, and it may want so again at once */
#define START 0x8

static const uint8_t lines[] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23};
#define TESTED (sizeof(lines))

static uint32_t spurious;

static void serve(unsigned pin)
{
    unsigned n = 0;
    while (lines[n] != pin)
        n++;
    uintptr_t base = DEVICE_BASE + n * DEVICE_SIZE;
    if (read32(base + CAUSE))
        write32(base + ACK, 1);
    else
        spurious++;
}

void main(const struct start_info *info)
{
    uint32_t knocks = option(info, "knocks", 10);
    bool flip = option(info, "flip", 0), late = option(info, "late", 0);

    interrupt_init();
    interrupts_on();
    for (unsigned n = 0; n < TESTED; n++) {
        uintptr_t base = DEVICE_BASE + n * DEVICE_SIZE;
        bool level = (lines[n] >= LEVEL_FIRST_IRQ) != flip;
        if (late)
            write32(base + START, 1); /* the pin is masked still: a level waits */
        (level ? irq_enable_level : irq_enable)(lines[n], serve);
        if (!late)
            write32(base + START, 1);
        interrupts_off();
        while (irq_counts[lines[n]] < knocks)
            sleep_until_interrupt();
        interrupts_on();
        print("line %u: %u\n", lines[n], irq_counts[lines[n]]);
    }
    print("spurious: %u\n", spurious);
    machine_exit(0);
}
