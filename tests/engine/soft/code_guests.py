"""Guests that write code (see `guest`). What each finds is in memory at 0x40000."""

from __future__ import annotations

from tests.engine.soft.guest import Guest

# 0x200000 is executable there and writable, not executable at 0x201000 (tables: `test_codecache`); two
# functions are rewritten 200 times. 0x40000: how many calls ran old code
ALIAS = Guest(
    """
    mov ecx, 0xc0000080; rdmsr; or eax, 0x800; wrmsr
    mov rax, 0x20000; mov cr3, rax
    xor ebx, ebx
1:  mov byte ptr [0x201000], 0xb8; mov [0x201001], ebx; mov byte ptr [0x201005], 0xc3
    mov byte ptr [0x201100], 0xb8; mov [0x201101], ebx; mov byte ptr [0x201105], 0xc3
    mov ecx, 0x200000; call rcx
    cmp eax, ebx; je 2f
    inc qword ptr [0x40000]
2:  mov ecx, 0x200100; call rcx
    cmp eax, ebx; je 3f
    inc qword ptr [0x40000]
3:  inc qword ptr [0x40008]
    inc ebx
    cmp ebx, 200
    jne 1b
    out 0xf4, al
4:  jmp 4b
    """,
    (
        "b9800000c00f320d000800000f3048c7c0000002000f22d831dbc6042500102000b8891c2501102000c60425"
        "05102000c3c6042500112000b8891c2501112000c6042505112000c3b900002000ffd139d8740848ff042500"
        "000400b900012000ffd139d8740848ff04250000040048ff042508000400ffc381fbc8000000759ae6f4ebfe"
    ),
)

# a function of its own page and one across the end of a page, each rewritten in turn
MODIFY = Guest(
    """
    xor ebx, ebx
1:  lea rdi, [rip + own]
    call write
    mov edi, 0x201ffd
    call write
    inc ebx
    cmp ebx, 200
    jne 1b
    out 0xf4, al
2:  jmp 2b
write:
    mov byte ptr [rdi], 0xb8; mov [rdi + 1], ebx; mov byte ptr [rdi + 5], 0xc3
    call rdi
    cmp eax, ebx; je 3f
    inc qword ptr [0x40000]
3:  inc qword ptr [0x40008]
    ret
own: .space 8
    """,
    (
        "31db488d3d3e000000e818000000bffd1f2000e80e000000ffc381fbc800000075e0e6f4ebfec607b8895f01"
        "c64705c3ffd739d8740848ff04250000040048ff042508000400c30000000000000000"
    ),
)

# calls 0x200000 for ever, and says what it returned
CALL = Guest(
    """
    mov ecx, 0x200000
1:  call rcx
    mov [0x40000], rax
    inc qword ptr [0x40008]
    jmp 1b
    """,
    ("b900002000ffd1488904250000040048ff042508000400ebec"),
)

# CPU 0 starts CPU 1 at 0xc000, then rewrites 0x200000 and waits until CPU 1 says that value, 50 times
WRITER = Guest(
    """
    mov edi, 0xfee00000
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov dword ptr [0x200000], 0x000000b8; mov word ptr [0x200004], 0xc300
    mov dword ptr [rdi + 0x310], 0x01000000
    mov dword ptr [rdi + 0x300], 0x4500
    mov dword ptr [rdi + 0x310], 0x01000000
    mov dword ptr [rdi + 0x300], 0x460c
    mov ebx, 1
1:  mov [0x200001], ebx
2:  pause
    cmp [0x40000], ebx
    jne 2b
    mov [0x40008], rbx
    inc ebx
    cmp ebx, 50
    jne 1b
    out 0xf4, al
3:  jmp 3b
    """,
    (
        "bf0000e0fec787f0000000ff010000c7042500002000b800000066c704250400200000c3c787100300000000"
        "0001c7870003000000450000c7871003000000000001c787000300000c460000bb01000000891c2501002000"
        "f390391c250000040075f548891c2508000400ffc383fb3275dfe6f4ebfe"
    ),
)

# CPU 1: to 32 bits, then as CALL
CALLER = Guest(
    """
    cli
    mov ax, cs; mov ds, ax
    lgdt [7f - _start]
    mov eax, cr0; or al, 1; mov cr0, eax
    data32 ljmp 0x40, offset 2f
.code32
2:  mov ax, 0x18; mov ds, ax; mov ss, ax; mov esp, 0x90000
    mov ecx, 0x200000
1:  call ecx
    mov [0x40000], eax
    jmp 1b
7:  .word 0x4f
    .long 0x8000
    """,
    (
        "fa8cc88ed80f011635000f20c00c010f22c066ea1ac00000400066b818008ed88ed0bc00000900b900002000"
        "ffd1a300000400ebf74f0000800000"
    ),
    bits=16,
    origin=0xC000,
)

# counts in the page that it runs in
BESIDE = Guest(
    """
    mov ecx, 20000
1:  inc qword ptr [rip + count]
    dec ecx
    jnz 1b
    out 0xf4, al
2:  jmp 2b
.org 0x80
count: .quad 0
    """,
    (
        "b9204e000048ff0574000000ffc975f5e6f4ebfe000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000"
    ),
)
