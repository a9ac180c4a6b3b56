"""What loading a kernel that finds a device tree is on every processor: its places, its initrd, /memory and
/chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from vmlab.boot.elf import ET_DYN, ElfFile
from vmlab.boot.fdt import Node, cells, reg, text
from vmlab.boot.pieces import Piece
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.errors import KernelError

__all__ = ["Kernel", "check_linked", "chosen", "complete", "lay_out", "place_initrd"]


class Kernel(NamedTuple):
    """An image, taken apart. floating: its pieces' addresses are distances from the first byte of RAM."""

    name: str
    pieces: list[Piece]
    entry: int
    linux: bool = False
    floating: bool = False


def check_linked(elf: ElfFile) -> None:
    """KernelError unless it is a kernel of its own at fixed addresses."""
    if elf.interpreted or elf.kind == ET_DYN:
        raise KernelError(
            f"{elf.name}: an ELF file without a way in: a program of an operating system, or one that can lie"
            " anywhere; link a kernel to fixed addresses"
        )


def lay_out(
    memory: GuestMemory, name: str, pieces: Sequence[Piece], handed: tuple[int, int, str]
) -> int:
    """Write the pieces -> where the last one ends. handed: (start, end, what) of what the kernel is handed.

    KernelError unless every piece lies in RAM, clear of the others and of that."""
    start, end, what = handed
    taken = [(start, end - start, what)]
    first = memory.regions[0].base
    for one in pieces:
        segment = f"{name}: its segment {one.address:#x}-{one.end - 1:#x}"
        if one.address < first:
            raise KernelError(
                f"{segment} lies below RAM, which begins at {first:#x} on this machine; link it there"
            )
        if memory.find(one.address, one.size) is None:
            raise KernelError(
                f"{segment} does not fit the guest's memory of {memory.size >> 20} MiB; give it more"
                " (memory=...)"
            )
        for at, size, other in taken:
            if one.address < at + size and at < one.end:
                raise KernelError(
                    f"{segment} would overwrite the {other} at {at:#x}: they overlap; give the guest more"
                    " memory (memory=...)"
                )
        taken.append((one.address, one.size, "segment"))
    for one in pieces:
        memory.write(one.address, one.data)
    return max(one.end for one in pieces)


def place_initrd(memory: GuestMemory, initrd: bytes, kernel_end: int, end: int) -> tuple[int, int]:
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


def chosen(
    cmdline: Cmdline, stdout: str, initrd: tuple[int, int] | None, linux: bool
) -> dict[str, bytes]:
    """Properties of /chosen. stdout: the path of the serial port; initrd: what `place_initrd` says."""
    found = {"bootargs": text(str(cmdline))}
    if stdout:
        found["stdout-path"] = text(stdout)
    if initrd is not None:
        start, size = initrd
        found |= {"linux,initrd-start": reg(start), "linux,initrd-end": reg(start + size)}
    if linux:
        found |= {"kaslr-seed": os.urandom(8), "rng-seed": os.urandom(64)}
    return found


def complete(tree: Node, memory: GuestMemory, properties: dict[str, bytes]) -> Node:
    """With what the loader alone knows; what the tree says of the same stays beside it. properties: of
    /chosen."""
    given = tree.child("chosen")
    rest = [one for one in tree.children if one is not given]
    if tree.child("memory") is None:
        ranges = [value for one in memory.regions for value in (one.base, one.size)]
        name = f"memory@{memory.regions[0].base:x}"
        rest.append(Node(name, {"device_type": text("memory"), "reg": reg(*ranges)}))
    before = given or Node("chosen")
    rest.append(Node("chosen", before.properties | properties, before.children))
    cells_of = {"#address-cells": cells(2), "#size-cells": cells(2)}
    return Node("", cells_of | tree.properties, rest)
