"""Code of the guests: see `guest` for its form and `lab` for what lies where."""

from __future__ import annotations

from tests.engine.soft.riscv.guest import CODE, Guest

__all__ = ["ACCESSES", "CALLS", "CODE", "FAULTS", "INTERRUPTS", "SPIN"]

ACCESSES = Guest(
    """# accesses of every size to a device
    li a1, 0x0a001000
    li a2, 0x1122334455667788
    sb a2, (a1)
    sh a2, 2(a1)
    sw a2, 4(a1)
    .option norvc
    sd a2, 8(a1)
    .option rvc
    c.sd a2, 16(a1)
    .option norvc
    sd a2, 24(a1)
    lbu a3, (a1)
    lhu a4, 2(a1)
    lwu a5, 4(a1)
    ld a6, 8(a1)
    ld a7, 16(a1)
    lw t3, 8(a1)
    amoadd.d t4, a2, (a1)
    li t0, 0x80040000
    sd a3, (t0)
    sd a4, 8(t0)
    sd a5, 16(t0)
    sd a6, 24(t0)
    sd a7, 32(t0)
    sd t3, 40(t0)
    sd t4, 48(t0)

end:
    li t0, 0x0a00f000
    sw zero, (t0)
    j .
""",
    """
    b715000a 37964400 1b06d68c 1316e600 13065645 1316c600 13067666 1316c600 13068678 2380c500 2391c500
    23a2c500 23b4c500 90e923bc c50083c6 050003d7 250083e7 450003b8 850083b8 050103ae 8500afbe c500b722
    00009b82 12009392 220123b0 d20023b4 e20023b8 f20023bc 020123b0 120323b4 c20323b8 d203b7f2 000a23a0
    02006f00 0000
    """,
)

INTERRUPTS = Guest(
    """# interrupts: each hart's timer, and those of devices
    csrr s0, mhartid
    la t0, handler
    csrw mtvec, t0
    li s1, 0x80020000
    li s2, 0x80040000
    ld s3, 0(s1)
    ld s4, 8(s1)
    ld s5, 16(s1)
    ld s6, 24(s1)
    li a0, 0
    li s11, 0
    li s7, 0x0c000000
    li t0, 8
    li t1, 1
    mv t2, s7
1:  addi t2, t2, 4
    sw t1, (t2)
    addi t0, t0, -1
    bnez t0, 1b
    slli t0, s0, 3
    add t1, s1, t0
    ld t1, 40(t1)
    slli t2, s0, 8
    add t2, t2, s7
    li t0, 0x2000
    add t2, t2, t0
    sw t1, (t2)
    slli s8, s0, 13
    li t0, 0x0c200004
    add s8, s8, t0
    slli s9, s0, 3
    li t0, 0x02004000
    add s9, s9, t0
    li s10, 0x0200bff8
    beqz s6, 2f
    ld t0, (s10)
    add t0, t0, s6
    sd t0, (s9)
2:  li t0, 0x888
    csrw mie, t0
    bnez s0, loop
    li t0, 0x0a00e000
    sw zero, (t0)
loop:
    csrci mstatus, 8
    mv t0, a0
    bnez s6, 3f
    ld t0, (s2)
3:  bgeu t0, s4, done
    addi s11, s11, 1
    beqz s3, 4f
    wfi
4:  csrsi mstatus, 8
    j loop
done:
    slli t0, s0, 3
    add t0, t0, s2
    sd a0, 64(t0)
    sd s11, 96(t0)
    li t0, 1
    addi t1, s2, 16
    amoadd.d zero, t0, (t1)
    ld t1, 32(s1)
    li t2, 2
    bne t1, t2, 5f
    xori t2, s0, 1
    slli t2, t2, 2
    li t0, 0x02000000
    add t2, t2, t0
    li t0, 1
    sw t0, (t2)
5:  bnez s0, 7f
6:  ld t0, 16(s2)
    bne t0, t1, 6b
    li t0, 0x0a00f000
    sw zero, (t0)
    j .
7:  wfi
    j 7b
    .balign 4
handler:
    csrr t3, mcause
    andi t3, t3, 0xf
    li t4, 7
    beq t3, t4, timer
    li t4, 11
    beq t3, t4, external
    li t4, 3
    bne t3, t4, spurious
    slli t3, s0, 2
    li t4, 0x02000000
    add t3, t3, t4
    sw zero, (t3)
    mret
timer:
    addi a0, a0, 1
    li t3, -1
    bgeu a0, s4, 8f
    ld t3, (s10)
    add t3, t3, s6
8:  sd t3, (s9)
    mret
external:
    lw t3, (s8)
    beqz t3, spurious
    addi a0, a0, 1
    li t4, 1
    amoadd.d zero, t4, (s2)
    sw t3, (s5)
    sw t3, (s8)
    mret
spurious:
    li t4, 1
    addi t3, s2, 8
    amoadd.d zero, t4, (t3)
    mret
""",
    """
    732440f1 97020000 93820215 73905230 b7440000 9b841400 93941401 37290000 1b091900 13192901 83b90400
    03ba8400 83ba0401 03bb8401 13050000 930d0000 b70b000c 93028000 13031000 93830b00 93834300 23a06300
    9382f2ff e39a02fe 93123400 33835400 03338302 93138400 b3837301 b7220000 b3835300 23a06300 131cd400
    b702200c 9b824200 330c5c00 931c3400 b7420002 b38c5c00 37cd0002 1b0d8dff 63080b00 83320d00 b3826201
    23b05c00 b7120000 9b828288 73904230 63160400 b7e2000a 23a00200 73700430 93020500 63140b00 83320900
    63fc4201 938d1d00 63840900 73005010 73600430 6ff0dffd 93123400 b3822201 23b0a204 23b0b207 93021000
    13030901 2f305300 03b30402 93032000 631e7300 93431400 93932300 b7020002 b3835300 93021000 23a05300
    631c0400 83320901 e39e62fe b7f2000a 23a00200 6f000000 73005010 6ff0dfff 732e2034 137efe00 930e7000
    6304de03 930eb000 630ede03 930e3000 631ade05 131e2400 b70e0002 330ede01 23200e00 73002030 13051500
    130ef0ff 63764501 033e0d00 330e6e01 23b0cc01 73002030 032e0c00 630e0e00 13051500 930e1000 2f30d901
    23a0ca01 2320cc01 73002030 930e1000 130e8900 2f30de01 73002030
    """,
)

CALLS = Guest(
    """# calls of the firmware, from a table: five words in, two out
    li s1, 0x80020000
    li s2, 0x80040000
1:  ld a7, 0(s1)
    li t0, -1
    beq a7, t0, end
    ld a6, 8(s1)
    ld a0, 16(s1)
    ld a1, 24(s1)
    ld a2, 32(s1)
    ecall
    sd a0, 0(s2)
    sd a1, 8(s2)
    addi s1, s1, 40
    addi s2, s2, 16
    j 1b

end:
    li t0, 0x0a00f000
    sw zero, (t0)
    j .
""",
    """
    b7440000 9b841400 93941401 37290000 1b091900 13192901 83b80400 9302f0ff 63865802 03b88400 03b50401
    83b58401 03b60402 73000000 2330a900 2334b900 93848402 13090901 6ff01ffd b7f2000a 23a00200 6f000000
    """,
)

FAULTS = Guest(
    """# exceptions: cause, distance of mepc from the instruction, mtval
    la t0, handler
    csrw mtvec, t0
    li s2, 0x80040000
    la s3, 1f
1:  csrr t1, 0x7c0
    la s3, 2f
2:  csrw 0xc00, t1
    la s3, 3f
    .option rvc
3:  c.unimp
    c.nop
    .option norvc
    la s3, 4f
4:  ecall
    la s3, 5f
5:  ebreak
    la s3, 6f
    li t1, 0x80040001
6:  amoadd.w t2, t1, (t1)
    la s3, 7f
    csrw 0x14d, t1
7:  csrr t2, 0x14d
    sd t2, (s2)

end:
    li t0, 0x0a00f000
    sw zero, (t0)
    j .

    .balign 4
handler:
    csrr t3, mcause
    csrr t4, mepc
    csrr t5, mtval
    sub t6, t4, s3
    sd t3, (s2)
    sd t6, 8(s2)
    sd t5, 16(s2)
    addi s2, s2, 24
    addi t4, t4, 4
    csrw mepc, t4
    mret
""",
    """
    97020000 93820209 73905230 37290000 1b091900 13192901 97090000 93898900 7323007c 97090000 93898900
    731003c0 97090000 93898900 00000100 97090000 93898900 73000000 97090000 93898900 73001000 97090000
    93898901 37230000 1b031300 13132301 13031300 af236300 97090000 9389c900 7310d314 f323d014 23307900
    b7f2000a 23a00200 6f000000 732e2034 f32e1034 732f3034 b38f3e41 2330c901 2334f901 2338e901 13098901
    938e4e00 73901e34 73002030
    """,
)

SPIN = Guest(
    """# each hart counts for ever
    csrr a0, mhartid
    slli a0, a0, 3
    li a1, 0x80040000
    add a0, a0, a1
1:  ld a2, (a0)
    addi a2, a2, 1
    sd a2, (a0)
    j 1b
""",
    """
    732540f1 13153500 b7250000 9b851500 93952501 3305b500 03360500 13061600 2330c500 6ff05fff
    """,
)
