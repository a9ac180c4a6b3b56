"""Guests of a few instructions, as bytes with the assembly beside them.

All run at `CODE`. Those in protected and long mode have MMIO (0xd0000000) in ebx/rbx. A guest that
is done writes al to port 0xf4.
"""

from __future__ import annotations

import struct

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.core.memory import GuestMemory

CODE = 0x1000
AP_CODE = 0x2000
DATA = 0x3000
MMIO = 0xD000_0000
DONE = 0xF4

PROTECTED = CpuState("protected", CODE, {"rbx": MMIO, "rax": 0x8877665544332211})
REAL = CpuState("real", CODE)


def _code(*lines: str) -> bytes:
    return b"".join(bytes.fromhex(line) for line in lines)


def long_mode(memory: GuestMemory) -> CpuState:
    """Page tables for the first 2 MiB and the first 4 MiB of MMIO, and the state that uses them."""
    entries = {
        0x9000: 0xA003,  # PML4[0]
        0xA000: 0xB003,  # PDPT[0]: 0
        0xA018: 0xC003,  # PDPT[3]: 0xc0000000
        0xB000: 0x83,
        0xC000 + 8 * (MMIO >> 21 & 511): MMIO | 0x83,
        0xC008 + 8 * (MMIO >> 21 & 511): MMIO + (2 << 20) | 0x83,
    }
    for address, entry in entries.items():
        memory.write(address, struct.pack("<Q", entry))
    return CpuState("long", CODE, {"rbx": MMIO, "rax": 0x8877665544332211}, cr3=0x9000)


COUNT = _code(
    "40",  # inc eax
    "89 03",  # mov DWORD PTR [ebx],eax
    "eb fb",  # jmp 0x0
)

ECHO = _code(
    "8b 43 04",  # mov eax,DWORD PTR [ebx+0x4]
    "89 03",  # mov DWORD PTR [ebx],eax
    "eb f9",  # jmp 0x0
)

PORT_ECHO = _code(
    "66 ba 10 05",  # mov dx,0x510
    "ed",  # in eax,dx
    "ef",  # out dx,eax
    "eb fc",  # jmp 0x4
)

SIZES = _code(
    "88 03",  # mov BYTE PTR [rbx],al
    "66 89 43 02",  # mov WORD PTR [rbx+0x2],ax
    "89 43 04",  # mov DWORD PTR [rbx+0x4],eax
    "48 89 43 08",  # mov QWORD PTR [rbx+0x8],rax
    "89 43 11",  # mov DWORD PTR [rbx+0x11],eax
    "48 89 83 fd 0f 00 00",  # mov QWORD PTR [rbx+0xffd],rax
    "8a 0b",  # mov cl,BYTE PTR [rbx]
    "66 8b 53 02",  # mov dx,WORD PTR [rbx+0x2]
    "8b 73 04",  # mov esi,DWORD PTR [rbx+0x4]
    "48 8b 7b 08",  # mov rdi,QWORD PTR [rbx+0x8]
    "44 8b 43 11",  # mov r8d,DWORD PTR [rbx+0x11]
    "4c 8b 8b fd 0f 00 00",  # mov r9,QWORD PTR [rbx+0xffd]
    "e6 f4",  # out 0xf4,al
    "eb fe",  # jmp 0x31
)

PORTS = _code(
    "e6 80",  # out 0x80,al
    "66 ba 10 05",  # mov dx,0x510
    "66 ef",  # out dx,ax
    "ef",  # out dx,eax
    "e4 80",  # in al,0x80
    "89 c7",  # mov edi,eax
    "66 ed",  # in ax,dx
    "ed",  # in eax,dx
    "89 c5",  # mov ebp,eax
    "fc",  # cld
    "be 00 30 00 00",  # mov esi,0x3000
    "b9 05 00 00 00",  # mov ecx,0x5
    "f3 6e",  # rep outs dx,BYTE PTR ds:[esi]
    "b9 02 00 00 00",  # mov ecx,0x2
    "f3 6f",  # rep outs dx,DWORD PTR ds:[esi]
    "bf 00 40 00 00",  # mov edi,0x4000
    "b9 05 00 00 00",  # mov ecx,0x5
    "f3 6c",  # rep ins BYTE PTR es:[edi],dx
    "b9 03 00 00 00",  # mov ecx,0x3
    "66 f3 6d",  # rep ins WORD PTR es:[edi],dx
    "e6 f4",  # out 0xf4,al
    "eb fe",  # jmp 0x3c
)

IRQ = _code(
    "bc 00 80",  # mov sp,0x8000
    "b0 11",  # mov al,0x11
    "e6 20",  # out 0x20,al
    "e6 a0",  # out 0xa0,al
    "b0 20",  # mov al,0x20
    "e6 21",  # out 0x21,al
    "b0 28",  # mov al,0x28
    "e6 a1",  # out 0xa1,al
    "b0 04",  # mov al,0x4
    "e6 21",  # out 0x21,al
    "b0 02",  # mov al,0x2
    "e6 a1",  # out 0xa1,al
    "b0 01",  # mov al,0x1
    "e6 21",  # out 0x21,al
    "e6 a1",  # out 0xa1,al
    "b0 00",  # mov al,0x0
    "e6 21",  # out 0x21,al
    "e6 a1",  # out 0xa1,al
    "e6 f4",  # out 0xf4,al
    "fb",  # sti
    "f4",  # hlt
    "eb fd",  # jmp 0x28
)

ISR = _code(
    "e6 e9",  # out 0xe9,al
    "b0 20",  # mov al,0x20
    "e6 20",  # out 0x20,al
    "cf",  # iret
)

SMP = _code(
    "bb 00 00 e0 fe",  # mov ebx,0xfee00000
    "c7 83 f0 00 00 00 ff 01 00 00",  # mov DWORD PTR [ebx+0xf0],0x1ff
    "c7 83 10 03 00 00 00 00 00 01",  # mov DWORD PTR [ebx+0x310],0x1000000
    "c7 83 00 03 00 00 00 45 00 00",  # mov DWORD PTR [ebx+0x300],0x4500
    "c7 83 00 03 00 00 02 46 00 00",  # mov DWORD PTR [ebx+0x300],0x4602
    "f4",  # hlt
    "eb fd",  # jmp 0x2d
)

AP = _code(
    "b0 77",  # mov al,0x77
    "e6 e9",  # out 0xe9,al
    "40",  # inc ax
    "e7 e8",  # out 0xe8,ax
    "eb fb",  # jmp 0x4
)

FAULT = _code(
    "90",  # nop
    "0f 01 1d 00 30 00 00",  # lidtd ds:0x3000
    "0f 0b",  # ud2
)

FETCH = _code(
    "ff e3",  # jmp ebx
)

BELLS = _code(
    "b9 e8 03 00 00",  # mov ecx,0x3e8
    "c7 43 50 03 00 00 00",  # mov DWORD PTR [ebx+0x50],0x3
    "c7 43 50 04 00 00 00",  # mov DWORD PTR [ebx+0x50],0x4
    "66 c7 43 60 09 00",  # mov WORD PTR [ebx+0x60],0x9
    "e2 ea",  # loop 0x5
    "e6 f4",  # out 0xf4,al
    "eb fe",  # jmp 0x1d
)

HALT = _code(
    "90",  # nop
    "f4",  # hlt
    "90",  # nop
    "eb fe",  # jmp 0x3
)

STEPS = _code(
    "b8 05 00 00 00",  # mov eax,0x5
    "89 03",  # mov DWORD PTR [ebx],eax
    "8b 4b 04",  # mov ecx,DWORD PTR [ebx+0x4]
    "e6 80",  # out 0x80,al
    "e4 80",  # in al,0x80
    "be 00 30 00 00",  # mov esi,0x3000
    "b9 03 00 00 00",  # mov ecx,0x3
    "ba 10 05 00 00",  # mov edx,0x510
    "f3 6e",  # rep outs dx,BYTE PTR ds:[esi]
    "40",  # inc eax
    "eb fe",  # jmp 0x20
)
