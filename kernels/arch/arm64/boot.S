/* The entry: EL1, MMU off, interrupts masked, x0 = the device tree.
 *
 * What can be laid out by the assembler is: the page table, in blocks of 1 GiB.
 */
#include "mmu.h"
#include "platform.h"

        .section .text.boot, "ax"
        .globl start
        .type start, %function
start:
        mov x19, x0
        mmu_on
        adrp x0, boot_stack_top
        mov sp, x0
        mov x0, x19
        bl main
1:      wfi
        b 1b
        .size start, . - start

        .section .data.pages, "aw"
        .balign 4096
        .globl page_table
page_table:
        .set address, 0
        .rept RAM_BASE >> 30
        .quad address + BLOCK_DEVICE
        .set address, address + 0x40000000
        .endr
        .rept 512 - (RAM_BASE >> 30)
        .quad address + BLOCK_NORMAL
        .set address, address + 0x40000000
        .endr

        .section .bss.stack, "aw", @nobits
        .balign 4096
        .skip 16384
boot_stack_top:
        .skip 16

        .section .note.GNU-stack, "", @progbits
