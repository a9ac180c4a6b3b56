"""Code of the guests: see `guest` for its form and `lab` for what lies where."""

from __future__ import annotations

from tests.engine.soft.arm64.guest import CODE, Guest

__all__ = ["ACCESSES", "CODE", "FAULTS", "INTERRUPTS", "POWER", "REWRITE", "SMP"]

#: x18: the results' address; writes to EXIT end the guest
_START = """
    ldr x18, =0x80040000
    ldr x0, =0x80080000
    mov sp, x0
    adr x0, vectors
    msr vbar_el1, x0
"""
_EXIT = """
exit:
    ldr x0, =0x0a00f000
    str w0, [x0]
    b .
"""
_NO_VECTORS = """
    .balign 2048
vectors:
"""

ACCESSES = Guest(
    f"""// accesses of every size to a device, and one that crosses a page's end
    {_START}
    ldr x1, =0x0a001000
    ldr x2, =0x1122334455667788
    strb w2, [x1]
    strh w2, [x1, #2]
    str w2, [x1, #4]
    str x2, [x1, #8]
    stp w2, w2, [x1, #16]
    stur w2, [x1, #33]
    ldrb w3, [x1]
    ldrh w4, [x1, #2]
    ldr w5, [x1, #4]
    ldr x6, [x1, #8]
    ldrsb x7, [x1, #1]
    ldur w8, [x1, #33]
    ldp w9, w10, [x1, #16]
    stp x3, x4, [x18]
    stp x5, x6, [x18, #16]
    stp x7, x8, [x18, #32]
    {_EXIT}{_NO_VECTORS}""",
    """
    12400058 20400058 1f000091 a03f0010 00c018d5 e13f0058 02400058 22000039 22040079 220400b9
    220400f9 22080229 221002b8 23004039 24044079 250440b9 260440f9 27048039 281042b8 29284229
    431200a9 451a01a9 472202a9 203e0058 000000b9 00000014 1f2003d5*486 00000480 00000000
    00000880 00000000 0010000a 00000000 88776655 44332211 00f0000a 00000000
    """,
)

#: x17 counts exceptions; each stores vector, ESR, ELR, FAR, SPSR
FAULTS = Guest(
    f"""// exceptions: supervisor call, breakpoint, undefined, unaligned, missing page, unknown register, EL0
    {_START}
    mov x17, #0
    svc #0x123
    brk #7
    .inst 0
    ldr x1, =0x80040801
    ldaxr x2, [x1]
    mrs x3, S3_0_C15_C0_0
    // translation on: 1 GiB blocks, the third one (RAM) and the first (devices); all else is missing
    ldr x1, =0x80050000
    ldr x2, =0x80000000 | 0x701
    str x2, [x1, #16]
    ldr x2, =0x705
    str x2, [x1]
    // 1 GiB further the same for EL0
    ldr x2, =0x80000000 | 0x741
    str x2, [x1, #24]
    msr ttbr0_el1, x1
    ldr x2, =(1 << 23) | 25
    msr tcr_el1, x2
    ldr x2, =0xff
    msr mair_el1, x2
    dsb sy
    isb
    mrs x2, sctlr_el1
    orr x2, x2, #1
    msr sctlr_el1, x2
    isb
    ldr x1, =0x40001238
    ldr x2, [x1]
    str x2, [x1]
    // EL0: its supervisor call comes from a lower level, and ends the guest
    mov x2, #0x40
    adr x3, user
    ldr x4, =0x40000000
    add x3, x3, x4
    msr spsr_el1, x2
    msr elr_el1, x3
    ldr x4, =0x80070000
    msr sp_el0, x4
    eret
    .balign 4096
user:
    mov x0, sp
    svc #1
    {_EXIT}
record:
    stp x14, x15, [x18], #16
    mrs x15, elr_el1
    mrs x14, far_el1
    stp x15, x14, [x18], #16
    mrs x14, spsr_el1
    mov x13, sp
    stp x14, x13, [x18], #16
    // past the instruction, but for supervisor calls, which are already
    mrs x14, esr_el1
    lsr x14, x14, #26
    cmp x14, #0x15
    b.eq 1f
    add x15, x15, #4
    msr elr_el1, x15
1:  add x17, x17, #1
    mrs x14, spsr_el1
    and x14, x14, #0xf
    cbz x14, exit
    eret
    .balign 2048
vectors:
    .rept 16
    adr x14, .
    mrs x15, esr_el1
    b record
    .balign 128
    .endr
    """,
    """
    12000158 20000158 1f000091 a0bf0010 00c018d5 110080d2 612400d4 e00020d4 00000000 61ff0058
    22fc5fc8 03f038d5 41ff0058 62ff0058 220800f9 62ff0058 220000f9 62ff0058 220c00f9 012018d5
    42ff0058 422018d5 42ff0058 02a218d5 9f3f03d5 df3f03d5 021038d5 420040b2 021018d5 df3f03d5
    81fe0058 220040f9 220000f9 020880d2 c37b0010 24fe0058 6300048b 024018d5 234018d5 e4fd0058
    044118d5 e0039fd6 1f2003d5*982 e0030091 210000d4 c0820058 000000b9 00000014 4e3e81a8
    2f4038d5 0e6038d5 4f3a81a8 0e4038d5 ed030091 4e3681a8 0e5238d5 cefd5ad3 df5500f1 60000054
    ef110091 2f4018d5 31060091 0e4038d5 ce0d4092 aefdffb4 e0039fd6 1f2003d5*489 0e000010
    0f5238d5 03feff17 1f2003d5*29 0e000010 0f5238d5 e3fdff17 1f2003d5*29 0e000010 0f5238d5
    c3fdff17 1f2003d5*29 0e000010 0f5238d5 a3fdff17 1f2003d5*29 0e000010 0f5238d5 83fdff17
    1f2003d5*29 0e000010 0f5238d5 63fdff17 1f2003d5*29 0e000010 0f5238d5 43fdff17 1f2003d5*29
    0e000010 0f5238d5 23fdff17 1f2003d5*29 0e000010 0f5238d5 03fdff17 1f2003d5*29 0e000010
    0f5238d5 e3fcff17 1f2003d5*29 0e000010 0f5238d5 c3fcff17 1f2003d5*29 0e000010 0f5238d5
    a3fcff17 1f2003d5*29 0e000010 0f5238d5 83fcff17 1f2003d5*29 0e000010 0f5238d5 63fcff17
    1f2003d5*29 0e000010 0f5238d5 43fcff17 1f2003d5*29 0e000010 0f5238d5 23fcff17 1f2003d5*29
    00000480 00000000 00000880 00000000 01080480 00000000 00000580 00000000 01070080 00000000
    05070000 00000000 41070080 00000000 19008000 00000000 ff000000 00000000 38120040 00000000
    00000040 00000000 00000780 00000000 00f0000a 00000000
    """,
)

#: Takes interrupts until x22 of them were handled, busy or (x19) in WFI. x27: the GICv2 CPU interface, 0:
#: GICv3. x24: what the virtual timer is armed with, 0: not at all. Others than the timer's are written to
#: x23. Results: handled, spurious, turns of the loop; the ninth: its turns again, counted in memory.
INTERRUPTS = Guest(
    f"""// interrupts: the virtual timer's and those of devices
    {_START}
    ldr x1, =0x80030000
    ldp x2, x3, [x1], #16
1:  str w3, [x2]
    ldp x2, x3, [x1], #16
    cbnz x2, 1b
    ldr x1, =0x80020000
    ldp x19, x22, [x1]
    ldp x23, x24, [x1, #16]
    ldr x27, [x1, #32]
    mov x20, #0
    mov x21, #0
    mov x25, #0
    mov x26, #0
    cbnz x27, 2f
    mov x0, #0xff
    msr S3_0_C4_C6_0, x0
    mov x0, #1
    msr S3_0_C12_C12_7, x0
2:  cbz x24, 3f
    msr cntv_tval_el0, x24
    mov x0, #1
    msr cntv_ctl_el0, x0
3:  ldr x0, =0x0a00e000
    str w0, [x0]
    cbnz x19, sleep
    msr daifclr, #2
busy:
    ldr x0, [x18, #64]
    add x0, x0, #1
    str x0, [x18, #64]
    add x21, x21, #1
    cmp x25, x22
    b.lo busy
    b done
sleep:
    msr daifset, #2
    cmp x25, x22
    b.hs done
    wfi
    msr daifclr, #2
    add x21, x21, #1
    b sleep
done:
    msr daifset, #2
    stp x25, x26, [x18]
    str x21, [x18, #16]
    {_EXIT}
    .balign 2048
vectors:
    .space 0x280
    cbz x27, 1f
    ldr w1, [x27, #0xc]
    b 2f
1:  mrs x1, S3_0_C12_C12_0
2:  and w2, w1, #0x3ff
    cmp w2, #1023
    b.eq 6f
    add x25, x25, #1
    cmp w2, #27
    b.ne 3f
    msr cntv_tval_el0, x24
    cmp x25, x22
    b.lo 4f
    msr cntv_ctl_el0, xzr
    b 4f
3:  str w2, [x23]
4:  cbz x27, 5f
    str w1, [x27, #0x10]
    eret
5:  msr S3_0_C12_C12_1, x1
    eret
6:  add x26, x26, #1
    eret
    """,
    """
    12570058 20570058 1f000091 a03f0010 00c018d5 e1560058 220cc1a8 430000b9 220cc1a8 c2ffffb5
    81560058 335840a9 376041a9 3b1040f9 140080d2 150080d2 190080d2 1a0080d2 bb0000b5 e01f80d2
    004618d5 200080d2 e0cc18d5 980000b4 18e31bd5 200080d2 20e31bd5 a0540058 000000b9 330100b5
    ff4203d5 402240f9 00040091 402200f9 b5060091 3f0316eb 63ffff54 08000014 df4203d5 3f0316eb
    a2000054 7f2003d5 ff4203d5 b5060091 faffff17 df4203d5 596a00a9 550a00f9 40520058 000000b9
    00000014 1f2003d5*461 00000000*160 7b0000b4 610f40b9 02000014 01cc38d5 22240012 5ffc0f71
    e0010054 39070091 5f6c0071 c1000054 18e31bd5 3f0316eb 83000054 3fe31bd5 02000014 e20200b9
    7b0000b4 611300b9 e0039fd6 21cc18d5 e0039fd6 5a070091 e0039fd6 00000000 00000480 00000000
    00000880 00000000 00000380 00000000 00000280 00000000 00e0000a 00000000 00f0000a 00000000
    """,
)

#: CPU 0 turns all others on; each adds x10 times to a counter, and interrupts CPU 0 when it is done
SMP = Guest(
    f"""// several CPUs: PSCI, exclusive accesses, software-generated interrupts (GICv2)
    {_START}
    ldr x9, =0x09fff000
    ldr x8, =0x09ffd000
    mov w0, #1
    str w0, [x9]
    str w0, [x8]
    mov w0, #0xff
    str w0, [x8, #4]
    mov x25, #0
    mov x19, #1
    ldr x20, [x18, #128]
1:  cmp x19, x20
    b.hs 2f
    ldr x0, =0xc4000003
    mov x1, x19
    adr x2, other
    mov x3, x19
    hvc #0
    cbnz x0, .
    add x19, x19, #1
    b 1b
2:  bl count
    sub x20, x20, #1
3:  cmp x25, x20
    b.hs 4f
    wfi
    msr daifclr, #2
    msr daifset, #2
    b 3b
4:  str x25, [x18, #8]
    // the last one is off
    mov x9, #100
5:  ldr x0, =0xc4000004
    mov x1, x20
    mov x2, #0
    hvc #0
    cbz x0, 5b
    str x0, [x18, #24]
    ldr x0, =0xc4000003
    mov x1, #77
    hvc #0
    str x0, [x18, #32]
    {_EXIT}
other:
    ldr x18, =0x80040000
    mrs x1, mpidr_el1
    and x1, x1, #0xff
    eor x1, x1, x0
    ldr x2, [x18, #40]
    orr x2, x2, x1
    str x2, [x18, #40]
    bl count
    ldr x9, =0x09fff000
    ldr w0, =0x10003
    str w0, [x9, #0xf00]
    ldr x0, =0x84000002
    hvc #0
    b .
count:
    ldr x10, [x18, #136]
1:  ldxr x0, [x18]
    add x0, x0, #1
    stxr w1, x0, [x18]
    cbnz w1, 1b
    subs x10, x10, #1
    b.ne 1b
    ret
    .balign 2048
vectors:
    .space 0x280
    ldr w1, [x8, #0xc]
    add x25, x25, #1
    str w1, [x8, #0x10]
    eret
    """,
    """
    d2540058 e0540058 1f000091 a03f0010 00c018d5 a9540058 c8540058 20008052 200100b9 000100b9
    e01f8052 000500b9 190080d2 330080d2 544240f9 7f0214eb 22010054 a0530058 e10313aa a2030010
    e30313aa 020000d4 000000b5 73060091 f7ffff17 25000094 940600d1 3f0314eb a2000054 7f2003d5
    ff4203d5 df4203d5 fbffff17 590600f9 890c80d2 a0510058 e10314aa 020080d2 020000d4 80ffffb4
    400e00f9 a0500058 a10980d2 020000d4 401200f9 a0500058 000000b9 00000014 d24e0058 a10038d5
    211c4092 210000ca 421640f9 420001aa 421600f9 07000094 494e0058 604d0018 20010fb9 204f0058
    020000d4 00000014 4a4640f9 407e5fc8 00040091 407e01c8 a1ffff35 4a0500f1 61ffff54 c0035fd6
    1f2003d5*442 00000000*160 010d40b9 39070091 011100b9 e0039fd6 03000100 00000000 00000480
    00000000 00000880 00000000 00f0ff09 00000000 00d0ff09 00000000 030000c4 00000000 040000c4
    00000000 00f0000a 00000000 02000084 00000000
    """,
)

#: The function at 0x80010000 (mov w0, #n; ret) is called, rewritten and called again, x0 times. How it is
#: written: x19 = 0 where it is executed, 1 at another virtual address that is not executable, 2 by a device
REWRITE = Guest(
    f"""// code that is written anew
    {_START}
    ldp x19, x20, [x18, #128]
    ldr x1, =0x80050000
    ldr x2, =0x80000000 | 0x701
    str x2, [x1, #16]
    // 1 GiB further the same, execute never
    ldr x2, =0x0060000080000701
    str x2, [x1, #24]
    ldr x2, =0x705
    str x2, [x1]
    msr ttbr0_el1, x1
    ldr x2, =(1 << 23) | 25
    msr tcr_el1, x2
    ldr x2, =0xff
    msr mair_el1, x2
    dsb sy
    isb
    mrs x2, sctlr_el1
    orr x2, x2, #1
    msr sctlr_el1, x2
    isb
    mov x21, #0
    ldr x22, =0x80010000
    mov x23, x22
    cmp x19, #1
    b.ne 1f
    ldr x24, =0x40000000
    add x23, x23, x24
1:  ldr w24, =0x52800000
    ldr w25, =0xd65f03c0
    ldr x26, =0x0a00d000
    mov x27, #0
2:  lsl w0, w21, #5
    orr w0, w0, w24
    cmp x19, #2
    b.ne 3f
    str w0, [x26]
    b 4f
3:  str w0, [x23]
    str w25, [x23, #4]
4:  dc cvau, x22
    dsb ish
    ic ivau, x22
    dsb ish
    isb
    blr x22
    cmp w0, w21
    cinc x27, x27, ne
    add x21, x21, #1
    cmp x21, x20
    b.lo 2b
    stp x21, x27, [x18]
    {_EXIT}{_NO_VECTORS}""",
    """
    52400058 60400058 1f000091 a03f0010 00c018d5 535248a9 01400058 22400058 220800f9 22400058
    220c00f9 22400058 220000f9 012018d5 02400058 422018d5 02400058 02a218d5 9f3f03d5 df3f03d5
    021038d5 420040b2 021018d5 df3f03d5 150080d2 363f0058 f70316aa 7f0600f1 61000054 f83e0058
    f702188b 383c0018 393c0018 ba3e0058 1b0080d2 a06a1b53 0000182a 7f0a00f1 61000054 400300b9
    03000014 e00200b9 f90600b9 367b0bd5 9f3b03d5 36750bd5 9f3b03d5 df3f03d5 c0023fd6 1f00156b
    7b079b9a b5060091 bf0214eb c3fdff54 556e00a9 203c0058 000000b9 00000014 1f2003d5*454
    00008052 c0035fd6 00000480 00000000 00000880 00000000 00000580 00000000 01070080 00000000
    01070080 00006000 05070000 00000000 19008000 00000000 ff000000 00000000 00000180 00000000
    00000040 00000000 00d0000a 00000000 00f0000a 00000000
    """,
)

POWER = Guest(
    f"""// the function in x19 of the firmware, by HVC
    {_START}
    ldr x0, [x18, #128]
    ldp x1, x2, [x18, #136]
    hvc #0
    str x0, [x18]
    {_EXIT}{_NO_VECTORS}""",
    """
    12400058 20400058 1f000091 a03f0010 00c018d5 404240f9 418a48a9 020000d4 400200f9 603f0058
    000000b9 00000014 1f2003d5*500 00000480 00000000 00000880 00000000 00f0000a 00000000
    """,
)
