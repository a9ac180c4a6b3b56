"""`LinuxKernel`: a kernel and all that its boot takes."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

__all__ = ["LinuxKernel"]


class LinuxKernel(Struct, frozen=True):
    """A kernel with what it needs: give it to VM(kernel=...). memory: what it is comfortable with; slots:
    windows to be named on its command line, for one without ACPI; origin: where it came from, in words."""

    kernel: Path
    initrd: Path
    cmdline: str
    memory: str = "256M"
    source: str = "debian"
    origin: str = ""
    slots: int = 0

    def __fspath__(self) -> str:
        return str(self.kernel)
