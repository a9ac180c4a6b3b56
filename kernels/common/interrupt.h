/* Exceptions, and device interrupts through the IOAPIC: pin = ISA line. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "io.h"
#include "platform.h"

/* What the entry code leaves on the stack. */
struct trap_frame {
    uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* A handler runs with interrupts off and must clear the device's cause before it returns. */
typedef void (*irq_handler)(unsigned pin);

extern volatile uint32_t irq_counts[IOAPIC_PINS];

/* Gets a CPU exception. It may leave by a jump of its own, but not return: the instruction would
 * fault again. Unless replaced, the exception is printed and ends the run. */
extern void (*fault_handler)(const struct trap_frame *frame);

/* Interrupts stay off; interrupts_on() when the handlers are in place. */
void interrupt_init(void);
/* Routes an edge-triggered pin to this CPU. Without a handler its interrupts are only counted.
 * Of a pin that is routed already only the handler changes: no access to the IOAPIC. */
void irq_enable(unsigned pin, irq_handler handler);
/* The same for a line that stays high until the device is served. */
void irq_enable_level(unsigned pin, irq_handler handler);
bool irq_enabled(unsigned pin);
/* One line that says what a fault was. */
void fault_print(const struct trap_frame *frame);

#endif
