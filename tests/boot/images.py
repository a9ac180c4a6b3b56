"""Small ELF images, good and bad."""

from __future__ import annotations

import struct

__all__ = [
    "CODE",
    "LOAD",
    "bzimage",
    "elf64",
    "flat",
    "multiboot_elf",
    "multiboot_header",
    "pvh_note",
]

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


def multiboot_header(flags: int, *fields: int) -> bytes:
    """fields: header_addr and what follows it."""
    magic = 0x1BAD_B002
    return struct.pack(
        f"<{3 + len(fields)}I", magic, flags, -(magic + flags) & 0xFFFF_FFFF, *fields
    )


def multiboot_elf(flags: int = 3, *fields: int, code: bytes = CODE) -> bytes:
    header = multiboot_header(flags, *fields)
    return elf64(header + code, note=b"", entry=LOAD + len(header))


def flat(
    code: bytes = CODE, before: bytes = b"", load: int = LOAD, end: int = 0, bss: int = 0
) -> bytes:
    """No ELF file: `before`, then a multiboot header whose address fields place it all at `load`."""
    at = load + len(before)
    return before + multiboot_header(0x1_0003, at, load, end, bss, at + 32) + code


def bzimage(
    body: bytes,
    version: int = 0x20F,
    xloadflags: int = 1,
    cmdline: int = 2047,
    initrd_max: int = 0x7FFF_FFFF,
    loadflags: int = 1,
    code: bytes = b"\xf4" * 0x400,
    load: int = 0x20_0000,
) -> bytes:
    """One setup sector, then the protected-mode code with `body` as its payload behind `code`."""
    head = bytearray(1024)
    head[0x1F1] = 1
    struct.pack_into("<H", head, 0x1FE, 0xAA55)
    head[0x200:0x202] = b"\xeb\x6a"
    struct.pack_into("<4sH", head, 0x202, b"HdrS", version)
    head[0x211] = loadflags
    struct.pack_into("<I", head, 0x22C, initrd_max)
    struct.pack_into("<H", head, 0x236, xloadflags)
    struct.pack_into("<I", head, 0x238, cmdline)
    if body:
        struct.pack_into("<II", head, 0x248, len(code), len(body))
    struct.pack_into("<Q", head, 0x258, load)
    struct.pack_into("<I", head, 0x260, 0x10_0000)
    return bytes(head) + code + body
