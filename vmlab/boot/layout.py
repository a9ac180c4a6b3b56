"""Where boot data lies in a PC's first megabyte, and the memory map that a kernel is told."""

from __future__ import annotations

from typing import NamedTuple

from vmlab.core.memory import GuestMemory

__all__ = [
    "BOOT_INFO",
    "CMDLINE",
    "CMDLINE_ROOM",
    "FIRMWARE",
    "GDT",
    "PAGE_TABLES",
    "RAM",
    "RESERVED",
]
__all__ += ["TABLES", "TABLES_ROOM", "MapEntry", "memory_map"]

#: a GDT and page tables, for kernels that are entered in long mode
GDT = 0x500
#: the few instructions before a Linux kernel's own
FIRMWARE = 0x600
PAGE_TABLES, PAGE_TABLES_SIZE = 0x9000, 0x6000
#: the structure that names everything else (PVH start info, multiboot information)
BOOT_INFO = 0x7000
CMDLINE = 0x2_0000
#: x86 Linux takes 2,048 bytes at most; other kernels more
CMDLINE_ROOM = 0x1000
#: where ACPI tables lie, and where a guest without EFI looks for their root (ACPI 6.5 §5.2.5.1)
TABLES, TABLES_ROOM = 0xE_0000, 0x2_0000

# types of the firmware memory map (ACPI 6.5 §15, "address range types")
RAM, RESERVED = 1, 2


class MapEntry(NamedTuple):
    """[start, start + size) is of `kind`."""

    start: int
    size: int
    kind: int


def memory_map(memory: GuestMemory) -> list[MapEntry]:
    """RAM as a PC has it: 640 KiB, the reserved hole for adapters and firmware, the rest."""
    entries = [MapEntry(0, 0x9_FC00, RAM), MapEntry(0x9_FC00, 0x400, RESERVED)]
    entries.append(MapEntry(TABLES, TABLES_ROOM, RESERVED))
    for region in memory.regions:
        start = max(region.base, 0x10_0000)
        if region.end > start:
            entries.append(MapEntry(start, region.end - start, RAM))
    return entries
