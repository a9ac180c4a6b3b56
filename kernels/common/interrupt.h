/* Exceptions, and device interrupts by their lines. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "io.h"
#include "platform.h"

/* What the entry code leaves on the stack; the machine's own. */
struct trap_frame;

/* A handler runs with interrupts off and must clear the device's cause before it returns. */
typedef void (*irq_handler)(unsigned line);

extern volatile uint32_t irq_counts[LINES];

/* Gets a CPU exception. It may leave by a jump of its own, but not return: the instruction would
 * fault again. Unless replaced, the exception is printed and ends the run. */
extern void (*fault_handler)(const struct trap_frame *frame);

/* Interrupts stay off; interrupts_on() when the handlers are in place. */
void interrupt_init(void);
/* Routes an edge-triggered line to this CPU. Without a handler its interrupts are only counted.
 * Of a line that is routed already only the handler changes: no access to the controller. */
void irq_enable(unsigned line, irq_handler handler);
/* The same for a line that stays high until the device is served. */
void irq_enable_level(unsigned line, irq_handler handler);
bool irq_enabled(unsigned line);
/* One line that says what a fault was. */
void fault_print(const struct trap_frame *frame);

#endif
