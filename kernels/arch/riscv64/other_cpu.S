/* Where the other harts start: S mode, paging off, interrupts masked, a0 = the number of the hart. */
#include "sbi.h"
#include "smp.h"

        .section .text.start_other, "ax"
        .globl start_other
start_other:
        mv tp, a0
        la t0, smp_stacks_taken
        li t1, 1
        amoadd.w t0, t1, (t0)
        li t1, SMP_OTHERS_MAX
        bgeu t0, t1, 1f
        addi t0, t0, 1
        slli t0, t0, SMP_STACK_SHIFT
        la sp, smp_stacks
        add sp, sp, t0
        call smp_arrive
1:      li a7, SBI_HSM
        li a6, SBI_HSM_HART_STOP
        ecall
2:      wfi
        j 2b

        .section .note.GNU-stack, "", @progbits
