#include "wake.h"

#include "lapic.h"
#include "text.h"

#define ICR_PENDING 0x1000
#define ICR_INIT 0xc4500    /* all but this CPU, assert, INIT */
#define ICR_STARTUP 0xc4600 /* all but this CPU, assert, start-up; the low byte is the page */

extern const char trampoline[], trampoline_end[];

unsigned wake_own_id(void)
{
    return lapic_id();
}

static void send(uint32_t command)
{
    lapic_write(LAPIC_ICR_LOW, command);
    while (lapic_read(LAPIC_ICR_LOW) & ICR_PENDING)
        cpu_relax();
}

void wake_others(void)
{
    memcpy((void *)TRAMPOLINE, trampoline, trampoline_end - trampoline);
    /* Virtual CPUs need neither the 10 ms pause between the two nor a second start-up. */
    send(ICR_INIT);
    send(ICR_STARTUP | TRAMPOLINE >> 12);
}
