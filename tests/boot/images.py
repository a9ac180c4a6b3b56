"""Small ELF images, good and bad."""

from __future__ import annotations

import struct

__all__ = ["LOAD", "elf64", "multiboot_elf", "pvh_note"]

LOAD = 0x10_0000
#: cli; hlt; jmp back: what these kernels do
CODE = b"\xfa\xf4\xeb\xfd"


def pvh_note(entry: int = LOAD, size: int = 4, owner: bytes = b"Xen\0", kind: int = 18) -> bytes:
    body = entry.to_bytes(8, "little")[:size].ljust(size, b"\0")
    return struct.pack("<III", len(owner), size, kind) + owner.ljust(4, b"\0") + body


def elf64(
    code: bytes = CODE,
    *,
    note: bytes | None = None,
    address: int = LOAD,
    memory: int | None = None,
    machine: int = 62,
    kind: int = 2,
    entry: int = LOAD,
    segments: list[tuple[int, bytes, int]] | None = None,
) -> bytes:
    """An ELF64 file. segments: (physical address, bytes, size in memory), instead of `code`."""
    loads = segments or [(address, code, memory or len(code))]
    note = pvh_note() if note is None else note
    headers = len(loads) + bool(note)
    at = 64 + 56 * headers
    table, body = b"", b""
    if note:
        table += struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(note), len(note), 4)
        body += note
    for paddr, data, size in loads:
        where = at + len(body)
        table += struct.pack("<IIQQQQQQ", 1, 7, where, paddr, paddr, len(data), size, 4096)
        body += data
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, headers, 0, 0, 0
    )
    return head + table + body


def multiboot_elf(flags: int = 3) -> bytes:
    magic = 0x1BAD_B002
    header = struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFF_FFFF)
    return elf64(header + CODE, note=b"", entry=LOAD + 12)
