"""What a RISC-V machine's kernels look like from outside, before they are taken apart."""

from __future__ import annotations

from vmlab.boot.elf import EM_RISCV, Target, other
from vmlab.boot.riscv import linux

__all__ = ["TARGETS", "guess", "is_kernel"]

TARGETS = {bits: Target(f"riscv{bits}", (EM_RISCV,)) for bits in (64, 32)}


def is_kernel(first: bytes | bytearray) -> bool:
    """Whether a file that begins so, and is no ELF file, may be a kernel."""
    return linux.is_image(first)


def guess(image: bytes | bytearray, target: Target) -> str:
    """What a file that is no ELF seems to be, and what to do."""
    if image[0x202:0x206] == b"HdrS":
        return f"a bzImage {other('x86_64', target)}"
    if image[0x38:0x3C] == b"ARM\x64":
        return f"a Linux Image {other('arm64', target)}"
    if image[:2] == b"MZ":
        return "a PE/EFI program; this machine boots Linux Images and ELF files for RISC-V"
    if image[:2] == b"#!":
        return "a script, not a kernel"
    return "neither a Linux Image nor an ELF file; link a kernel as ELF: its addresses say where it goes"
