"""Multiboot 1 (specification 0.6.96 §3): a header in the first 8 KiB, eax the magic, ebx the information."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.boot.elf import ElfFile
from vmlab.boot.layout import BOOT_INFO, CMDLINE, RAM, memory_map
from vmlab.core.memory import GuestMemory
from vmlab.core.start import CpuState
from vmlab.errors import KernelError

__all__ = ["Entry", "find_entry"]

HEADER_MAGIC = 0x1BAD_B002
BOOT_MAGIC = 0x2BAD_B002
SEARCH = 8192
#: header flags this loader honours: page-aligned modules, memory information
_KNOWN = 0x3
#: bits that a loader must refuse when it does not know them (§3.1.2)
_REQUIRED = 0xFFFF
# information flags (§3.3)
_MEMORY, _CMDLINE, _MODULES, _MAP = 1 << 0, 1 << 2, 1 << 3, 1 << 6
#: flags .. mmap_addr; the fields between are not offered
_INFO = struct.Struct("<IIIIIII16xII")


class Entry(NamedTuple):
    address: int

    def prepare(
        self,
        memory: GuestMemory,
        cmdline: bool,
        module: tuple[int, int] | None,
        rsdp: int = 0,
    ) -> CpuState:
        """Write the information structure; `cmdline` lies at CMDLINE already. It has no place for
        ACPI's `rsdp`: a guest looks for that itself."""
        table = b"".join(
            struct.pack("<IQQI", 20, one.start, one.size, one.kind) for one in memory_map(memory)
        )
        modules = BOOT_INFO + 0x80
        at = modules + 16
        flags = _MEMORY | _MAP | (_CMDLINE if cmdline else 0) | (_MODULES if module else 0)
        upper = sum(
            one.size for one in memory_map(memory) if one.kind == RAM and one.start == 0x10_0000
        )
        memory.write(
            BOOT_INFO,
            _INFO.pack(
                flags,
                640,
                upper >> 10,
                0,
                CMDLINE if cmdline else 0,
                1 if module else 0,
                modules if module else 0,
                len(table),
                at,
            ),
        )
        if module:
            start, size = module
            memory.write(modules, struct.pack("<IIII", start, start + size, 0, 0))
        memory.write(at, table)
        return CpuState("protected", self.address, {"rax": BOOT_MAGIC, "rbx": BOOT_INFO})


def find_entry(elf: ElfFile) -> Entry | None:
    """The multiboot entry, or None; KernelError for a header that asks for what is not there."""
    head = elf.data[:SEARCH]
    for at in range(0, len(head) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", head, at)
        if magic != HEADER_MAGIC or (magic + flags + checksum) & 0xFFFF_FFFF:
            continue
        unknown = flags & _REQUIRED & ~_KNOWN
        if unknown:
            raise KernelError(
                f"{elf.name}: its multiboot header asks for features {unknown:#x} that this loader lacks"
            )
        return Entry(elf.to_physical(elf.entry))
    return None
