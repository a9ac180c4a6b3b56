/* The other CPUs. */
#ifndef SMP_H
#define SMP_H

#define SMP_OTHERS_MAX 31
#define SMP_STACK_SHIFT 9

#ifndef __ASSEMBLER__
#include "io.h"

/* Starts every other CPU and returns how many there are, this one included. `expected`, if not 0, is
 * that number: the wait ends when all have arrived. Otherwise it lasts SMP_WAIT.
 * timer_init() comes first; called and left with interrupts on. */
uint32_t smp_start(uint32_t expected);
/* A line for each running CPU, by local APIC id, not in the order they came; then their number. */
void smp_report(uint32_t cpus, uint32_t expected);
#endif

#endif
