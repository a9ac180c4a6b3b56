"""The guests of these tests: assembly and the bytes it makes (`test_guests` compares the two).

Code is linked at 0x100000 (CODE) unless it says otherwise. In long mode the common start loads the IDT
and the TSS of `lab`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GUESTS", "Guest"]

GUESTS: list[Guest] = []


@dataclass(frozen=True)
class Guest:
    """`text` is GNU as, Intel syntax; `hex` what it assembles to at `origin`."""

    text: str
    hex: str
    bits: int = 64
    origin: int = 0x100000

    def __post_init__(self) -> None:
        GUESTS.append(self)

    @property
    def code(self) -> bytes:
        return bytes.fromhex(self.hex)


START = """
    lidt [0x7000]
    mov ax, 0x30
    ltr ax
"""

HALT = Guest("hlt", "f4")
SPIN = Guest("1: inc rax; jmp 1b", "48ffc0ebfb")
# counts in memory for ever
COUNT = Guest("1: inc qword ptr [0x40000]; jmp 1b", "48ff042500000400ebf6")
EXIT = Guest("mov al, 42; out 0xf4, al; 1: jmp 1b", "b02ae6f4ebfe")

PROTECTED_TO_LONG = Guest(
    """
    mov eax, cr4; or eax, 0x20; mov cr4, eax
    mov eax, 0x1000; mov cr3, eax
    mov ecx, 0xc0000080; rdmsr; or eax, 0x100; wrmsr
    mov eax, cr0; or eax, 0x80000000; mov cr0, eax
    ljmp 0x10, offset 2f
.code64
2:  mov rax, 0x1122334455667788
    mov [0x40000], rax
    mov al, 1; out 0xf4, al
1:  jmp 1b
    """,
    (
        "0f20e083c8200f22e0b8001000000f22d8b9800000c00f320d000100000f300f20c00d000000800f22c0ea31"
        "001000100048b888776655443322114889042500000400b001e6f4ebfe"
    ),
    bits=32,
)

# at 0x8000 in real mode, as an AP trampoline: real, protected, long
REAL_TO_LONG = Guest(
    """
    cli
    mov ax, cs; mov ds, ax
    lgdt [7f - _start]
    mov eax, cr0; or al, 1; mov cr0, eax
    data32 ljmp 0x40, offset 2f
.code32
2:  mov ax, 0x18; mov ds, ax; mov ss, ax
    mov eax, cr4; or eax, 0x20; mov cr4, eax
    mov eax, 0x1000; mov cr3, eax
    mov ecx, 0xc0000080; rdmsr; or eax, 0x100; wrmsr
    mov eax, cr0; or eax, 0x80000000; mov cr0, eax
    ljmp 0x10, offset 3f
.code64
3:  mov eax, 1; cpuid; shr ebx, 24
    mov [0x40000 + rbx * 8], rbx
    inc qword ptr [0x40100 + rbx * 8]
    mov al, bl; out 0xf4, al
1:  jmp 1b
7:  .word 0x4f
    .long 0x8000
    """,
    (
        "fa8cc88ed80f011673000f20c00c010f22c066ea1ac00000400066b818008ed88ed00f20e083c8200f22e0b8"
        "001000000f22d8b9800000c00f320d000100000f300f20c00d000000800f22c0ea53c000001000b801000000"
        "0fa2c1eb1848891cdd0000040048ff04dd0001040088d8e6f4ebfe4f0000800000"
    ),
    bits=16,
    origin=0xC000,
)

# starts CPU 1 with INIT and a start-up IPI at 0xc000, then halts
START_AP = Guest(
    """
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov dword ptr [rdi + 0x310], 0x01000000
    mov dword ptr [rdi + 0x300], 0x4500
    mov dword ptr [rdi + 0x310], 0x01000000
    mov dword ptr [rdi + 0x300], 0x460c
1:  inc qword ptr [0x40200]
    jmp 1b
    """,
    (
        "bf0000e0fec787f0000000ff010000c7871003000000000001c7870003000000450000c78710030000000000"
        "01c787000300000c46000048ff042500020400ebf6"
    ),
)

MMIO = Guest(
    """
    mov ebx, 0xd0000000
    mov al, [rbx + 1]
    mov ax, [rbx + 2]
    mov eax, [rbx + 4]
    mov rax, [rbx + 8]
    mov [0x40000], rax
    mov rax, [rbx + 0x13]
    mov [0x40008], rax
    mov eax, [rbx + 0x21]
    mov [0x40010], rax
    mov rax, [rbx + 0xffd]
    mov [0x40018], rax
    mov rax, 0x8877665544332211
    mov [rbx + 1], al
    mov [rbx + 2], ax
    mov [rbx + 4], eax
    mov [rbx + 8], rax
    mov [rbx + 0x13], rax
    mov [rbx + 0x21], eax
    mov [rbx + 0xffc], rax
    add dword ptr [rbx + 0x40], 1
    xchg [rbx + 0x44], ax
    mov rsi, 0x8000000000
    mov eax, [rsi - 8]
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "bb000000d08a4301668b43028b4304488b43084889042500000400488b431348890425080004008b43214889"
        "042510000400488b83fd0f0000488904251800040048b8112233445566778888430166894302894304488943"
        "0848894313894321488983fc0f0000834340016687434448be00000000800000008b46f8e6f4ebfe"
    ),
)

PORTS = Guest(
    """
    mov edx, 0x500
    in al, dx
    in ax, dx
    in eax, dx
    mov [0x40000], rax
    mov eax, 0x44332211
    out dx, al
    out dx, ax
    out dx, eax
    in al, 0x80
    out 0x80, al
    mov esi, 0x40100
    mov ecx, 3
    rep outsb
    mov ecx, 2
    rep outsd
    mov edi, 0x40200
    mov ecx, 3
    rep insw
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "ba00050000ec66eded4889042500000400b811223344ee66efefe480e680be00010400b903000000f36eb902"
        "000000f36fbf00020400b90300000066f36de6f4ebfe"
    ),
)

# PIC masked; I/O APIC pin 5 (edge), 6 (level) -> vector 0x35, 0x36; halts, counts at 0x40000
IOAPIC = Guest(
    START
    + """
    mov al, 0xff; out 0x21, al; out 0xa1, al
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov esi, 0xfec00000
    mov dword ptr [rsi], 0x1a; mov dword ptr [rsi + 0x10], 0x35
    mov dword ptr [rsi], 0x1c; mov dword ptr [rsi + 0x10], 0x8036
    sti
1:  hlt
    inc qword ptr [0x40080]
    jmp 1b
.org 0x100
    inc qword ptr [0x40000]
    mov dword ptr [rdi + 0xb0], 0
    iretq
.org 0x180
    inc qword ptr [0x40008]
    mov eax, [0xd0000000]
    mov dword ptr [rdi + 0xb0], 0
    iretq
    """,
    (
        "0f011c250070000066b830000f00d8b0ffe621e6a1bf0000e0fec787f0000000ff010000be0000c0fec7061a"
        "000000c7461035000000c7061c000000c7461036800000fbf448ff042580000400ebf5000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000048ff042500000400"
        "c787b00000000000000048cf0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000048ff042508000400a1000000"
        "d000000000c787b00000000000000048cf"
    ),
)

# as IOAPIC's pin 5, but never halts: a loop that increments, reads and writes a device
STORM = Guest(
    START
    + """
    mov al, 0xff; out 0x21, al; out 0xa1, al
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov esi, 0xfec00000
    mov dword ptr [rsi], 0x1a; mov dword ptr [rsi + 0x10], 0x35
    mov ebx, 0xd0000000
    xor ecx, ecx
    sti
1:  inc qword ptr [0x40008]
    inc rcx
    mov [rbx], ecx
    mov eax, [rbx + 4]
    inc qword ptr [0x40010]
    mov edx, 0x500
    out dx, al
    inc qword ptr [0x40018]
    cmp rcx, [0x40100]
    jne 1b
    cli
    mov [0x40020], rcx
    out 0xf4, al
2:  jmp 2b
.org 0x100
    inc qword ptr [0x40000]
    mov dword ptr [rdi + 0xb0], 0
    iretq
    """,
    (
        "0f011c250070000066b830000f00d8b0ffe621e6a1bf0000e0fec787f0000000ff010000be0000c0fec7061a"
        "000000c7461035000000bb000000d031c9fb48ff04250800040048ffc1890b8b430448ff042510000400ba00"
        "050000ee48ff042518000400483b0c250001040075d0fa48890c2520000400e6f4ebfe000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000048ff042500000400"
        "c787b00000000000000048cf"
    ),
)

# 8259A at 0x20/0x28, inputs 3 and 10 open; counts at 0x40000, 0x40008
PIC = Guest(
    START
    + """
    mov al, 0x11; out 0x20, al; out 0xa0, al
    mov al, 0x20; out 0x21, al
    mov al, 0x28; out 0xa1, al
    mov al, 4; out 0x21, al
    mov al, 2; out 0xa1, al
    mov al, 1; out 0x21, al; out 0xa1, al
    mov al, 0xf3; out 0x21, al
    mov al, 0xfb; out 0xa1, al
    sti
1:  hlt
    jmp 1b
.org 0x100
    inc qword ptr [0x40000]
    mov al, 0x20; out 0x20, al
    iretq
.org 0x180
    inc qword ptr [0x40008]
    mov al, 0x20; out 0xa0, al; out 0x20, al
    iretq
    """,
    (
        "0f011c250070000066b830000f00d8b011e620e6a0b020e621b028e6a1b004e621b002e6a1b001e621e6a1b0"
        "f3e621b0fbe6a1fbf4ebfd000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000048ff042500000400"
        "b020e62048cf0000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000048ff042508000400b020e6a0"
        "e62048cf"
    ),
)

# 8254 channel 0, mode 2, 1 ms, by the 8259A's input 0; exits after 20 ticks
PIT = Guest(
    START
    + """
    mov al, 0x11; out 0x20, al
    mov al, 0x20; out 0x21, al
    mov al, 4; out 0x21, al
    mov al, 1; out 0x21, al
    mov al, 0xfe; out 0x21, al
    mov al, 0x34; out 0x43, al
    mov al, 0xa9; out 0x40, al
    mov al, 0x04; out 0x40, al
    sti
1:  hlt
    cmp qword ptr [0x40000], 20
    jb 1b
    cli
    out 0xf4, al
2:  jmp 2b
.org 0x100
    inc qword ptr [0x40000]
    mov al, 0x20; out 0x20, al
    iretq
    """,
    (
        "0f011c250070000066b830000f00d8b011e620b020e621b004e621b001e621b0fee621b034e643b0a9e640b0"
        "04e640fbf448833c25000004001472f4fae6f4ebfe0000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000048ff042500000400"
        "b020e62048cf"
    ),
)

# local APIC timer: one shot, then periodic until 10, with HLT; 1 ms each
LAPIC_TIMER = Guest(
    START
    + """
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov dword ptr [rdi + 0x3e0], 0xb
    mov dword ptr [rdi + 0x320], 0x40
    mov dword ptr [rdi + 0x380], 1000000
    sti
    hlt
    mov rax, [0x40000]
    mov [0x40008], rax
    mov dword ptr [rdi + 0x320], 0x20040
    mov dword ptr [rdi + 0x380], 1000000
1:  hlt
    cmp qword ptr [0x40000], 10
    jb 1b
    cli
    out 0xf4, al
2:  jmp 2b
.org 0x100
    inc qword ptr [0x40000]
    mov dword ptr [rdi + 0xb0], 0
    iretq
    """,
    (
        "0f011c250070000066b830000f00d8bf0000e0fec787f0000000ff010000c787e00300000b000000c7872003"
        "000040000000c7878003000040420f00fbf4488b0425000004004889042508000400c7872003000040000200"
        "c7878003000040420f00f448833c25000004000a72f4fae6f4ebfe0000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000048ff042500000400"
        "c787b00000000000000048cf"
    ),
)

# results: 0 #DE's RIP, 1 #PF's error code, 2 CR2, 3 #UD's RIP, 4 INT 0x80's RIP, 5 sum after; 6 #GP code
EXCEPTIONS = Guest(
    START
    + """
    xor edx, edx; xor ecx, ecx; mov eax, 1
de: div ecx
    mov rbx, 0x123456789000
    mov [rbx + 8], rax
    mov [rbx + 16], rax
ud: ud2
    int 0x80
i8: mov ax, 0x1234
    mov ds, ax
    inc qword ptr [0x40028]
    out 0xf4, al
2:  jmp 2b
.org 0x100
    mov rax, [rsp]
    mov [0x40000], rax
    add qword ptr [rsp], 2
    inc qword ptr [0x40028]
    iretq
.org 0x140
    pop rax
    mov [0x40008], rax
    mov rax, cr2
    mov [0x40010], rax
    add qword ptr [rsp], 4
    inc qword ptr [0x40028]
    iretq
.org 0x180
    mov rax, [rsp]
    mov [0x40018], rax
    add qword ptr [rsp], 2
    inc qword ptr [0x40028]
    iretq
.org 0x1c0
    mov rax, [rsp]
    mov [0x40020], rax
    inc qword ptr [0x40028]
    iretq
.org 0x200
    pop rax
    mov [0x40030], rax
    add qword ptr [rsp], 2
    iretq
    """,
    (
        "0f011c250070000066b830000f00d831d231c9b801000000f7f148bb00907856341200004889430848894310"
        "0f0bcd8066b834128ed848ff042528000400e6f4ebfe00000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000488b042448890425"
        "00000400488304240248ff04252800040048cf00000000000000000000000000000000000000000000000000"
        "0000000000000000000000005848890425080004000f20d04889042510000400488304240448ff0425280004"
        "0048cf0000000000000000000000000000000000000000000000000000000000488b04244889042518000400"
        "488304240248ff04252800040048cf0000000000000000000000000000000000000000000000000000000000"
        "0000000000000000488b0424488904252000040048ff04252800040048cf0000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000584889042530000400488304240248cf"
    ),
)

# to CPL 3, where HLT is #GP(0) and INT 0x80 is allowed; the frames go to 0x40000 and 0x40040
USER = Guest(
    START
    + """
    push 0x23; push 0x50000; push 0x202; push 0x2b
    lea rax, [rip + 3f]
    push rax
    iretq
3:  hlt
    int 0x80
    int 0x81
1:  jmp 1b
.org 0x100
    mov edi, 0x40000
    mov rsi, rsp
    mov ecx, 6
    rep movsq
    mov [0x40038], rsp
    pop rax
    inc qword ptr [rsp]
    iretq
.org 0x180
    mov edi, 0x40040
    mov rsi, rsp
    mov ecx, 5
    rep movsq
    mov [0x40078], rsp
    mov ax, cs
    mov [0x40070], ax
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "0f011c250070000066b830000f00d86a23680000050068020200006a2b488d05030000005048cff4cd80cd81"
        "ebfe000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000bf000004004889e6"
        "b906000000f348a548892425380004005848ff042448cf000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000bf400004004889e6b9050000"
        "00f348a54889242578000400668cc86689042570000400e6f4ebfe"
    ),
)

# SYSCALL from CPL 3 and SYSRET back, twice; then SYSENTER. 0 RCX, 1 R11, 2 count, 3 CS; 4 RSP, 5 CS
SYSCALL = Guest(
    START
    + """
    mov ecx, 0xc0000080; rdmsr; or eax, 1; wrmsr
    mov ecx, 0xc0000081; xor eax, eax; mov edx, 0x00180010; wrmsr
    mov ecx, 0xc0000082; lea rax, [rip + 6f]; xor edx, edx; wrmsr
    mov ecx, 0xc0000084; mov eax, 0x200; wrmsr
    mov ecx, 0x174; mov eax, 0x10; wrmsr
    mov ecx, 0x175; mov eax, 0x61000; wrmsr
    mov ecx, 0x176; lea rax, [rip + 7f]; wrmsr
    mov rsp, 0x50000
    mov r11, 0x202
    lea rcx, [rip + 3f]
    sysretq
3:  mov ebp, 5
    syscall
4:  add ebp, 1
    syscall
    sysenter
1:  jmp 1b
6:  mov [0x40000], rcx
    mov [0x40008], r11
    inc qword ptr [0x40010]
    mov [0x40018], cs
    mov [0x40030], rbp
    pushfq; pop qword ptr [0x40038]
    sysretq
7:  mov [0x40020], rsp
    mov [0x40028], cs
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "0f011c250070000066b830000f00d8b9800000c00f3283c8010f30b9810000c031c0ba100018000f30b98200"
        "00c0488d055e00000031d20f30b9840000c0b8000200000f30b974010000b8100000000f30b975010000b800"
        "1006000f30b976010000488d055c0000000f3048c7c40000050049c7c302020000488d0d03000000480f07bd"
        "050000000f0583c5010f050f34ebfe48890c25000004004c891c250800040048ff0425100004008c0c251800"
        "040048892c25300004009c8f042538000400480f0748892425200004008c0c2528000400e6f4ebfe"
    ),
)

# a page fault on a stack that is not there: a double fault, on IST1
DOUBLE_FAULT = Guest(
    START
    + """
    mov rsp, 0x123456789000
    push rax
1:  jmp 1b
.org 0x100
    mov rax, [rsp]
    mov [0x40000], rax
    mov [0x40008], rsp
    mov rax, cr2
    mov [0x40010], rax
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "0f011c250070000066b830000f00d848bc009078563412000050ebfe00000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000488b042448890425"
        "0000040048892425080004000f20d04889042510000400e6f4ebfe"
    ),
)
TRIPLE_FAULT = Guest("lidt [0x40000]; ud2", "0f011c25000004000f0b")

# 32-bit: #DE, INT 0x80 from CPL 3 with a stack switch
PROTECTED = Guest(
    """
    lidt [0x7010]
    mov ax, 0x30; ltr ax
    xor edx, edx; xor ecx, ecx; mov eax, 1
    div ecx
    push 0x23; push 0x50000; push 0x202; push 0x4b
    push offset 3f
    iret
3:  int 0x80
1:  jmp 1b
.org 0x100
    mov eax, [esp]
    mov [0x40000], eax
    add dword ptr [esp], 2
    iret
.org 0x180
    mov edi, 0x40040
    mov esi, esp
    mov ecx, 5
    cld
    rep movsd
    mov [0x40078], esp
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "0f011d1070000066b830000f00d831d231c9b801000000f7f16a23680000050068020200006a4b682d001000"
        "cfcd80ebfe000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000008b0424a300000400"
        "83042402cf000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000bf4000040089e6b905000000"
        "fcf3a5892578000400e6f4ebfe"
    ),
    bits=32,
)

# real mode at 0x8000: INT 0x21 through the vector table
REAL_INT = Guest(
    """
    xor ax, ax; mov ds, ax; mov ss, ax; mov sp, 0x7c00
    mov word ptr [0x84], 0x8080
    mov word ptr [0x86], 0
    stc
    int 0x21
    mov [0x504], ax
    out 0xf4, al
1:  jmp 1b
.org 0x80
    mov bp, sp
    mov ax, [bp]
    mov [0x500], ax
    mov ax, [bp + 4]
    mov [0x502], ax
    mov ax, 0x55aa
    iret
    """,
    (
        "31c08ed88ed0bc007cc70684008080c70686000000f9cd21a30405e6f4ebfe00000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000089e58b46"
        "00a300058b4604a30205b8aa55cf"
    ),
    bits=16,
    origin=0x8000,
)

# an access after which nothing more may happen in the next block
ACCESS_THEN_COUNT = Guest(
    """
1:  mov eax, [0xd0000000]
    jmp 2f
2:  inc qword ptr [0x40000]
    jmp 1b
    """,
    "a1000000d000000000eb0048ff042500000400ebeb",
)

# a read, and a store in the same block
ACCESS_AND_STORE = Guest(
    """
    mov eax, [0xd0000000]
    mov [0x40000], rax
    mov ebx, 0xd0000004
    mov dword ptr [rbx], 1
    jmp 1f
1:  inc qword ptr [0x40008]
    jmp 1b
    """,
    ("a1000000d0000000004889042500000400bb040000d0c70301000000eb0048ff042508000400ebf6"),
)

# writes a doorbell 1000 times
DOORBELL = Guest(
    """
    mov ecx, 1000
    mov ebx, 0xd0000050
1:  mov dword ptr [rbx], 7
    dec ecx
    jnz 1b
    mov dword ptr [rbx], 8
    mov word ptr [rbx], 7
    out 0xf4, al
1:  jmp 1b
    """,
    ("b9e8030000bb500000d0c70307000000ffc975f6c7030800000066c7030700e6f4ebfe"),
)

# an MMIO read for ever, for speed
MMIO_LOOP = Guest("1: mov eax, [0xd0000000]; inc rcx; jmp 1b", "a1000000d00000000048ffc1ebf2")
PORT_LOOP = Guest("mov edx, 0x500; 1: in al, dx; inc rcx; jmp 1b", "ba00050000ec48ffc1ebfa")
