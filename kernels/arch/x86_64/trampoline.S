/* Where the other CPUs start: copied to TRAMPOLINE, entered in real mode with %cs = TRAMPOLINE >> 4.
 * PE and PG are set by one write, so there is no stop in protected mode.
 */
#include "long_mode.h"
#include "platform.h"
#include "smp.h"

        .section .rodata.trampoline, "a"
        .code16
        .balign 8
        .globl trampoline
trampoline:
        cli
        mov $CR4_PAE, %eax
        mov %eax, %cr4
        mov $pml4, %eax
        mov %eax, %cr3
        mov $MSR_EFER, %ecx
        mov $EFER_LME, %eax
        xor %edx, %edx
        wrmsr
        lgdtl TRAMPOLINE + (near_gdt_pointer - trampoline)
        mov $CR0_LONG, %eax
        mov %eax, %cr0
        ljmpl $CODE_SELECTOR, $start_other64
near_gdt_pointer:
        .word GDT_SIZE - 1
        .long gdt
        .balign 8
        .globl trampoline_end
trampoline_end:

        .section .text.start_other, "ax"
        .code64
start_other64:
        mov $DATA_SELECTOR, %eax
        mov %eax, %ss
        mov $1, %eax
        lock xadd %eax, smp_stacks_taken
        cmp $SMP_OTHERS_MAX, %eax
        jae 1f
        inc %eax
        shl $SMP_STACK_SHIFT, %eax
        lea smp_stacks(%rax), %rsp
        cld
        call smp_arrive
1:      cli
        hlt
        jmp 1b

        .section .note.GNU-stack, "", @progbits
