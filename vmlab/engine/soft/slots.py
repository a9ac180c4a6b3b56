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
_DT_PLTRELSZ, _DT_SYMTAB, _DT_JMPREL, _DT_GNU_HASH = 2, 6, 23, 0x6FFF_FEF5
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


def find(functions: dict[str, int]) -> list[int] | None:
    """The addresses of the writable slots of these functions (name -> address in one library), in order.

    None: this system, this machine or this library does not work like that.
    """
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return None
    base = _base(next(iter(functions.values())))
    if base is None or ctypes.string_at(base, 4) != b"\x7fELF":
        return None
    (machine,) = struct.unpack("<H", ctypes.string_at(base + 18, 2))
    headers = _headers(base)
    dynamic = _dynamic(base, headers)
    needed = {_DT_JMPREL, _DT_PLTRELSZ, _DT_SYMTAB, _DT_GNU_HASH}
    if machine != _X86_64 or not needed <= dynamic.keys():
        return None
    relro = [(base + at, base + at + size) for kind, at, size in headers if kind == _PT_RELRO]
    found = _slots(base, dynamic, functions)
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


def _dynamic(base: int, headers: list[tuple[int, int, int]]) -> dict[int, int]:
    """Tag -> value of the dynamic section."""
    for kind, at, size in headers:
        if kind == _PT_DYNAMIC:
            raw = ctypes.string_at(base + at, size // 16 * 16)
            return dict(struct.iter_unpack("<qQ", raw))
    return {}


def _slots(base: int, dynamic: dict[int, int], functions: dict[str, int]) -> list[int | None]:
    """The slot of each function."""
    # the loader of glibc has made addresses of these, that of musl has not
    table, symbols, hashes = (
        value if value > base else base + value
        for value in (dynamic[tag] for tag in (_DT_JMPREL, _DT_SYMTAB, _DT_GNU_HASH))
    )
    relocations = ctypes.string_at(table, dynamic[_DT_PLTRELSZ])
    found: list[int | None] = []
    for name, address in functions.items():
        symbol = _symbol(hashes, symbols, name, address - base)
        at = -1 if symbol is None else _entry(relocations, symbol)
        found.append(None if at < 0 else base + struct.unpack_from("<Q", relocations, at)[0])
    return found


def _entry(relocations: bytes, symbol: int) -> int:
    """Where the relocation of `symbol`'s slot begins; -1 for none."""
    wanted = struct.pack("<II", _JUMP_SLOT, symbol)
    at = relocations.find(wanted)
    while at >= 0 and at % _RELOCATION != 8:
        at = relocations.find(wanted, at + 1)
    return at - 8 if at >= 0 else -1


def _symbol(table: int, symbols: int, name: str, value: int) -> int | None:
    """The index of a symbol with that name's hash and that value, by DT_GNU_HASH."""
    wanted = 5381
    for letter in name.encode():
        wanted = wanted * 33 + letter & 0xFFFF_FFFF
    buckets, first, filters, _ = _words(table, 4)
    rows = table + 16 + 8 * filters
    (symbol,) = _words(rows + 4 * (wanted % buckets), 1)
    while symbol >= first:
        (entry,) = _words(rows + 4 * (buckets + symbol - first), 1)
        at = symbols + _SYMBOL * symbol + 8
        if entry | 1 == wanted | 1 and ctypes.c_uint64.from_address(at).value == value:
            return int(symbol)
        if entry & 1:
            break
        symbol += 1
    return None


def _words(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", ctypes.string_at(address, 4 * count))
