"""Puts a kernel into guest memory and says how the first CPU starts."""

from __future__ import annotations

import struct
from pathlib import Path

from vmlab.boot import multiboot, pvh
from vmlab.boot.elf import ELF_MAGIC, ElfFile
from vmlab.boot.layout import BOOT_INFO, CMDLINE, CMDLINE_ROOM
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.core.start import CpuState
from vmlab.errors import KernelError

__all__ = ["check", "load", "read_image"]

#: below lie boot data, adapters and firmware
FIRST_MIB = 0x10_0000


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


def check(image: bytes, name: str) -> tuple[ElfFile, pvh.Entry | multiboot.Entry]:
    """The parsed image and its way in; KernelError when this machine cannot boot it."""
    if image[:4] != ELF_MAGIC:
        raise KernelError(f"{name}: {_guess(image)}")
    elf = ElfFile(image, name)
    entry = pvh.find_entry(elf) or multiboot.find_entry(elf)
    if entry is None:
        raise KernelError(
            f"{name}: an ELF file without a way in: neither a PVH note (Xen, type 18) nor a multiboot 1"
            " header"
        )
    if not any(one.paddr <= entry.address < one.paddr + one.memory_size for one in elf.segments):
        raise KernelError(f"{name}: its entry {entry.address:#x} lies outside what it loads")
    return elf, entry


def load(
    memory: GuestMemory, image: bytes, name: str, cmdline: Cmdline, initrd: bytes | None = None
) -> CpuState:
    """Place image, initrd, command line and boot information. Memory is taken to be zeroed."""
    elf, entry = check(image, name)
    _check_places(memory, elf)
    for one in elf.segments:
        memory.write(one.paddr, elf.data[one.offset : one.offset + one.file_size])
    low = memory.regions[0]
    end = max((one.end for one in elf.segments if one.paddr < low.end), default=0)
    module = _place_initrd(memory, initrd, end) if initrd else None
    memory.write(CMDLINE, cmdline.to_bytes(CMDLINE_ROOM))
    return entry.prepare(memory, len(cmdline) > 0, module)


def _check_places(memory: GuestMemory, elf: ElfFile) -> None:
    """KernelError unless every segment lies in RAM, clear of boot data and of the others."""
    taken = [(BOOT_INFO, PAGE, "boot data"), (CMDLINE, CMDLINE_ROOM, "boot data")]
    for one in elf.segments:
        if memory.find(one.paddr, one.memory_size) is None:
            raise KernelError(
                f"{elf.name}: its segment {one.paddr:#x}-{one.end - 1:#x} does not fit the guest's"
                f" memory of {memory.size >> 20} MiB; give it more (memory=...)"
            )
        for start, size, what in taken:
            if one.paddr < start + size and start < one.end:
                raise KernelError(
                    f"{elf.name}: its segment at {one.paddr:#x} would overwrite the {what} at"
                    f" {start:#x}: they overlap"
                )
        taken.append((one.paddr, one.memory_size, "segment"))


def _place_initrd(memory: GuestMemory, initrd: bytes, kernel_end: int) -> tuple[int, int]:
    """(address, size): as high as it goes below 4 GiB, on a page, above the kernel and 1 MiB."""
    low, floor = memory.regions[0], max(kernel_end, FIRST_MIB)
    start = (low.end - len(initrd)) & ~(PAGE - 1)
    if start < floor:
        raise KernelError(
            f"the initrd of {len(initrd):#x} bytes does not fit between {floor:#x}, where the kernel"
            f" ends, and the end of low memory at {low.end:#x}; give the guest more memory"
        )
    memory.write(start, initrd)
    return start, len(initrd)


def _guess(image: bytes) -> str:
    """What a file that is no ELF seems to be, and what to do."""
    if len(image) > 0x206 and image[0x202:0x206] == b"HdrS":
        return (
            "a Linux bzImage; this version boots PVH and multiboot 1 ELF images (try the vmlinux)"
        )
    if len(image) > 0x3C and struct.unpack_from("<I", image, 0x38)[0] == 0x644D_5241:
        return "an arm64 Linux Image; this machine is x86_64"
    if image[:2] == b"\x1f\x8b":
        return "gzip data; unpack it first"
    if image[:2] == b"MZ":
        return "a PE/EFI program; this machine boots PVH and multiboot 1 ELF images"
    if image[:2] == b"#!":
        return "a script, not a kernel"
    return "not an ELF file; this machine boots PVH and multiboot 1 ELF images"
