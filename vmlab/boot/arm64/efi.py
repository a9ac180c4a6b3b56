"""As much of UEFI (specification 2.10) as a kernel needs to find its ACPI tables, its memory, and the time.

A stock arm64 kernel looks for ACPI in an EFI system table alone, which its boot stub names in /chosen; here
the loader does. The one runtime service is GetTime: a PL031 is nothing that ACPI could describe.
"""

from __future__ import annotations

import struct
import uuid
from typing import NamedTuple

from vmlab.boot.arm64.layout import UNIT, Places
from vmlab.boot.fdt import cells, reg
from vmlab.core.memory import GuestMemory

__all__ = ["chosen", "write"]

_REVISION = 2 << 16 | 100
#: configuration tables (§4.6)
_ACPI_20 = uuid.UUID("8868e871-e4f1-11d3-bc22-0080c73c8881").bytes_le
_RT_PROPERTIES = uuid.UUID("eb66918a-7eef-402a-842e-931d21c38ae9").bytes_le
#: the services that work: GetTime and, which a kernel asks for with it, SetTime
_SUPPORTED = 1 << 0 | 1 << 1
# types of memory (§7.2, table 7.6) and what may be done with it
_CODE, _CONVENTIONAL, _RECLAIM, _MMIO = 5, 7, 9, 11
_UNCACHED, _WRITE_BACK, _READ_ONLY, _RUNTIME = 1 << 0, 1 << 3, 1 << 17, 1 << 63
_PAGE = 0x1000
#: bytes of a memory descriptor; a kernel is told the size, and later versions may add to it
_DESCRIPTOR = 48
#: where the runtime services are seen when they run: nobody else's addresses, below the kernel's
_CODE_SEEN, _TIME_SEEN = 0x2000_0000, 0x2000_0000 + UNIT
_SERVICES = 14
#: where in their place what lies: behind the ACPI tables
_SYSTEM, _CONFIGURATION, _VENDOR, _PROPERTIES, _MAP = 0xF000, 0xF100, 0xF200, 0xF280, 0xF300
#: in the code's place, behind the table of services
_CODE_AT = 0x100


class Descriptor(NamedTuple):
    kind: int
    start: int
    end: int
    attributes: int
    seen: int = 0

    def to_bytes(self) -> bytes:
        pages = (self.end - self.start) // _PAGE
        packed = struct.pack("<I4xQQQQ", self.kind, self.start, self.seen, pages, self.attributes)
        return packed.ljust(_DESCRIPTOR, b"\0")


def write(memory: GuestMemory, at: Places, acpi: bytes, time: int) -> None:
    """All of it. acpi: tables, made for `at.tables`; time: the address of an EFI_TIME."""
    base = at.tables
    memory.write(base, acpi)
    configuration = b"".join(
        which + struct.pack("<Q", where)
        for which, where in ((_ACPI_20, base), (_RT_PROPERTIES, base + _PROPERTIES))
    )
    memory.write(base + _CONFIGURATION, configuration)
    memory.write(base + _VENDOR, "vmlab\0".encode("utf-16-le"))
    memory.write(base + _PROPERTIES, struct.pack("<HHI", 1, 8, _SUPPORTED))
    memory.write(base + _SYSTEM, _system_table(base))
    memory.write(at.code, _runtime())
    memory.write(base + _MAP, b"".join(one.to_bytes() for one in _memory_map(memory, at, time)))


def chosen(memory: GuestMemory, at: Places) -> dict[str, bytes]:
    """What /chosen says of it."""
    count = len(_memory_map(memory, at, 0))
    return {
        "linux,uefi-system-table": reg(at.tables + _SYSTEM),
        "linux,uefi-mmap-start": reg(at.tables + _MAP),
        "linux,uefi-mmap-size": cells(count * _DESCRIPTOR),
        "linux,uefi-mmap-desc-size": cells(_DESCRIPTOR),
        "linux,uefi-mmap-desc-ver": cells(1),
        # distributions' kernels want to be told: it is off
        "linux,uefi-secure-boot": cells(2),
    }


def _memory_map(memory: GuestMemory, at: Places, time: int) -> list[Descriptor]:
    found = []
    for region in memory.regions:
        end = at.code if region.end > at.code >= region.base else region.end
        if end > region.base:
            found.append(Descriptor(_CONVENTIONAL, region.base, end, _WRITE_BACK))
    runtime = _WRITE_BACK | _RUNTIME | _READ_ONLY
    found += [
        Descriptor(_CODE, at.code, at.code + UNIT, runtime, _CODE_SEEN),
        Descriptor(_RECLAIM, at.tables, at.tables + UNIT, _WRITE_BACK),
    ]
    last = memory.regions[-1].end
    if last > at.end:
        found.append(Descriptor(_CONVENTIONAL, at.end, last, _WRITE_BACK))
    return [*found, Descriptor(_MMIO, time, time + UNIT, _RUNTIME | _UNCACHED, _TIME_SEEN)]


def _system_table(base: int) -> bytes:
    """§4.3. It is not summed: no kernel looks, and it names addresses as they are seen at run time."""
    head = struct.pack("<8sIIIIQI4x", b"IBI SYST", _REVISION, 120, 0, 0, base + _VENDOR, 1)
    consoles = bytes(6 * 8)
    return head + consoles + struct.pack("<4Q", _CODE_SEEN, 0, 2, base + _CONFIGURATION)


def _runtime() -> bytes:
    """The table of runtime services (§4.5) and their code: GetTime copies an EFI_TIME (§8.3) and says that
    its clock has a resolution of 1 Hz; the others return EFI_UNSUPPORTED."""
    get_time = [
        *(0xD2A40022,),  # movz x2, #0x2001, lsl #16: _TIME_SEEN
        *(word for n in range(4) for word in (0xB9400043 | n << 10, 0xB9000003 | n << 10)),
        *(0xB4000081, 0xD2800023, 0xF9000023, 0xB900083F),  # if x1: capabilities
        *(0xD2800000, 0xD65F03C0),  # return EFI_SUCCESS
    ]
    unsupported = [0xD2800060, 0xB2410000, 0xD65F03C0]  # return 3 | 1 << 63
    first, other = _CODE_SEEN + _CODE_AT, _CODE_SEEN + _CODE_AT + 4 * len(get_time)
    head = struct.pack("<8sIIII", b"RUNTSERV", _REVISION, 136, 0, 0)
    table = head + struct.pack(f"<{_SERVICES}Q", first, *[other] * (_SERVICES - 1))
    code = [*get_time, *unsupported]
    return table.ljust(_CODE_AT, b"\0") + struct.pack(f"<{len(code)}I", *code)
