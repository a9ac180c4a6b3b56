"""Puts a kernel into guest memory and says how the first CPU starts: Linux' Image, and ELF files, which are
entered in the same way. Every kernel gets a device tree; a Linux also finds its ACPI tables by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.boot import fdt, image
from vmlab.boot.arm64 import efi, formats, linux
from vmlab.boot.arm64.layout import UNIT, places
from vmlab.boot.by_tree import Kernel, check_linked, chosen, complete, lay_out, place_initrd
from vmlab.boot.elf import ELF_MAGIC, ET_DYN, ElfFile
from vmlab.boot.fdt import Node
from vmlab.boot.image import check_initrd
from vmlab.boot.payload import MAX_SIZE
from vmlab.boot.pieces import Piece, check_entry, pieces_of
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.core.safely import named
from vmlab.errors import KernelError

__all__ = ["Kernel", "Told", "check_files", "parse", "place", "read_image"]

#: bytes of command line that Linux takes (COMMAND_LINE_SIZE), without the NUL
CMDLINE_MAX = 2047


class Told(NamedTuple):
    """What a guest finds in memory of its machine. tree: the device tree, without /memory and /chosen;
    stdout: the path in it of the serial port; acpi: makes tables for an address, None for a guest without;
    time: the address of an EFI_TIME, for those."""

    tree: Node = Node("")
    stdout: str = ""
    acpi: Callable[[int], bytes] | None = None
    time: int = 0


def read_image(path: str | Path, limit: int = MAX_SIZE) -> bytes:
    """A kernel's bytes; see `boot.image.read_image`."""
    return image.read_image(path, formats, limit=limit)


def check_files(kernel: str, initrd: str | None, memory: int) -> str:
    """KernelError when a machine with `memory` bytes cannot boot them, as far as that can be told quickly.
    What it would do without: a sentence, or ""."""
    data = read_image(kernel, limit=memory)
    first, size = image.beginning(data, named(kernel))
    _take_apart(first, named(kernel), size)
    if initrd is not None:
        check_initrd(initrd, memory)
    return ""


def parse(data: bytes, name: str, limit: int = MAX_SIZE) -> Kernel:
    """The image taken apart; KernelError when this machine cannot boot it. limit: bytes that it may unpack
    to."""
    said = named(name)
    return _take_apart(image.unwrap(data, said, formats, limit), said)


def _take_apart(data: bytes | bytearray, name: str, size: int | None = None) -> Kernel:
    """size: the image's, where `data` is only its beginning."""
    if linux.is_image(data):
        header = linux.Image.read(data, name, len(data) if size is None else 0)
        piece = Piece(header.text_offset, memoryview(data), max(header.size, len(data)))
        return Kernel(name, [piece], header.text_offset, True, True)
    if data[:4] != ELF_MAGIC:
        raise KernelError(f"{name}: {formats.guess(data)}")
    elf = ElfFile(data, name, formats.TARGET, size)
    if size is not None:
        return Kernel(name, [], 0)
    return _from_elf(elf)


def _from_elf(elf: ElfFile) -> Kernel:
    if elf.kind == ET_DYN:
        from vmlab.linux import krunfw  # only here: few machines need it

        bundle = krunfw.find(elf.data, elf.name)
        if bundle is not None:
            piece = Piece(bundle.load, bundle.image, len(bundle.image))
            return Kernel(elf.name, [_whole(piece)], bundle.entry, linux=True)
    check_linked(elf)
    pieces = pieces_of(elf)
    first = min(elf.segments, key=lambda one: one.vaddr)
    if first.vaddr >= linux.KERNEL_SPACE:  # a vmlinux: it lies wherever its Image would
        head = elf.data[first.offset : first.offset + first.file_size]
        if not linux.is_image(head):
            raise KernelError(f"{elf.name}: linked in the upper half, and no Linux; link it in RAM")
        base = linux.Image.read(head, elf.name, 0).text_offset
        moved = [one._replace(address=one.address - first.paddr + base) for one in pieces]
        return Kernel(elf.name, moved, elf.entry - first.vaddr + base, True, True)
    entry = elf.to_physical(elf.entry)
    check_entry(elf, entry)
    one = next(one for one in pieces if one.address <= entry < one.end)
    if one.address == entry and linux.is_image(one.data):
        return Kernel(elf.name, [_whole(one)], entry, linux=True)
    return Kernel(elf.name, pieces, entry)


def _whole(piece: Piece) -> Piece:
    """With the memory that the Image in it says it takes."""
    size = linux.Image.read(piece.data, "", piece.size).size
    return piece._replace(size=max(size, piece.size))


def place(
    memory: GuestMemory,
    kernel: Kernel,
    cmdline: Cmdline,
    initrd: bytes | None = None,
    told: Told = Told(),  # noqa: B008  it cannot be changed
) -> CpuState:
    """Write kernel, initrd, device tree, and what else is told of the machine. Memory is taken to be
    zeroed."""
    start = memory.regions[0].base if kernel.floating else 0
    pieces = [one._replace(address=start + one.address) for one in kernel.pieces]
    if kernel.linux and len(cmdline) > CMDLINE_MAX:
        raise KernelError(
            f"{kernel.name}: it takes a command line of {CMDLINE_MAX} bytes; this one has {len(cmdline)}"
        )
    at = places(memory)
    end = lay_out(memory, kernel.name, pieces, (at.tree, at.end, "device tree and tables"))
    module = place_initrd(memory, initrd, end, at.tree) if initrd else None
    properties = chosen(cmdline, told.stdout, module, kernel.linux)
    if kernel.linux and told.acpi is not None:
        efi.write(memory, at, told.acpi(at.tables), told.time)
        properties |= efi.chosen(memory, at)
    blob = fdt.flatten(complete(told.tree, memory, properties))
    if len(blob) > UNIT:
        raise KernelError(
            f"{len(blob):#x} bytes of device tree; there is room for {UNIT:#x}: give fewer devices"
        )
    memory.write(at.tree, blob)
    return CpuState(start + kernel.entry, {"x0": at.tree})
