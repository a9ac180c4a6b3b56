"""The slots of a shared library's procedure linkage table: where its calls to its own functions go.

Calls between the object files of a library built with interposition go through a table of pointers, one a
function (System V ABI, AMD64 supplement, §5.2). Storing another address there redirects all of them.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from typing import Any

__all__ = ["find"]

_PT_DYNAMIC, _PT_RELRO = 2, 0x6474E552
_DT_PLTRELSZ, _DT_SYMTAB, _DT_JMPREL = 2, 6, 23
_JUMP_SLOT = 7  # R_X86_64_JUMP_SLOT
_X86_64 = 62
_SYMBOL, _RELOCATION = 24, 24


class _Info(ctypes.Structure):
    """Dl_info of dlfcn.h."""

    _fields_ = (
        ("fname", ctypes.c_char_p),
        ("fbase", ctypes.c_void_p),
        ("sname", ctypes.c_char_p),
        ("saddr", ctypes.c_void_p),
    )


def find(functions: list[int]) -> list[int] | None:
    """The addresses of the writable slots of these functions (addresses in one library), in order.

    None: this system, this machine or this library does not work like that.
    """
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return None
    base = _base(functions[0])
    if base is None or ctypes.string_at(base, 4) != b"\x7fELF":
        return None
    (machine,) = struct.unpack("<H", ctypes.string_at(base + 18, 2))
    if machine != _X86_64:
        return None
    headers = _headers(base)
    relro = [(base + at, base + at + size) for kind, at, size in headers if kind == _PT_RELRO]
    slots = _slots(base, headers, [address - base for address in functions])
    found = [slots.get(address - base) for address in functions]
    if any(slot is None or any(a <= slot < b for a, b in relro) for slot in found):
        return None
    return [slot for slot in found if slot is not None]


def _base(address: int) -> int | None:
    info = _Info()
    dladdr: Any = getattr(ctypes.CDLL(None), "dladdr", None)
    if dladdr is None or not dladdr(ctypes.c_void_p(address), ctypes.byref(info)):
        return None
    base: int | None = info.fbase
    return base


def _headers(base: int) -> list[tuple[int, int, int]]:
    """(type, address relative to `base`, size in memory) of each program header."""
    (at,) = struct.unpack("<Q", ctypes.string_at(base + 32, 8))
    size, count = struct.unpack("<HH", ctypes.string_at(base + 54, 4))
    rows = [ctypes.string_at(base + at + size * n, 56) for n in range(count)]
    return [(row[0], row[3], row[6]) for row in (struct.unpack("<2I6Q", raw) for raw in rows)]


def _slots(base: int, headers: list[tuple[int, int, int]], wanted: list[int]) -> dict[int, int]:
    """Function -> slot, both by address, the function's relative to `base`."""
    dynamic = next((row for row in headers if row[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return {}
    raw = ctypes.string_at(base + dynamic[1], dynamic[2])
    entries = dict(struct.iter_unpack("<qQ", raw[: len(raw) // 16 * 16]))
    if not {_DT_JMPREL, _DT_PLTRELSZ, _DT_SYMTAB} <= entries.keys():
        return {}
    # the loader of glibc has made addresses of these, that of musl has not
    table, symbols = (
        value if value > base else base + value
        for value in (entries[_DT_JMPREL], entries[_DT_SYMTAB])
    )
    found = {}
    relocations = ctypes.string_at(table, entries[_DT_PLTRELSZ] // _RELOCATION * _RELOCATION)
    for at, info, _ in struct.iter_unpack("<QQq", relocations):
        if info & 0xFFFF_FFFF == _JUMP_SLOT:
            value = ctypes.c_uint64.from_address(symbols + (info >> 32) * _SYMBOL + 8).value
            if value in wanted:
                found[value] = base + at
    return found
