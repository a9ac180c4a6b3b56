"""The guest that the cure for stale code is checked with: one page at two addresses.

In long mode 0x2000 is executable there and writable, not executable at 0x3000. It holds two functions; the
guest rewrites both, each of which says then what it should, and goes round again with translated code.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from typing import Protocol

from vmlab.core.memory import Region
from vmlab.core.once import once
from vmlab.engine.soft import codecache
from vmlab.engine.soft.codecache import CodeCaches
from vmlab.engine.soft.uclib import Uc

__all__ = ["alias_is_seen", "patch"]

_SIZE = 0x20000
_CODE, _FUNCTIONS, _ALIAS, _RESULTS, _TABLES = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
_NX = 1 << 63
_EFER = 0xC000_0080
# UC_X86_REG_* of unicorn/x86.h
_CR0, _CR3, _CR4, _RCX, _RDX, _RSP = 50, 53, 54, 38, 40, 44
# mov [0x3001],ecx; mov [0x3101],edx; call 0x2000; mov [0x4000],eax; call 0x2100; mov [0x4004],eax; hlt
_GUEST = bytes.fromhex(
    "890c2501300000 89142501310000 e8ed0f0000 89042500400000 e8e1100000 89042504400000 f4"
)
# mov eax,0; ret
_FUNCTION = bytes.fromhex("b800000000c3")


@once
def patch() -> codecache.Patch | None:
    """See `codecache.patched`. A kernel's pages of data are marked as not executable."""
    return codecache.patched(
        "x86_64",
        codecache.MARK_KEPT,
        lambda made: alias_is_seen(lambda regions: CodeCaches(regions, made)),
    )


class Caches(Protocol):
    """What is checked: `codecache.CodeCaches`."""

    def join(self, uc: Uc) -> None: ...

    def leave(self, uc: Uc) -> None: ...


def alias_is_seen(make: Callable[[tuple[Region, ...]], Caches]) -> bool:
    """Whether rewritten code runs as it is, with the caches that `make` returns."""
    ram = mmap.mmap(-1, _SIZE)
    region = Region(0, _SIZE, 0, memoryview(ram))
    uc = Uc()
    caches = make((region,))
    try:
        host = ctypes.addressof(ctypes.c_char.from_buffer(ram))
        uc.map_ram(0, _SIZE, host)
        caches.join(uc)
        _furnish(ram, uc)
        return all(_round(ram, uc, n) for n in range(1, 5))
    finally:
        caches.leave(uc)
        uc.close()
        region.buffer.release()


def _furnish(ram: mmap.mmap, uc: Uc) -> None:
    for level in range(3):
        struct.pack_into("<Q", ram, _TABLES + 0x1000 * level, _TABLES + 0x1000 * (level + 1) | 3)
    pages = {n: n << 12 | 3 for n in range(_SIZE >> 12)}
    pages |= {_FUNCTIONS >> 12: _FUNCTIONS | 1, _ALIAS >> 12: _FUNCTIONS | 3 | _NX}
    for page, entry in pages.items():
        struct.pack_into("<Q", ram, _TABLES + 0x3000 + 8 * page, entry)
    ram[_CODE : _CODE + len(_GUEST)] = _GUEST
    for at in (_FUNCTIONS, _FUNCTIONS + 0x100):
        ram[at : at + len(_FUNCTION)] = _FUNCTION
    uc.write_msr(_EFER, 0xD00)  # LME, LMA, NXE
    for register, value in ((_CR3, _TABLES), (_CR4, 0x20), (_CR0, 0x8000_0011)):
        uc.write_register(register, value)


def _round(ram: mmap.mmap, uc: Uc, number: int) -> bool:
    for register, value in ((_RCX, number), (_RDX, 100 + number), (_RSP, 0x7000)):
        uc.write_register(register, value)
    return not uc.run(_CODE) and struct.unpack_from("<2I", ram, _RESULTS) == (number, 100 + number)
