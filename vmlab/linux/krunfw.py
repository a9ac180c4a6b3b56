"""A libkrunfw, read as data: the kernel in it is the object `KERNEL_BUNDLE`, a raw image.

Where that is loaded and entered, and how long it is, are constants in the code of the function
`krunfw_get_kernel(load, entry, size)`. They are read there, and none of the library is run.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

from vmlab.errors import KernelError

__all__ = ["Bundle", "extract", "find"]

#: e_type, e_machine, e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum of an ELF64 file
_FILE = struct.Struct("<16xHH12xQQ6xHHHH2x")
_SEGMENT = struct.Struct("<II6Q")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ET_DYN, _PT_LOAD, _SHT_DYNSYM = 3, 1, 11
_X86_64, _ARM64 = 62, 183
#: headers of each kind, and dynamic symbols, that are looked at; such a library has 26 and 10
_HEADERS, _SYMBOLS = 256, 1024
#: bytes of the function's code that are read; it has about sixty
_CODE = 512
#: mov qword [register], imm32
_X86_STORE = re.compile(rb"[\x48\x49]\xc7[\x00-\x07](....)", re.DOTALL)
_BUNDLE, _FUNCTION = b"KERNEL_BUNDLE", b"krunfw_get_kernel"


class Bundle(NamedTuple):
    """load, entry: guest-physical addresses; image: the raw bytes."""

    load: int
    entry: int
    image: memoryview


def find(data: bytes | bytearray | memoryview, name: str) -> Bundle | None:
    """The kernel in a libkrunfw; None for any other file, KernelError for one that does not say where its
    kernel goes."""
    library = _Library(memoryview(data))
    symbols = {
        symbol: (at, size)
        for symbol, section, at, size in library.symbols()
        if symbol in (_BUNDLE, _FUNCTION) and section and size
    }
    if len(symbols) != 2:
        return None
    at, room = symbols[_BUNDLE]
    start, length = symbols[_FUNCTION]
    code = bytes(library.bytes_at(start, min(length, _CODE)))
    stored = _CONSTANTS[library.machine](code)
    found = _places(stored, room) if len(stored) == 3 else None
    image = library.bytes_at(at, found[2]) if found else None
    if found is None or not image:
        raise KernelError(f"{name}: a libkrunfw that does not say where its kernel is loaded")
    return Bundle(found[0], found[1], image)


def extract(data: bytes | memoryview, name: str) -> tuple[int, int, bytes]:
    """(load address, entry, raw image) of the kernel in the libkrunfw whose bytes are `data`."""
    bundle = find(data, name)
    if bundle is None:
        raise KernelError(f"{name}: not a libkrunfw: it has no {_BUNDLE.decode()}")
    return bundle.load, bundle.entry, bytes(bundle.image)


class _Library:
    """An ELF64 shared library. Whatever lies outside the file is empty."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._segments: list[tuple[int, ...]] = []
        self._sections: list[tuple[int, ...]] = []
        self.machine = 0
        if len(data) < _FILE.size or bytes(data[:6]) != b"\x7fELF\x02\x01":
            return
        kind, machine, phoff, shoff, phsize, phnum, shsize, shnum = _FILE.unpack_from(data)
        if kind == _ET_DYN and machine in _CONSTANTS:
            self.machine = machine
            self._segments = list(self._table(_SEGMENT, phoff, phsize, phnum))
            self._sections = list(self._table(_SECTION, shoff, shsize, shnum))

    def _table(
        self, form: struct.Struct, at: int, stride: int, count: int
    ) -> Iterator[tuple[int, ...]]:
        for place in range(at, at + min(count, _HEADERS) * stride, stride or 1):
            if stride >= form.size and place + form.size <= len(self._data):
                yield form.unpack_from(self._data, place)

    def bytes_at(self, address: int, size: int) -> memoryview:
        for kind, _, offset, start, _, file_size, _, _ in self._segments:
            if kind == _PT_LOAD and start <= address and address + size <= start + file_size:
                found = self._data[offset + address - start :][:size]
                return found if len(found) == size else found[:0]
        return self._data[:0]

    def symbols(self) -> Iterator[tuple[bytes, int, int, int]]:
        """(name, section, value, size) of each dynamic symbol."""
        for _, kind, _, _, offset, size, link, *_ in self._sections:
            if kind == _SHT_DYNSYM and link < len(self._sections):
                strings = self._sections[link][4]
                table = self._data[offset : offset + min(size, _SYMBOLS * _SYMBOL.size)]
                for at in range(0, len(table) - _SYMBOL.size + 1, _SYMBOL.size):
                    name, _, _, section, value, length = _SYMBOL.unpack_from(table, at)
                    text = bytes(self._data[strings + name :][:32]).partition(b"\0")[0]
                    yield text, section, value, length


def _places(stored: list[int], room: int) -> tuple[int, int, int] | None:
    """(load, entry, size): the three, in the order in which they fit each other. The object ends in a NUL."""
    found = {
        (load, entry, size)
        for load, entry, size in permutations(stored)
        if room - 1 <= size <= room and load <= entry < load + size
    }
    return found.pop() if len(found) == 1 else None


def _x86_constants(code: bytes) -> list[int]:
    """What is stored where the arguments point."""
    return [int.from_bytes(found, "little") for found in _X86_STORE.findall(code)]


def _arm64_constants(code: bytes) -> list[int]:
    """What MOVZ and MOVK have left in registers that are then stored (Arm ARM C6.2)."""
    registers: dict[int, int] = {}
    found = []
    for (word,) in struct.iter_unpack("<I", code[: len(code) & ~3]):
        shift, register = (word >> 21 & 3) * 16, word & 31
        value = (word >> 5 & 0xFFFF) << shift
        if word & 0x7F80_0000 == 0x5280_0000:
            registers[register] = value
        elif word & 0x7F80_0000 == 0x7280_0000:
            registers[register] = registers.get(register, 0) & ~(0xFFFF << shift) | value
        elif word & 0xBFC0_0000 == 0xB900_0000 and register in registers:
            found.append(registers[register])
    return found


_CONSTANTS = {_X86_64: _x86_constants, _ARM64: _arm64_constants}
