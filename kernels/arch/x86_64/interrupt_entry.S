/* The IDT, complete at link time, and what its gates lead to. */
#include "platform.h"

/* Exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX */
#define WITH_ERROR_CODE 0x60227d00
#define STUB_SIZE 16
#define INTERRUPT_GATE 0x8e00

        .section .text.entry, "ax"
        .balign STUB_SIZE
stubs:
        .set vector, 0
        .rept VECTORS
        .balign STUB_SIZE
        .if ((WITH_ERROR_CODE >> vector) & 1) == 0
        push $0
        .endif
        push $vector
        jmp enter
        .set vector, vector + 1
        .endr

/* C keeps the other registers. The frame is 16 quadwords: the stack stays aligned for the call. */
enter:
        push %rax
        push %rcx
        push %rdx
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        cld
        mov %rsp, %rdi
        call interrupt
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rdx
        pop %rcx
        pop %rax
        add $16, %rsp
        iretq

        .section .rodata.idt, "a"
        .balign 16
idt:
        .set vector, 0
        .rept VECTORS
        .word stubs + STUB_SIZE * vector - KERNEL_BASE
        .word CODE_SELECTOR
        .word INTERRUPT_GATE
        .word KERNEL_BASE >> 16
        .quad 0
        .set vector, vector + 1
        .endr
idt_end:

        .globl idt_pointer
idt_pointer:
        .word idt_end - idt - 1
        .quad idt

        .section .note.GNU-stack, "", @progbits
