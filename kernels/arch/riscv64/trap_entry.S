/* Where traps of S mode arrive, on the stack of what they interrupt; and the one read that may raise one. */

#define FRAME 160

        .section .text.entry, "ax"
        .balign 4
        .globl trap_entry
trap_entry:
        addi sp, sp, -FRAME
        sd ra, 0(sp)
        sd t0, 8(sp)
        sd t1, 16(sp)
        sd t2, 24(sp)
        sd a0, 32(sp)
        sd a1, 40(sp)
        sd a2, 48(sp)
        sd a3, 56(sp)
        sd a4, 64(sp)
        sd a5, 72(sp)
        sd a6, 80(sp)
        sd a7, 88(sp)
        sd t3, 96(sp)
        sd t4, 104(sp)
        sd t5, 112(sp)
        sd t6, 120(sp)
        csrr t0, sepc
        csrr t1, sstatus
        csrr t2, scause
        csrr t3, stval
        sd t0, 128(sp)
        sd t1, 136(sp)
        sd t2, 144(sp)
        sd t3, 152(sp)
        mv a0, sp
        call trap
        ld t0, 128(sp)
        ld t1, 136(sp)
        csrw sepc, t0
        csrw sstatus, t1
        ld ra, 0(sp)
        ld t0, 8(sp)
        ld t1, 16(sp)
        ld t2, 24(sp)
        ld a0, 32(sp)
        ld a1, 40(sp)
        ld a2, 48(sp)
        ld a3, 56(sp)
        ld a4, 64(sp)
        ld a5, 72(sp)
        ld a6, 80(sp)
        ld a7, 88(sp)
        ld t3, 96(sp)
        ld t4, 104(sp)
        ld t5, 112(sp)
        ld t6, 120(sp)
        addi sp, sp, FRAME
        sret

        .globl probe32
probe32:
        lw a0, 0(a0)
        ret
        .globl probe_failed     /* here it goes on when the load was a fault */
probe_failed:
        li a0, -1
        ret

        .section .note.GNU-stack, "", @progbits
