"""Guests that use devices, raise no exceptions and stay in long mode (see `guest`)."""

from tests.engine.soft.guest import START as START
from tests.engine.soft.guest import Guest

HALT = Guest("hlt", "f4")

SPIN = Guest("1: inc rax; jmp 1b", "48ffc0ebfb")

# counts in memory for ever
COUNT = Guest("1: inc qword ptr [0x40000]; jmp 1b", "48ff042500000400ebf6")

EXIT = Guest("mov al, 42; out 0xf4, al; 1: jmp 1b", "b02ae6f4ebfe")

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

# an interrupt of its own waits for STI, before a long REP; what RCX is when it comes
SHADOW = Guest(
    """
    lidt [0x7000]
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov dword ptr [rdi + 0x300], 0x44035
    mov esi, 0x40100; mov ecx, 100000
    cld
    sti
    rep lodsb
    cli
    mov ecx, 0xdead
.org 0x100
    mov [0x40000], rcx
    out 0xf4, al
1:  jmp 1b
    """,
    (
        "0f011c2500700000bf0000e0fec787f0000000ff010000c7870003000035400400be00010400b9a0860100fc"
        "fbf3acfab9adde00000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000000000000000000000000000000048890c2500000400"
        "e6f4ebfe"
    ),
)
