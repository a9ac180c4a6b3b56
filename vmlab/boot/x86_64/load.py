"""Puts a kernel into guest memory and says how the first CPU starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vmlab.arch.x86_64 import HIGH_RAM_START, LOW_RAM_END
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot import image, payload
from vmlab.boot.elf import ELF_MAGIC, EM_X86_64, ET_DYN, ElfFile
from vmlab.boot.image import check_initrd
from vmlab.boot.payload import MAX_SIZE
from vmlab.boot.pieces import Piece, check_entry, outside, pieces_of
from vmlab.boot.x86_64 import bios, formats, linux, multiboot, pvh
from vmlab.boot.x86_64.layout import (
    BIOS_DATA,
    BIOS_DATA_SIZE,
    BOOT_INFO,
    CMDLINE,
    CMDLINE_ROOM,
    EBDA,
    EBDA_SIZE,
    FIRMWARE,
    FIRMWARE_SIZE,
    ROMS,
    ROMS_END,
    STACK,
    TABLES,
    TABLES_ROOM,
)
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.core.safely import named
from vmlab.errors import KernelError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Kernel", "Told", "check", "check_files", "load", "parse", "place", "read_image"]

#: below lie boot data, adapters and firmware
FIRST_MIB = 0x10_0000
#: entries lie where the CPU can be sent: 32-bit code, or what is mapped
_ENTRY_END = 1 << 32
_BOOT_DATA = "boot data"
#: EI_OSABI of programs that Linux alone runs
_ELFOSABI_LINUX = 3


class Entry(Protocol):
    """A way into a kernel: what `prepare` writes, and how the CPU then starts."""

    @property
    def address(self) -> int: ...

    def prepare(
        self, memory: GuestMemory, cmdline: bool, module: tuple[int, int] | None, rsdp: int = 0
    ) -> CpuState: ...


class Kernel(NamedTuple):
    """An image, taken apart. linux: what only Linux wants; cmdline_max: bytes without the NUL; argv0: what
    precedes its command line; taken: (address, size) that `entry` writes to beside BOOT_INFO; warning:
    what it asks for and does not get; screen: a PC's text screen is part of what it expects."""

    name: str
    pieces: list[Piece]
    entry: Entry
    linux: bool = False
    initrd_max: int = 0xFFFF_FFFF
    cmdline_max: int = CMDLINE_ROOM - 1
    argv0: str = ""
    taken: Sequence[tuple[int, int]] = ()
    warning: str = ""
    screen: bool = False


class Told(NamedTuple):
    """What a guest finds in memory of the machine: ACPI tables, made for `layout.TABLES`, where the root
    pointer comes first; a multiprocessor table (`bios.mp_table`); the port of the first serial line; whether
    there is a text screen."""

    acpi: bytes = b""
    mp: bytes = b""
    com1: int = 0
    screen: bool = False


def read_image(path: str | Path, limit: int = MAX_SIZE) -> bytes:
    """A kernel's bytes; see `boot.image.read_image`."""
    return image.read_image(path, formats, limit=limit)


def check_files(kernel: str, initrd: str | None, memory: int) -> str:
    """KernelError when a machine with `memory` bytes cannot boot them, as far as that can be told quickly.
    What it would do without: a sentence, or ""."""
    warning = check(read_image(kernel, limit=memory), kernel)
    if initrd is not None:
        check_initrd(initrd, memory)
    return warning


def check(data: bytes, name: str) -> str:
    """KernelError when this machine cannot boot the image `data`; quick: nothing is unpacked but its first
    bytes. What it would do without: a sentence, or ""."""
    name = named(name)
    first, size = image.beginning(data, name)
    if linux.is_bzimage(first):
        linux.BzImage(first, name, size)
        return ""
    if size is not None and first[:4] == ELF_MAGIC:
        ElfFile(first, name, formats.TARGET, size)
        return ""
    return _from_whole(first, name).warning


def parse(data: bytes, name: str, limit: int = MAX_SIZE) -> Kernel:
    """The image taken apart; KernelError when this machine cannot boot it. limit: bytes that it may unpack
    to."""
    said = named(name)
    whole = image.unwrap(data, said, formats, limit)
    if linux.is_bzimage(whole):
        return _from_bzimage(linux.BzImage(whole, said), min(limit, MAX_SIZE))
    kernel = _from_whole(whole, said)
    return kernel._replace(argv0=name) if kernel.argv0 else kernel


def _from_bzimage(bzimage: linux.BzImage, limit: int) -> Kernel:
    """The vmlinux inside: unpacked here, it starts sooner than when the guest does it. What cannot be
    unpacked here starts at the image's own entry."""
    entry: Entry | None
    try:
        data = payload.unpack(bzimage.payload, bzimage.name, _elf_extent, limit)
        elf = ElfFile(data, bzimage.name, formats.TARGET)
        pieces = pieces_of(elf)
        entry = pvh.find_entry(elf) or linux.Entry(
            elf.to_physical(elf.entry), bzimage.header, elf.bits
        )
    except payload.NoDecompressor:
        address, code, size, own = bzimage.own_entry()
        entry = own if bzimage.is_linux else own._replace(stack=STACK)
        pieces = [Piece(address, code, size)]
    return _linux(bzimage.name, pieces, entry)._replace(
        linux=bzimage.is_linux,
        initrd_max=bzimage.initrd_max,
        cmdline_max=min(bzimage.cmdline_max, CMDLINE_ROOM - 1),
    )


def _elf_extent(data: bytearray, name: str) -> int:
    if data[:4] != ELF_MAGIC:
        raise KernelError(f"{name}: its payload holds no ELF file")
    return ElfFile(data, name, formats.TARGET, 1 << 64).extent


def _from_whole(data: bytes | bytearray, name: str) -> Kernel:
    """An image that is neither compressed nor a bzImage."""
    header = multiboot.find(data)
    if data[:4] != ELF_MAGIC:
        if header is None or not header.has_addresses:
            raise KernelError(f"{name}: {formats.guess(data)}")
        return _from_multiboot(name, header, memoryview(data), None)
    elf = ElfFile(data, name, formats.TARGET)
    if (entry := pvh.find_entry(elf)) is not None:
        check_entry(elf, entry.address)
        if linux.is_linux(elf):
            return _linux(name, pieces_of(elf), entry)
        return Kernel(name, pieces_of(elf), entry)
    if header is not None:
        return _from_multiboot(name, header, elf.data, elf)
    return _from_plain(elf)


def _from_multiboot(
    name: str, header: multiboot.Header, data: memoryview, elf: ElfFile | None
) -> Kernel:
    """Its address fields say where it goes; without them the ELF file does."""
    header.check(name)
    if elf is None or header.has_addresses:
        loaded = header.loaded(data, name)
        pieces, address = [Piece(*loaded[:3])], loaded.entry
        inside = loaded.address <= address < loaded.address + loaded.size
        if not inside:
            raise outside(name, address)
    else:
        pieces, address = pieces_of(elf), elf.to_physical(elf.entry)
        check_entry(elf, address)
    entry = multiboot.Entry(address, header.wants_text)
    return Kernel(name, pieces, entry, argv0=name, warning=header.warning(), screen=True)


def _from_plain(elf: ElfFile) -> Kernel:
    """An ELF file without a boot protocol's mark: a vmlinux, or a 64-bit kernel that is entered like one, as
    Firecracker does."""
    if elf.kind == ET_DYN:
        from vmlab.linux import krunfw  # only here: few machines need it

        bundle = krunfw.find(elf.data, elf.name)
        if bundle is not None:
            piece = Piece(bundle.load, bundle.image, len(bundle.image))
            return _linux(elf.name, [piece], linux.Entry(bundle.entry))
    if multiboot.is_second(elf.data):
        raise KernelError(f"{elf.name}: {formats.SECOND}")
    why = _no_kernel(elf)
    if why:
        raise KernelError(
            f"{elf.name}: an ELF file without a way in: {why}, with neither a PVH note (Xen, type 18) nor a"
            " multiboot 1 header"
        )
    address = elf.to_physical(elf.entry)
    check_entry(elf, address)
    if linux.is_linux(elf):
        return _linux(elf.name, pieces_of(elf), linux.Entry(address))
    entry = linux.Entry(address, stack=STACK)
    return Kernel(elf.name, pieces_of(elf), entry, taken=entry.taken, screen=True)


def _no_kernel(elf: ElfFile) -> str:
    """Why a 64-bit entry makes no sense; "" where it does."""
    if elf.interpreted:
        return "a program of an operating system (it names an interpreter)"
    if elf.kind == ET_DYN:
        return "a shared library or a program that can lie anywhere"
    if elf.data[7] == _ELFOSABI_LINUX:
        return "a program for Linux"
    if elf.machine != EM_X86_64:
        return "32-bit code"
    return ""


def _linux(name: str, pieces: list[Piece], entry: Entry) -> Kernel:
    taken = [(FIRMWARE, FIRMWARE_SIZE)]
    if isinstance(entry, linux.Entry):
        taken += entry.taken
    return Kernel(name, pieces, entry, True, linux.INITRD_MAX, linux.CMDLINE_MAX, "", taken)


def load(
    memory: GuestMemory, data: bytes, name: str, cmdline: Cmdline, initrd: bytes | None = None
) -> CpuState:
    """`parse` and `place`."""
    return place(memory, parse(data, name, memory.size), cmdline, initrd)


def place(
    memory: GuestMemory,
    kernel: Kernel,
    cmdline: Cmdline,
    initrd: bytes | None = None,
    told: Told = Told(),  # noqa: B008  it cannot be changed
) -> CpuState:
    """Write kernel, initrd, command line, what is told of the machine, and boot information. Memory is taken
    to be zeroed."""
    _check_places(memory, kernel)
    if len(cmdline) > kernel.cmdline_max:
        raise KernelError(
            f"{kernel.name}: it takes a command line of {kernel.cmdline_max} bytes; this one has"
            f" {len(cmdline)}"
        )
    if len(told.acpi) > TABLES_ROOM - PAGE:
        raise KernelError(
            f"{len(told.acpi):#x} bytes of ACPI tables; there is room for {TABLES_ROOM:#x}"
        )
    for one in kernel.pieces:
        memory.write(one.address, one.data)
    low = memory.regions[0]
    end = max((one.end for one in kernel.pieces if one.address < low.end), default=0)
    module = _place_initrd(memory, initrd, end, kernel.initrd_max) if initrd else None
    line = _command_line(kernel, cmdline)
    memory.write(CMDLINE, line)
    memory.write(TABLES, told.acpi)
    bios.write(memory, told.com1, told.mp, told.screen)
    state = kernel.entry.prepare(memory, len(line) > 1, module, TABLES if told.acpi else 0)
    return linux.firmware(memory, state) if kernel.linux else state


def _command_line(kernel: Kernel, cmdline: Cmdline) -> bytes:
    """With its NUL. As QEMU and boot loaders do, a multiboot kernel's begins with the image's name: with its
    last part where the whole leaves no room."""
    line = cmdline.to_bytes(CMDLINE_ROOM)
    for name in (kernel.argv0, os.path.basename(kernel.argv0)):
        first = name.encode(errors="surrogateescape") + b" "
        if name and len(first) + len(line) <= CMDLINE_ROOM:
            return first + line
    return line


def _check_places(memory: GuestMemory, kernel: Kernel) -> None:
    """KernelError unless the kernel can be entered and every piece lies in RAM, clear of boot data and of the
    others."""
    if kernel.entry.address >= _ENTRY_END:
        raise KernelError(
            f"{kernel.name}: its entry {kernel.entry.address:#x} is above 4 GiB, where no CPU starts"
        )
    taken = [
        (BOOT_INFO, PAGE, _BOOT_DATA),
        (CMDLINE, CMDLINE_ROOM, _BOOT_DATA),
        (BIOS_DATA, BIOS_DATA_SIZE, "BIOS data area"),
        (EBDA, EBDA_SIZE, "extended BIOS data area"),
        *((start, size, _BOOT_DATA) for start, size in kernel.taken),
    ]
    for one in kernel.pieces:
        _check_ram(memory, kernel.name, one)
        for start, size, what in taken:
            if one.address < start + size and start < one.end:
                raise KernelError(
                    f"{kernel.name}: its segment at {one.address:#x} would overwrite the {what} at"
                    f" {start:#x}: they overlap"
                )
        taken.append((one.address, one.size, "segment"))


def _check_ram(memory: GuestMemory, name: str, one: Piece) -> None:
    """KernelError, which says what there is instead, unless the piece lies in RAM."""
    what = f"{name}: its segment {one.address:#x}-{one.end - 1:#x}"
    for start, end in ((ROMS, ROMS_END), (LOW_RAM_END, HIGH_RAM_START)):
        # what begins below the devices and runs into them is rather too large
        if start <= one.address < end or one.address < ROMS == start < one.end:
            raise KernelError(
                f"{what} is a ROM segment: at {start:#x}-{end - 1:#x} a PC has adapters and firmware, not"
                " RAM; link it elsewhere (kernels begin at 1 MiB)"
            )
    if memory.find(one.address, one.size) is None:
        raise KernelError(
            f"{what} does not fit the guest's memory of {memory.size >> 20} MiB; give it more"
            " (memory=...)"
        )


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
