"""Puts a kernel into guest memory and says how the first CPU starts."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple, Protocol

from vmlab.boot import linux, multiboot, payload, pvh
from vmlab.boot.elf import ELF_MAGIC, ElfFile
from vmlab.boot.layout import (
    BOOT_INFO,
    CMDLINE,
    CMDLINE_ROOM,
    PAGE_TABLES,
    PAGE_TABLES_SIZE,
    TABLES,
    TABLES_ROOM,
)
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.core.start import CpuState
from vmlab.errors import KernelError

__all__ = ["Kernel", "check", "load", "parse", "place", "read_image"]

#: below lie boot data, adapters and firmware
FIRST_MIB = 0x10_0000
_ET_DYN = 3
_KRUNFW = b"krunfw_get_kernel\0"


class Entry(Protocol):
    """A way into a kernel: what `prepare` writes, and how the CPU then starts."""

    @property
    def address(self) -> int: ...

    def prepare(
        self, memory: GuestMemory, cmdline: bool, module: tuple[int, int] | None, rsdp: int = 0
    ) -> CpuState: ...


class Piece(NamedTuple):
    """Bytes for guest-physical `address`; `size` of memory, zero behind the bytes."""

    address: int
    data: bytes | memoryview
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


class Kernel(NamedTuple):
    """An image, taken apart. linux: it wants ACPI tables; cmdline_max: bytes without the NUL."""

    name: str
    pieces: list[Piece]
    entry: Entry
    linux: bool = False
    initrd_max: int = 0xFFFF_FFFF
    cmdline_max: int = CMDLINE_ROOM - 1


def read_image(path: str | Path, what: str = "kernel") -> bytes:
    """The file's bytes; KernelError in words when it cannot be read."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise KernelError(f"{what} {str(path)!r}: no such file") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise KernelError(f"{what} {str(path)!r}: {why}") from error
    if not data:
        raise KernelError(f"{what} {str(path)!r} is empty")
    return data


def check(image: bytes, name: str) -> None:
    """KernelError when this machine cannot boot `image`; quick: nothing is unpacked."""
    if linux.is_bzimage(image):
        linux.BzImage(image, name)
    elif not _is_krunfw(image):
        _from_elf(image, name)


def parse(image: bytes, name: str) -> Kernel:
    """The image taken apart; KernelError when this machine cannot boot it."""
    if linux.is_bzimage(image):
        return _from_bzimage(linux.BzImage(image, name))
    if _is_krunfw(image):
        from vmlab.linux import krun  # only here: few machines need it

        address, start, raw = krun.extract(name)
        return _linux(name, [Piece(address, raw, len(raw))], linux.Entry(start))
    return _from_elf(image, name)


def _from_bzimage(image: linux.BzImage) -> Kernel:
    """The vmlinux inside: unpacked here, it starts sooner than when the guest does it. What cannot be
    unpacked here starts at the image's own entry."""
    entry: Entry | None
    try:
        elf = ElfFile(payload.unpack(image.payload, image.name), image.name)
        pieces = _pieces(elf)
        entry = pvh.find_entry(elf) or linux.Entry(elf.to_physical(elf.entry), image.header)
    except payload.NoDecompressor:
        address, code, size, entry = image.own_entry()
        pieces = [Piece(address, code, size)]
    return _linux(image.name, pieces, entry)._replace(
        initrd_max=image.initrd_max, cmdline_max=min(image.cmdline_max, CMDLINE_ROOM - 1)
    )


def _from_elf(image: bytes, name: str) -> Kernel:
    if image[:4] != ELF_MAGIC:
        raise KernelError(f"{name}: {_guess(image)}")
    elf = ElfFile(image, name)
    vmlinux = linux.is_linux(elf)
    entry: Entry | None = pvh.find_entry(elf) or multiboot.find_entry(elf)
    if entry is None and vmlinux:
        entry = linux.Entry(elf.to_physical(elf.entry))
    if entry is None:
        raise KernelError(
            f"{name}: an ELF file without a way in: neither a PVH note (Xen, type 18) nor a multiboot 1"
            " header, and no x86_64 vmlinux"
        )
    if not any(one.paddr <= entry.address < one.paddr + one.memory_size for one in elf.segments):
        raise KernelError(f"{name}: its entry {entry.address:#x} lies outside what it loads")
    return _linux(name, _pieces(elf), entry) if vmlinux else Kernel(name, _pieces(elf), entry)


def _linux(name: str, pieces: list[Piece], entry: Entry) -> Kernel:
    return Kernel(name, pieces, entry, True, linux.INITRD_MAX, linux.CMDLINE_MAX)


def _pieces(elf: ElfFile) -> list[Piece]:
    return [
        Piece(one.paddr, elf.data[one.offset : one.offset + one.file_size], one.memory_size)
        for one in elf.segments
    ]


def _is_krunfw(image: bytes) -> bool:
    """A shared library (e_type) that exports libkrunfw's function."""
    return image[:4] == ELF_MAGIC and image[16:17] == bytes([_ET_DYN]) and _KRUNFW in image


def load(
    memory: GuestMemory, image: bytes, name: str, cmdline: Cmdline, initrd: bytes | None = None
) -> CpuState:
    """`parse` and `place`."""
    return place(memory, parse(image, name), cmdline, initrd)


def place(
    memory: GuestMemory,
    kernel: Kernel,
    cmdline: Cmdline,
    initrd: bytes | None = None,
    tables: bytes = b"",
) -> CpuState:
    """Write kernel, initrd, command line and boot information. Memory is taken to be zeroed.

    tables: ACPI tables, made for the address `layout.TABLES`, where the root pointer comes first."""
    _check_places(memory, kernel)
    if len(cmdline) > kernel.cmdline_max:
        raise KernelError(
            f"{kernel.name}: it takes a command line of {kernel.cmdline_max} bytes; this one has"
            f" {len(cmdline)}"
        )
    if len(tables) > TABLES_ROOM - PAGE:
        raise KernelError(
            f"{len(tables):#x} bytes of ACPI tables; there is room for {TABLES_ROOM:#x}"
        )
    for one in kernel.pieces:
        memory.write(one.address, one.data)
    low = memory.regions[0]
    end = max((one.end for one in kernel.pieces if one.address < low.end), default=0)
    module = _place_initrd(memory, initrd, end, kernel.initrd_max) if initrd else None
    memory.write(CMDLINE, cmdline.to_bytes(CMDLINE_ROOM))
    if tables:
        memory.write(TABLES, tables)
    state = kernel.entry.prepare(memory, len(cmdline) > 0, module, TABLES if tables else 0)
    return linux.firmware(memory, state) if kernel.linux else state


def _check_places(memory: GuestMemory, kernel: Kernel) -> None:
    """KernelError unless every piece lies in RAM, clear of boot data and of the others."""
    taken = [(BOOT_INFO, PAGE, "boot data"), (CMDLINE, CMDLINE_ROOM, "boot data")]
    if kernel.linux:
        taken.append((PAGE_TABLES, PAGE_TABLES_SIZE, "boot data"))
    for one in kernel.pieces:
        if memory.find(one.address, one.size) is None:
            raise KernelError(
                f"{kernel.name}: its segment {one.address:#x}-{one.end - 1:#x} does not fit the guest's"
                f" memory of {memory.size >> 20} MiB; give it more (memory=...)"
            )
        for start, size, what in taken:
            if one.address < start + size and start < one.end:
                raise KernelError(
                    f"{kernel.name}: its segment at {one.address:#x} would overwrite the {what} at"
                    f" {start:#x}: they overlap"
                )
        taken.append((one.address, one.size, "segment"))


def _place_initrd(
    memory: GuestMemory, initrd: bytes, kernel_end: int, highest: int
) -> tuple[int, int]:
    """(address, size): on a page, as high as it goes below 4 GiB and `highest`, above the kernel and
    1 MiB."""
    low, floor = memory.regions[0], max(kernel_end, FIRST_MIB)
    start = (min(low.end, highest + 1) - len(initrd)) & ~(PAGE - 1)
    if start < floor:
        raise KernelError(
            f"the initrd of {len(initrd):#x} bytes does not fit between {floor:#x}, where the kernel"
            f" ends, and the end of low memory at {min(low.end, highest + 1):#x}; give the guest more"
            " memory"
        )
    memory.write(start, initrd)
    return start, len(initrd)


def _guess(image: bytes) -> str:
    """What a file that is no ELF seems to be, and what to do."""
    if len(image) > 0x3C and struct.unpack_from("<I", image, 0x38)[0] == 0x644D_5241:
        return "an arm64 Linux Image; this machine is x86_64"
    if image[:2] == b"\x1f\x8b":
        return "gzip data; unpack it first"
    if image[:2] == b"MZ":
        return "a PE/EFI program; this machine boots Linux, PVH and multiboot 1 images"
    if image[:2] == b"#!":
        return "a script, not a kernel"
    return "not an ELF file; this machine boots Linux, PVH and multiboot 1 images"
