"""The PVH entry (Xen's "x86/HVM direct boot ABI"): a note names a 32-bit entry, ebx the start info."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot.elf import ElfFile
from vmlab.boot.x86_64.layout import BOOT_INFO, CMDLINE, memory_map
from vmlab.core.memory import GuestMemory
from vmlab.errors import KernelError

__all__ = ["Entry", "find_entry"]

#: ELF note that carries the entry's physical address
XEN_ELFNOTE_PHYS32_ENTRY = 18
START_MAGIC = 0x336E_C578
#: struct hvm_start_info, version 1
_START_INFO = struct.Struct("<IIIIQQQQII")
#: struct hvm_modlist_entry: address, size, its command line, reserved
_MODULE = struct.Struct("<QQQQ")
#: struct hvm_memmap_table_entry: address, size, type, reserved
_MAP_ENTRY = struct.Struct("<QQII")


class Entry(NamedTuple):
    address: int

    def prepare(
        self,
        memory: GuestMemory,
        cmdline: bool,
        module: tuple[int, int] | None,
        rsdp: int = 0,
    ) -> CpuState:
        """Write the start info; `cmdline` lies at CMDLINE already. rsdp: 0 for no ACPI tables."""
        modules = BOOT_INFO + _START_INFO.size
        table = modules + (_MODULE.size if module else 0)
        entries = memory_map(memory)
        info = _START_INFO.pack(
            START_MAGIC,
            1,
            0,
            1 if module else 0,
            modules if module else 0,
            CMDLINE if cmdline else 0,
            rsdp,
            table,
            len(entries),
            0,
        )
        if module:
            info += _MODULE.pack(*module, 0, 0)
        info += b"".join(_MAP_ENTRY.pack(*one, 0) for one in entries)
        memory.write(BOOT_INFO, info)
        return CpuState("protected", self.address, {"rbx": BOOT_INFO})


def find_entry(elf: ElfFile) -> Entry | None:
    """The PVH entry, or None. The note's value is 4 or 8 bytes long."""
    note = elf.note(b"Xen", XEN_ELFNOTE_PHYS32_ENTRY)
    if note is None:
        return None
    if len(note) not in (4, 8):
        raise KernelError(f"{elf.name}: its PVH note holds {len(note)} bytes; an entry is 4 or 8")
    address = int.from_bytes(note, "little")
    if address >> 32:
        raise KernelError(f"{elf.name}: its PVH entry {address:#x} is above 4 GiB")
    return Entry(address)
