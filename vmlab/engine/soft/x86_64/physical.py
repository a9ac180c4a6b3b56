"""Guest memory as the CPU's own hardware reads it: page tables, descriptor tables, stacks.

Everything here follows pointers that the guest wrote, so each is checked against guest memory: what
lies outside reads as all ones, as a hole does on a bus, and is not written. A page walk has at most
four steps whatever the tables hold.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from vmlab.core.memory import Region

__all__ = ["Fault", "Paging", "Physical"]

PAGE_FAULT = 14
_P, _W, _US, _A, _D, _PS = 1, 2, 4, 0x20, 0x40, 0x80
_ADDRESS = 0x000F_FFFF_FFFF_F000
_CR0_WP, _CR0_PG = 1 << 16, 1 << 31
_CR4_PSE, _CR4_PAE = 1 << 4, 1 << 5
_EFER_LMA = 0x400
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")


class Fault(Exception):
    """An exception of the guest that arises while one is being delivered. `error` None: no code."""

    def __init__(self, vector: int, error: int | None, address: int | None = None) -> None:
        super().__init__(vector, error, address)
        self.vector = vector
        self.error = error
        #: for CR2, when `vector` is 14
        self.address = address


class Physical:
    """Loads and stores by guest physical address; never raises."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._regions: Final = tuple((r.base, r.end, r.buffer) for r in regions)

    def __contains__(self, address: int) -> bool:
        return any(base <= address < end for base, end, _ in self._regions)

    def read(self, address: int, size: int) -> bytes:
        for base, end, buffer in self._regions:
            if base <= address and address + size <= end:
                return bytes(buffer[address - base : address - base + size])
        return b"\xff" * size

    def write(self, address: int, data: bytes) -> None:
        for base, end, buffer in self._regions:
            if base <= address and address + len(data) <= end:
                buffer[address - base : address - base + len(data)] = data

    def read_u64(self, address: int) -> int:
        for base, end, buffer in self._regions:
            if base <= address <= end - 8:
                value: int = _U64.unpack_from(buffer, address - base)[0]
                return value
        return (1 << 64) - 1


class Paging:
    """Linear addresses as one CPU translates them, for accesses of its own at supervisor level.

    Intel SDM vol 3 chapter 4: 32-bit, PAE and 4-level paging, with large pages. Accessed and dirty
    flags are set as the hardware does (§4.8). Supervisor accesses ignore U/S here: neither SMAP nor
    protection keys exist on this CPU model.
    """

    __slots__ = ("cr0", "cr3", "cr4", "efer", "memory")

    def __init__(self, memory: Physical, cr0: int, cr3: int, cr4: int, efer: int) -> None:
        self.memory = memory
        self.cr0, self.cr3, self.cr4, self.efer = cr0, cr3, cr4, efer

    def translate(self, address: int, write: bool = False) -> int:
        """Physical address of a linear one. Raises Fault (#PF, or #GP when not canonical)."""
        if self.efer & _EFER_LMA:
            if not -(1 << 47) <= _signed(address) < 1 << 47:
                raise Fault(13, 0)
        else:
            address &= 0xFFFF_FFFF
        if not self.cr0 & _CR0_PG:
            return address
        if self.cr4 & _CR4_PAE:
            return self._walk_wide(address, write)
        return self._walk_narrow(address, write)

    def _walk_wide(self, address: int, write: bool) -> int:
        """8-byte entries: PAE (three levels, the first not a normal one) and 4-level."""
        long_mode = self.efer & _EFER_LMA
        table = self.cr3 & (_ADDRESS if long_mode else 0xFFFF_FFE0)
        writable = True
        for shift in (39, 30, 21, 12) if long_mode else (30, 21, 12):
            at = table + (address >> shift & 511) * 8
            entry = self.memory.read_u64(at)
            if not entry & _P:
                raise self._fault(address, write, present=False)
            pointer = shift == 30 and not long_mode  # a PAE PDPTE has neither W nor A nor PS
            writable = writable and (pointer or bool(entry & _W))
            leaf = shift == 12 or (not pointer and shift != 39 and bool(entry & _PS))
            if leaf:
                self._check(address, write, writable)
            if not pointer:
                self._mark(at, entry, write and leaf)
            if leaf:
                offset = (1 << shift) - 1
                return entry & _ADDRESS & ~offset | address & offset
            table = entry & _ADDRESS
        raise AssertionError("unreachable")  # shift 12 is always a leaf

    def _walk_narrow(self, address: int, write: bool) -> int:
        """4-byte entries: 32-bit paging, with 4 MiB pages when CR4.PSE."""
        at = (self.cr3 & 0xFFFF_F000) + (address >> 22) * 4
        entry: int = _U32.unpack(self.memory.read(at, 4))[0]
        if not entry & _P:
            raise self._fault(address, write, present=False)
        if entry & _PS and self.cr4 & _CR4_PSE:
            self._check(address, write, bool(entry & _W))
            self._mark(at, entry, write)
            # bits 20:13 of a 4 MiB entry are bits 39:32 of the address (PSE-36)
            return (entry & 0x1FE000) << 19 | entry & 0xFFC0_0000 | address & 0x3F_FFFF
        self._mark(at, entry, False)
        at = (entry & 0xFFFF_F000) + (address >> 12 & 0x3FF) * 4
        leaf: int = _U32.unpack(self.memory.read(at, 4))[0]
        if not leaf & _P:
            raise self._fault(address, write, present=False)
        self._check(address, write, bool(entry & leaf & _W))
        self._mark(at, leaf, write)
        return leaf & 0xFFFF_F000 | address & 0xFFF

    def _mark(self, at: int, entry: int, dirty: bool) -> None:
        wanted = _A | _D if dirty else _A
        if entry & wanted != wanted:
            # both flags are in the low byte, whatever the entry's size
            self.memory.write(at, bytes((entry & 0xFF | wanted,)))

    def _check(self, address: int, write: bool, writable: bool) -> None:
        if write and not writable and self.cr0 & _CR0_WP:
            raise self._fault(address, write, present=True)

    @staticmethod
    def _fault(address: int, write: bool, present: bool) -> Fault:
        return Fault(PAGE_FAULT, present | write << 1, address)

    def read(self, address: int, size: int) -> bytes:
        """`size` (at most a page) bytes at a linear address. Raises Fault."""
        first = 0x1000 - (address & 0xFFF)
        if size <= first:
            return self.memory.read(self.translate(address), size)
        head = self.translate(address)
        tail = self.translate(address + first)
        return self.memory.read(head, first) + self.memory.read(tail, size - first)

    def write(self, address: int, data: bytes) -> None:
        """As `read`; nothing is written when either page faults."""
        first = 0x1000 - (address & 0xFFF)
        if len(data) <= first:
            self.memory.write(self.translate(address, True), data)
            return
        head = self.translate(address, True)
        tail = self.translate(address + first, True)
        self.memory.write(head, data[:first])
        self.memory.write(tail, data[first:])


def _signed(address: int) -> int:
    return address - (1 << 64) if address >> 63 else address
