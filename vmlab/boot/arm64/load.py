"""Puts a kernel into guest memory and says how the first CPU starts: Linux' Image, and ELF files, which are
entered in the same way. Every kernel gets a device tree; a Linux also finds its ACPI tables by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.boot import fdt, image
from vmlab.boot.arm64 import efi, formats, linux
from vmlab.boot.arm64.layout import UNIT, Places, places
from vmlab.boot.elf import ELF_MAGIC, ET_DYN, ElfFile
from vmlab.boot.fdt import Node, cells, reg, text
from vmlab.boot.image import check_initrd
from vmlab.boot.payload import MAX_SIZE
from vmlab.boot.pieces import Piece, check_entry, pieces_of
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.core.safely import named
from vmlab.errors import KernelError

__all__ = ["Kernel", "Told", "check_files", "parse", "place", "read_image"]

#: bytes of command line that Linux takes (COMMAND_LINE_SIZE), without the NUL
CMDLINE_MAX = 2047


class Kernel(NamedTuple):
    """An image, taken apart. floating: its pieces' addresses are distances from the first byte of RAM."""

    name: str
    pieces: list[Piece]
    entry: int
    linux: bool = False
    floating: bool = False


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
    if elf.interpreted or elf.kind == ET_DYN:
        raise KernelError(
            f"{elf.name}: an ELF file without a way in: a program of an operating system, or one that can lie"
            " anywhere; link a kernel to fixed addresses"
        )
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
    _check_places(memory, kernel.name, pieces, at)
    for one in pieces:
        memory.write(one.address, one.data)
    end = max(one.end for one in pieces)
    module = _place_initrd(memory, initrd, end, at.tree) if initrd else None
    chosen = _chosen(cmdline, module, told, kernel.linux)
    if kernel.linux and told.acpi is not None:
        efi.write(memory, at, told.acpi(at.tables), told.time)
        chosen |= efi.chosen(memory, at)
    blob = fdt.flatten(_complete(told.tree, memory, chosen))
    if len(blob) > UNIT:
        raise KernelError(
            f"{len(blob):#x} bytes of device tree; there is room for {UNIT:#x}: give fewer devices"
        )
    memory.write(at.tree, blob)
    return CpuState(start + kernel.entry, {"x0": at.tree})


def _chosen(
    cmdline: Cmdline, module: tuple[int, int] | None, told: Told, linux: bool
) -> dict[str, bytes]:
    found = {"bootargs": text(str(cmdline))}
    if told.stdout:
        found["stdout-path"] = text(told.stdout)
    if module is not None:
        start, size = module
        found |= {"linux,initrd-start": reg(start), "linux,initrd-end": reg(start + size)}
    if linux:
        found |= {"kaslr-seed": os.urandom(8), "rng-seed": os.urandom(64)}
    return found


def _complete(tree: Node, memory: GuestMemory, chosen: dict[str, bytes]) -> Node:
    """With what the loader alone knows; what the tree says of the same stays beside it."""
    given = tree.child("chosen")
    rest = [one for one in tree.children if one is not given]
    if tree.child("memory") is None:
        ranges = [value for one in memory.regions for value in (one.base, one.size)]
        name = f"memory@{memory.regions[0].base:x}"
        rest.append(Node(name, {"device_type": text("memory"), "reg": reg(*ranges)}))
    before = given or Node("chosen")
    rest.append(Node("chosen", before.properties | chosen, before.children))
    cells_of = {"#address-cells": cells(2), "#size-cells": cells(2)}
    return Node("", cells_of | tree.properties, rest)


def _check_places(memory: GuestMemory, name: str, pieces: list[Piece], at: Places) -> None:
    """KernelError unless every piece lies in RAM, clear of the others and of what it is handed."""
    taken = [(at.tree, at.end - at.tree, "device tree and tables")]
    first = memory.regions[0].base
    for one in pieces:
        what = f"{name}: its segment {one.address:#x}-{one.end - 1:#x}"
        if one.address < first:
            raise KernelError(
                f"{what} lies below RAM, which begins at {first:#x} on this machine; link it there"
            )
        if memory.find(one.address, one.size) is None:
            raise KernelError(
                f"{what} does not fit the guest's memory of {memory.size >> 20} MiB; give it more"
                " (memory=...)"
            )
        for start, size, other in taken:
            if one.address < start + size and start < one.end:
                raise KernelError(
                    f"{what} would overwrite the {other} at {start:#x}: they overlap; give the guest more"
                    " memory (memory=...)"
                )
        taken.append((one.address, one.size, "segment"))


def _place_initrd(memory: GuestMemory, initrd: bytes, kernel_end: int, end: int) -> tuple[int, int]:
    """(address, size): on a page, as high as it goes below `end` in the last region."""
    region = memory.regions[-1]
    floor = kernel_end if region.base < kernel_end <= region.end else region.base
    start = (end - len(initrd)) & ~(PAGE - 1)
    if start < floor:
        raise KernelError(
            f"the initrd of {len(initrd):#x} bytes does not fit between {floor:#x}, where the kernel ends,"
            f" and {end:#x}; give the guest more memory"
        )
    memory.write(start, initrd)
    return start, len(initrd)
