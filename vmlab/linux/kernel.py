"""`LinuxKernel`: a kernel and all that its boot takes."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from vmlab.arch import DEFAULT

__all__ = ["LinuxKernel"]


class LinuxKernel(Struct, frozen=True):
    """A kernel with what it needs: give it to VM(kernel=...). memory: what it is comfortable with; slots:
    windows to be named to it beforehand, for one without ACPI; origin: where it came from, in words; arch:
    the machine's that it runs on."""

    kernel: Path
    initrd: Path
    cmdline: str
    memory: str = "256M"
    source: str = "debian"
    origin: str = ""
    slots: int = 0
    arch: str = DEFAULT

    def __fspath__(self) -> str:
        return str(self.kernel)
