"""What a kernel puts into memory before it runs."""

from __future__ import annotations

from typing import NamedTuple

from vmlab.boot.elf import ElfFile
from vmlab.errors import KernelError

__all__ = ["Piece", "check_entry", "outside", "pieces_of"]


class Piece(NamedTuple):
    """Bytes for guest-physical `address`; `size` of memory, zero behind the bytes."""

    address: int
    data: bytes | memoryview
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


def pieces_of(elf: ElfFile) -> list[Piece]:
    """Its segments."""
    return [
        Piece(one.paddr, elf.data[one.offset : one.offset + one.file_size], one.memory_size)
        for one in elf.segments
    ]


def check_entry(elf: ElfFile, address: int) -> None:
    """KernelError unless something is loaded there."""
    if not any(one.paddr <= address < one.end for one in elf.segments):
        raise outside(elf.name, address)


def outside(name: str, address: int) -> KernelError:
    return KernelError(f"{name}: its entry {address:#x} lies outside what it loads")
