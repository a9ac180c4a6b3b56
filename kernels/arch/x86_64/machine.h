/* The ways a guest's life ends. */
#ifndef MACHINE_H
#define MACHINE_H

#include "io.h"
#include "platform.h"

#define EXIT_STATUS "(VALUE << 1) | 1"

/* Switches the machine off when all went well (value 0), or ends the run with status (value << 1) | 1, never 0.
 * Where there is no such switch, as in QEMU, 0 takes the second way too; without either the CPU just stops. */
_Noreturn static inline void machine_exit(uint32_t value)
{
    if (!value)
        out8(SLEEP_CONTROL_PORT, SLEEP_ENTER | SLEEP_SOFT_OFF);
    out32(DEBUG_EXIT_PORT, value);
    stop();
}

/* No CPU survives a fault without an IDT: the hypervisor sees a triple fault. */
_Noreturn static inline void machine_triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) no_idt;
    __asm__ volatile("lidt %0; ud2" : : "m"(no_idt));
    stop();
}

/* Asks the i8042; where there is none, a triple fault resets as well. */
_Noreturn static inline void machine_reset(void)
{
    out8(I8042_COMMAND_PORT, I8042_RESET);
    machine_triple_fault();
}

#endif
