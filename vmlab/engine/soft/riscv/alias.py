"""The guest that the cure for stale code is checked with: one page at two addresses, and then at one.

At 0x2000 are two functions; the guest rewrites both, each of which says then what it should, and goes round
again with translated code. With translation (Sv39, Sv32) the page is executable there, and writable at
0x3000.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable

from vmlab.core.memory import Region
from vmlab.core.once import once
from vmlab.engine.soft import codecache
from vmlab.engine.soft.codecache import CodeCaches
from vmlab.engine.soft.context import Saved
from vmlab.engine.soft.riscv import registers
from vmlab.engine.soft.riscv.registers import State

__all__ = ["PATCH", "alias_is_seen"]

_SIZE = 0x20000
_CODE, _FUNCTIONS, _ALIAS, _RESULTS, _TABLES = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
# sw a2,0(a4); sw a3,0x100(a4); lui t1,2; jalr t1; lui t2,4; sw a0,0(t2); jalr 0x100(t1); sw a0,4(t2); wfi
_GUEST = struct.pack(
    "<9I",
    *(0x00C72023, 0x10D72023, 0x00002337, 0x000300E7, 0x000043B7),
    *(0x00A3A023, 0x100300E7, 0x00A3A223, 0x10500073),
)
# addi a0,x0,0; ret
_FUNCTION = struct.pack("<2I", 0x00000513, 0x00008067)
#: a page table entry: valid, and a leaf's accessed and dirty; readable, writable, executable (§4.3.1)
_V, _R, _W, _X, _A_D = 1, 2, 4, 8, 0xC0
#: bits of a register: (levels of tables, satp's mode)
_PAGING = {64: (3, 8 << 60), 32: (2, 1 << 31)}

#: None: the caches leave it to the hook
Make = Callable[[tuple[Region, ...]], CodeCaches | None]


def alias_is_seen(bits: int, make: Make) -> bool:
    """Whether rewritten code runs as it is, with the caches that `make` returns."""
    ram = mmap.mmap(-1, _SIZE)
    region = Region(0, _SIZE, 0, memoryview(ram))
    uc = registers.new_hart(bits)
    saved = Saved(uc)
    caches = make((region,))
    try:
        uc.map_ram(0, _SIZE, ctypes.addressof(ctypes.c_char.from_buffer(ram)))
        if caches is not None:
            caches.join(uc, registers.offset("satp", bits))
        _furnish(ram, bits)
        state = State(saved.address, bits)

        def right(satp: int, alias: int, number: int) -> bool:
            saved.save()
            state["satp"], state["pc"] = satp, _CODE
            state["priv"] = registers.SUPERVISOR
            state.x[12], state.x[13] = _returning(number), _returning(100 + number)
            state.x[14] = alias
            saved.restore()
            uc.flush_tlb()
            wanted = (number, 100 + number)
            return not uc.run(_CODE) and struct.unpack_from("<2I", ram, _RESULTS) == wanted

        translated = _PAGING[bits][1] | _TABLES >> 12
        return all(
            right(satp, alias, 10 * round + number)
            for number, (satp, alias) in enumerate(((translated, _ALIAS), (0, _FUNCTIONS)))
            for round in range(1, 5)
        )
    finally:
        if caches is not None:
            caches.leave(uc)
        saved.close()
        uc.close()
        region.buffer.release()


def _returning(number: int) -> int:
    return number << 20 | 0x513


def _furnish(ram: mmap.mmap, bits: int) -> None:
    word = "<Q" if bits == 64 else "<I"
    levels, _ = _PAGING[bits]
    for level in range(levels - 1):
        below = _TABLES + 0x1000 * (level + 1)
        struct.pack_into(word, ram, _TABLES + 0x1000 * level, below >> 2 | _V)
    every = _V | _R | _W | _X | _A_D
    pages = {n: n << 10 | every for n in range(_SIZE >> 12)}
    pages |= {
        _FUNCTIONS >> 12: _FUNCTIONS >> 2 | every & ~_W,
        _ALIAS >> 12: _FUNCTIONS >> 2 | every & ~_X,
    }
    for page, entry in pages.items():
        at = _TABLES + 0x1000 * (levels - 1) + struct.calcsize(word) * page
        struct.pack_into(word, ram, at, entry)
    ram[_CODE : _CODE + len(_GUEST)] = _GUEST
    for at in (_FUNCTIONS, _FUNCTIONS + 0x100):
        ram[at : at + len(_FUNCTION)] = _FUNCTION


def _patch(bits: int) -> codecache.Patch | None:
    """See `codecache.patched`."""
    return codecache.patched(
        f"riscv{bits}",
        codecache.MARK_OFF,
        lambda made: alias_is_seen(bits, lambda regions: CodeCaches(regions, made)),
    )


#: bits of a register -> what makes the patch, once
PATCH = {64: once(lambda: _patch(64)), 32: once(lambda: _patch(32))}
