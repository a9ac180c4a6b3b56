"""How a RISC-V machine's harts start: what a loader says and an engine does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vmlab.arch.riscv64 import platform

__all__ = ["CpuState"]


class CpuState(NamedTuple):
    """supervisor: hart 0 alone, in S mode, with the firmware's calls answered by the machine; else every hart
    starts, in M mode. a0 holds the hart's number; `regs`: x0 to x31 beside that. uart: where the 16550
    lies on which such calls write."""

    pc: int
    supervisor: bool = False
    regs: Mapping[str, int] = {}
    uart: int = platform.UART_BASE

    @property
    def start(self) -> int:
        return self.pc
