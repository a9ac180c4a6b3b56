"""A guest of a few bytes: the trap loop, and the smallest ELF64 that boots it by its PVH note."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["DONE", "ENTRY", "WINDOW", "trap_loop", "write_pvh_elf"]

#: guest physical address of the code; the CPU is there in 32-bit protected mode, paging off
ENTRY = 0x10_0000
#: the first device that a user adds has its window here
WINDOW = 0xD000_0000
#: what the guest says on COM1 when the loop is over
DONE = b"."

_XEN_ELFNOTE_PHYS32_ENTRY = 18  # xen/include/public/elfnote.h
_PT_LOAD, _PT_NOTE = 1, 4


def trap_loop(count: int, address: int = WINDOW + 4) -> bytes:
    """`count` MMIO writes of 4 bytes at `address`: the values count, count - 1, ... 1."""
    return b"".join(
        (
            b"\xbf" + struct.pack("<I", address),  # mov edi, address
            b"\xb9" + struct.pack("<I", count),  # mov ecx, count
            b"\x89\x0f",  # loop: mov [edi], ecx
            b"\x49",  # dec ecx
            b"\x75\xfb",  # jnz loop
            b"\x66\xba\xf8\x03\xb0" + DONE + b"\xee",  # mov dx, 0x3f8; mov al, '.'; out dx, al
            b"\x31\xc0\xe6\xf4",  # xor eax, eax; out 0xf4, al
            b"\xfa\xf4\xeb\xfc",  # end: cli; hlt; jmp end
        )
    )


def write_pvh_elf(path: Path, code: bytes, entry: int = ENTRY) -> Path:
    """An ELF64 executable with `code` at `entry` and the note that PVH loaders look for."""
    note = struct.pack("<III4sI", 4, 4, _XEN_ELFNOTE_PHYS32_ENTRY, b"Xen\0", entry)
    note_at, code_at = 64 + 2 * 56, 0x1000
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",  # 64-bit, little endian, version 1
        2,  # ET_EXEC
        62,  # EM_X86_64
        1,
        entry,
        64,  # program headers follow at once
        0,
        0,
        64,
        56,
        2,
        64,
        0,
        0,
    )

    def segment(kind: int, at: int, address: int, size: int, align: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 5, at, address, address, size, size, align)

    head = (
        header
        + segment(_PT_LOAD, code_at, entry, len(code), 0x1000)
        + segment(_PT_NOTE, note_at, 0, len(note), 4)
        + note
    )
    path.write_bytes(head.ljust(code_at, b"\0") + code)
    return path
