"""RISC-V of 32 bits: the machine of `riscv64` with harts of that size."""

from __future__ import annotations

from vmlab.arch.api import OnlyWindows
from vmlab.arch.riscv64 import KRUN_WINDOWS, Virt

__all__ = ["ARCH", "BOARDS"]

ARCH = OnlyWindows("riscv32", KRUN_WINDOWS)
BOARDS = {"virt": Virt(32)}
