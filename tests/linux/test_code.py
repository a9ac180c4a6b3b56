"""Programs of a Linux guest that write code: a translator's two mappings, an executable changed in place."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.engines("soft")]

# a page of a memfd mapped twice, writable and executable; 16 functions in it are rewritten and called 20,000
# times. Exit status 1: one ran as it was
#   mov eax,319; lea rdi,[rip+name]; xor esi,esi; syscall; mov r12d,eax
#   mov eax,77; mov edi,r12d; mov esi,4096; syscall
#   xor edi,edi; mov esi,4096; mov edx,3; mov r10d,1; mov r8d,r12d; xor r9d,r9d; mov eax,9; syscall
#   mov r13,rax
#   xor edi,edi; mov esi,4096; mov edx,5; mov r10d,1; mov r8d,r12d; xor r9d,r9d; mov eax,9; syscall
#   mov r14,rax
#   xor r15d,r15d; xor ebp,ebp
# 1: mov eax,r15d; and eax,15; shl eax,7; lea rdi,[r13+rax]; lea rbx,[r14+rax]
#   mov byte ptr [rdi],0xb8; mov [rdi+1],r15d; mov byte ptr [rdi+5],0xc3; call rbx
#   cmp eax,r15d; je 2f; inc ebp
# 2: inc r15d; cmp r15d,20000; jne 1b; xor edi,edi; test ebp,ebp; setne dil; mov eax,60; syscall
# name: .asciz "j"
TRANSLATOR = bytes.fromhex(
    "b83f010000488d3da000000031f60f054189c4b84d0000004489e7be001000000f0531ffbe00100000ba0300"
    "000041ba010000004589e04531c9b8090000000f054989c531ffbe00100000ba0500000041ba010000004589"
    "e04531c9b8090000000f054989c64531ff31ed4489f883e00fc1e007498d7c0500498d1c06c607b844897f01"
    "c64705c3ffd34439f87402ffc541ffc74181ff204e000075ce31ff85ed400f95c7b83c0000000f056a00"
)
# writes the letter at 1 and exits: push 'A'; mov rsi,rsp; mov eax,1; mov edi,1; mov edx,1; syscall;
# mov eax,60; xor edi,edi; syscall
LETTER = bytes.fromhex("6a414889e6b801000000bf01000000ba010000000f05b83c00000031ff0f05")
#: where code begins in the file that `program` makes
CODE = 120


def program(code: bytes) -> bytes:
    """An ELF executable of one segment."""
    size = CODE + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096)
    return ident + header + segment + code


def install(guest: Any, name: str, data: bytes) -> None:
    octal = [f"\\{byte:03o}" for byte in data]
    for at in range(0, len(octal), 100):
        guest.run(f"printf '{''.join(octal[at : at + 100])}' >> {name}")
    guest.run(f"chmod +x {name}")


def test_code_changes_under_linux(boot: Callable[..., Any]) -> None:
    guest = boot()
    install(guest, "/tmp/translator", program(TRANSLATOR))
    assert guest.run("/tmp/translator; echo status $?", timeout=120).strip() == "status 0"
    install(guest, "/tmp/letter", program(LETTER))
    assert guest.run("/tmp/letter").strip() == "A"
    overwrite = f"dd of=/tmp/letter bs=1 seek={CODE + 1} conv=notrunc 2>/dev/null"
    loop = f"for l in A B C D E F G H; do printf $l | {overwrite}; /tmp/letter; done; echo"
    for _ in range(2):
        assert guest.run(loop, timeout=120).strip() == "ABCDEFGH"
    assert not guest.complaints()
