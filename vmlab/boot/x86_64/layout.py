"""Where boot data lies in a PC's first megabyte, and the memory map that a kernel is told."""

from __future__ import annotations

from typing import NamedTuple

from vmlab.core.memory import GuestMemory

__all__ = [
    "BASE_MEMORY",
    "BIOS_DATA",
    "BIOS_DATA_SIZE",
    "BOOT_INFO",
    "CMDLINE",
    "CMDLINE_ROOM",
    "EBDA",
    "EBDA_SIZE",
    "FIRMWARE",
    "FIRMWARE_SIZE",
    "GDT",
    "PAGE_TABLES",
    "PAGE_TABLES_SIZE",
    "RAM",
    "RESERVED",
]
__all__ += ["ROMS", "ROMS_END", "STACK", "TABLES", "TABLES_ROOM", "MapEntry", "memory_map"]

#: what a PC's BIOS tells of the machine
BIOS_DATA, BIOS_DATA_SIZE = 0x400, 0x100
#: a GDT and page tables, for kernels that are entered in long mode
GDT = 0x500
#: the few instructions before a Linux kernel's own
FIRMWARE, FIRMWARE_SIZE = 0x600, 0x20
PAGE_TABLES, PAGE_TABLES_SIZE = 0x9000, 0x6000
#: the structure that names everything else (PVH start info, multiboot information)
BOOT_INFO = 0x7000
#: the top of a stack for kernels that come without one of their own
STACK = 0x8FF0
CMDLINE = 0x2_0000
#: x86 Linux takes 2,048 bytes at most; other kernels more
CMDLINE_ROOM = 0x1000
#: bytes of RAM that a PC has below its extended BIOS data area, which begins with its size in KiB
BASE_MEMORY = EBDA = 0x9_FC00
EBDA_SIZE = 0x400
#: adapters' and the firmware's memory in a PC: no kernel is loaded there
ROMS, ROMS_END = 0xA_0000, 0x10_0000
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
    """RAM as a PC has it: 639 KiB, the reserved hole for adapters and firmware, the rest."""
    entries = [MapEntry(0, BASE_MEMORY, RAM), MapEntry(EBDA, EBDA_SIZE, RESERVED)]
    entries.append(MapEntry(TABLES, TABLES_ROOM, RESERVED))
    for region in memory.regions:
        start = max(region.base, 0x10_0000)
        if region.end > start:
            entries.append(MapEntry(start, region.end - start, RAM))
    return entries
