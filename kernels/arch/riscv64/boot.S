/* The entry: S mode, paging off, interrupts masked, a0 = the number of the hart, a1 = the device tree. */

        .section .text.boot, "ax"
        .globl start
        .type start, %function
start:
        mv tp, a0
        la sp, boot_stack_top
        mv a0, a1
        call main
1:      wfi
        j 1b
        .size start, . - start

        .section .bss.stack, "aw", @nobits
        .balign 4096
        .skip 16384
boot_stack_top:
        .skip 16

        .section .note.GNU-stack, "", @progbits
