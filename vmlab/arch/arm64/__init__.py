"""64-bit ARM: the windows and lines of libkrun's manager. The first device is one window above the base."""

from __future__ import annotations

from vmlab.arch.api import OnlyWindows, Windows

__all__ = ["ARCH"]

ARCH = OnlyWindows("arm64", Windows(0x0A00_0000, (32, 159), last_irq=1019, skip=1))
