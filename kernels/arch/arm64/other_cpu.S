/* Where the other CPUs start: EL1, MMU off, interrupts masked. */
#include "mmu.h"
#include "psci.h"
#include "smp.h"

        .section .text.start_other, "ax"
        .globl start_other
start_other:
        mmu_on
        adrp x2, smp_stacks_taken
        add x2, x2, :lo12:smp_stacks_taken
1:      ldaxr w0, [x2]
        add w1, w0, #1
        stlxr w3, w1, [x2]
        cbnz w3, 1b
        cmp w0, #SMP_OTHERS_MAX
        b.hs 2f
        adrp x2, smp_stacks
        add x2, x2, :lo12:smp_stacks
        lsl x1, x1, #SMP_STACK_SHIFT
        add x0, x2, x1
        mov sp, x0
        bl smp_arrive
2:      mov w0, #PSCI_CPU_OFF & 0xffff
        movk w0, #PSCI_CPU_OFF >> 16, lsl #16
        hvc #0
3:      wfi
        b 3b

        .section .note.GNU-stack, "", @progbits
