"""Device accesses whole, without a hook on memory.

Unicorn hands an access of 8 bytes to a device in two halves. A memory hook would tell (see `access`), and
make each load and store of RAM slow: instead the instruction that runs is looked at where a half may be one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmlab.engine.soft import uclib
from vmlab.engine.soft.access import Access, mmio_ranges
from vmlab.engine.soft.locate import Locator
from vmlab.engine.soft.uclib import Uc

__all__ = ["JoinedAccess", "is_wide"]

_HALF = 4
#: opcodes of LOAD, STORE, LOAD-FP, STORE-FP, AMO; funct3 of the doubleword (Unprivileged 20191213, table
#: 24.1)
_OPCODES, _DOUBLE = frozenset((0x03, 0x23, 0x07, 0x27, 0x2F)), 3
#: funct3 of compressed loads and stores, in quadrants 0 and 2: C.FLD, C.FSD; C.LD, C.SD are RV64's (§16.8)
_COMPRESSED = {32: frozenset((1, 5)), 64: frozenset((1, 5, 3, 7))}


def is_wide(instruction: int, bits: int) -> bool:
    """Whether it accesses 8 bytes."""
    if instruction & 3 != 3:
        return not instruction & 1 and instruction >> 13 & 7 in _COMPRESSED[bits]
    return instruction & 0x7F in _OPCODES and instruction >> 12 & 7 == _DOUBLE


class JoinedAccess(Access):
    """An unaligned access is as many as Unicorn makes of it: hardware has none to devices. `wide`: whether
    the instruction that is being executed accesses 8 bytes; to be set before the guest runs."""

    wide: Callable[[], bool]
    #: where the second half is to come, and the half that is there
    _next_read = _next_write = -1
    _high = _low = 0

    def attach(self, uc: Uc, ram: list[tuple[int, int]]) -> None:
        self._locator = Locator(uc, self._target)
        for base, end in mmio_ranges(ram):
            read, write = self._reader(base), self._writer(base)
            uc.map_mmio(base, end - base, uclib.MMIO_READ(read), uclib.MMIO_WRITE(write))

    def _reader(self, base: int) -> Any:
        def read(_uc: int, offset: int, size: int, _data: int) -> int:
            address = base + offset
            expected, self._next_read = self._next_read, -1
            if size == _HALF and address == expected:
                return self._high
            if size == _HALF and not address & 7 and self.wide():
                value = self.load(address, 8)
                self._next_read, self._high = address + _HALF, value >> 32
                return value & 0xFFFF_FFFF
            return self.load(address, size)

        return read

    def _writer(self, base: int) -> Any:
        def write(_uc: int, offset: int, size: int, value: int, _data: int) -> None:
            address = base + offset
            expected, self._next_write = self._next_write, -1
            if size == _HALF and address == expected:
                self.store(address - _HALF, 8, self._low | value << 32)
            elif size == _HALF and not address & 7 and self.wide():
                self._next_write, self._low = address + _HALF, value
            else:
                self.store(address, size, value)

        return write
