"""Firmware of one's own below a kernel for S mode: OpenSBI, RustSBI.

It starts in M mode on every hart, with the hart's number in a0, the device tree's address in a1, and in a2
that of OpenSBI's struct fw_dynamic_info (include/sbi/fw_dynamic.h), which says where the kernel is. Its
fw_jump goes to 0x8020_0000 without asking, with a device tree that it has copied to 0x8220_0000.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from vmlab.arch.riscv64 import platform
from vmlab.boot.elf import ELF_MAGIC, ElfFile
from vmlab.boot.pieces import Piece, pieces_of
from vmlab.boot.riscv import formats
from vmlab.core.safely import named
from vmlab.errors import KernelError

__all__ = ["INFO_SIZE", "NONE", "SBI", "WORDS", "Firmware", "dynamic_info", "read"]

#: what is said instead of a file: M mode, as QEMU's `-bios none` has it; the machine's own SBI
NONE, SBI = WORDS = "none", "sbi"
#: bytes that a firmware may have: below the kernel
_ROOM = platform.SBI_ENTRY - platform.RAM_BASE
_MAGIC, _VERSION, _S_MODE = 0x4942_534F, 2, 1
#: bytes of struct fw_dynamic_info, at most
INFO_SIZE = 48


class Firmware(NamedTuple):
    """name: of its file, or one of `WORDS`, which have no pieces."""

    name: str
    pieces: list[Piece] = []
    entry: int = 0

    @property
    def is_file(self) -> bool:
        return bool(self.pieces)


def read(said: str, bits: int) -> Firmware:
    """said: a path, or one of `WORDS`. A raw image lies where RAM begins; an ELF file's segments lie where it
    says, or there when it is linked to 0. KernelError for what cannot be a firmware of such harts."""
    if said in WORDS:
        return Firmware(said)
    name = f"firmware {named(said)}"
    try:
        if not os.path.isfile(said):
            raise KernelError(f"{name}: no such file")
        if os.path.getsize(said) > 64 * _ROOM:
            raise KernelError(
                f"{name}: {os.path.getsize(said):#x} bytes; there is room for {_ROOM:#x}"
            )
        data = Path(said).read_bytes()
    except OSError as error:
        raise KernelError(f"{name}: {error.strerror}") from error
    if not data:
        raise KernelError(f"{name}: the file is empty")
    if data[:4] == ELF_MAGIC:
        elf = ElfFile(data, name, formats.TARGETS[bits])
        if elf.bits != bits:
            raise KernelError(f"{name}: made for riscv{elf.bits}; this machine is riscv{bits}")
        pieces, entry = pieces_of(elf), elf.to_physical(elf.entry)
        if min(one.address for one in pieces) < platform.RAM_BASE:
            pieces = [one._replace(address=platform.RAM_BASE + one.address) for one in pieces]
            entry += platform.RAM_BASE
    else:
        pieces, entry = [Piece(platform.RAM_BASE, memoryview(data), len(data))], platform.RAM_BASE
    start, end = min(one.address for one in pieces), max(one.end for one in pieces)
    if start < platform.RAM_BASE or end > platform.SBI_ENTRY:
        raise KernelError(
            f"{name}: it takes {start:#x}-{end - 1:#x}; a firmware has {platform.RAM_BASE:#x}-"
            f"{platform.SBI_ENTRY - 1:#x}, below the kernel"
        )
    return Firmware(named(said), pieces, entry)


def dynamic_info(entry: int, bits: int) -> bytes:
    """The struct: the kernel is entered at `entry` in S mode, from whatever hart comes first."""
    any_hart = (1 << bits) - 1
    words = (_MAGIC, _VERSION, entry, _S_MODE, 0, any_hart)
    return struct.pack("<6Q" if bits == 64 else "<6I", *words)
