/* The vector table: exceptions and interrupts of EL1 with its own stack; everything else is not expected. */

#define FRAME 224

        .macro save
        sub sp, sp, #FRAME
        stp x0, x1, [sp, #0]
        stp x2, x3, [sp, #16]
        stp x4, x5, [sp, #32]
        stp x6, x7, [sp, #48]
        stp x8, x9, [sp, #64]
        stp x10, x11, [sp, #80]
        stp x12, x13, [sp, #96]
        stp x14, x15, [sp, #112]
        stp x16, x17, [sp, #128]
        stp x18, x30, [sp, #144]
        mrs x0, elr_el1
        mrs x1, spsr_el1
        stp x0, x1, [sp, #160]
        .endm

        .section .text.entry, "ax"
        .balign 2048
        .globl vectors
vectors:
        .set vector, 0
        .rept 16
        .balign 128
        save
        mov x0, sp
        .if vector == 5          /* an interrupt */
        bl interrupt
        b leave
        .else
        mrs x1, esr_el1
        mrs x2, far_el1
        stp x1, x2, [sp, #176]
        mov x1, #vector
        str x1, [sp, #192]
        bl exception
        b leave
        .endif
        .set vector, vector + 1
        .endr

        .balign 128
leave:
        ldp x0, x1, [sp, #160]
        msr elr_el1, x0
        msr spsr_el1, x1
        ldp x18, x30, [sp, #144]
        ldp x16, x17, [sp, #128]
        ldp x14, x15, [sp, #112]
        ldp x12, x13, [sp, #96]
        ldp x10, x11, [sp, #80]
        ldp x8, x9, [sp, #64]
        ldp x6, x7, [sp, #48]
        ldp x4, x5, [sp, #32]
        ldp x2, x3, [sp, #16]
        ldp x0, x1, [sp, #0]
        add sp, sp, #FRAME
        eret

        .section .note.GNU-stack, "", @progbits
