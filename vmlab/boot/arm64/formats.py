"""What an arm64 machine's kernels look like from outside, before they are taken apart."""

from __future__ import annotations

from vmlab.boot.arm64 import linux
from vmlab.boot.elf import EM_AARCH64, Target, other

__all__ = ["TARGET", "guess", "is_kernel"]

TARGET = Target("arm64", (EM_AARCH64,))
_BOOTS = "this machine boots Linux Images and ELF files for arm64"


def is_kernel(first: bytes | bytearray) -> bool:
    """Whether a file that begins so, and is no ELF file, may be a kernel."""
    return linux.is_image(first)


def guess(image: bytes | bytearray) -> str:
    """What a file that is no ELF seems to be, and what to do."""
    if image[0x202:0x206] == b"HdrS":
        return f"a bzImage {other('x86_64', TARGET)}"
    if image[0x30:0x38] == b"RISCV\0\0\0":
        return f"a Linux Image {other('riscv64', TARGET)}"
    if image[4:8] == b"zimg" and image[:2] == b"MZ":
        return "an EFI application with a compressed kernel in it (vmlinuz.efi); give the Image"
    if image[:2] == b"MZ":
        return f"a PE/EFI program; {_BOOTS}"
    if image[:2] == b"#!":
        return "a script, not a kernel"
    return f"neither a Linux Image nor an ELF file; {_BOOTS}"
