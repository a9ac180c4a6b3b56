"""What a PC's kernels look like from outside, before they are taken apart."""

from __future__ import annotations

from vmlab.boot.elf import EM_386, EM_X86_64, Target, other
from vmlab.boot.x86_64 import linux, multiboot

__all__ = ["SECOND", "TARGET", "guess", "is_kernel"]

TARGET = Target("x86_64", (EM_386, EM_X86_64))

SECOND = "an image for multiboot 2; this machine boots Linux, PVH and multiboot 1 images"


def is_kernel(first: bytes | bytearray) -> bool:
    """Whether a file that begins so, and is no ELF file, may be a kernel."""
    return linux.is_bzimage(first) or multiboot.is_flat(first)


def guess(image: bytes | bytearray) -> str:
    """What a file that is no ELF seems to be, and what to do."""
    if image[0x38:0x3C] == b"ARM\x64":
        return f"a Linux Image {other('arm64', TARGET)}"
    if multiboot.is_second(image):
        return SECOND
    if image[:2] == b"MZ":
        return "a PE/EFI program; this machine boots Linux, PVH and multiboot 1 images"
    if image[:2] == b"#!":
        return "a script, not a kernel"
    if image[0x1FE:0x200] == b"\x55\xaa":
        return "a boot sector or a disk image, for a BIOS; this machine boots kernels without one"
    return "not an ELF file; this machine boots Linux, PVH and multiboot 1 images"
