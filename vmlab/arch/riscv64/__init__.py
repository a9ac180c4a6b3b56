"""64-bit RISC-V: the windows and lines of libkrun's manager."""

from __future__ import annotations

from vmlab.arch.api import OnlyWindows, Windows

__all__ = ["ARCH"]

ARCH = OnlyWindows("riscv64", Windows(0x0A00_0000, (0, 1023), last_irq=1023))
