"""How an arm64 CPU starts: what a loader says and an engine does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["CpuState"]


class CpuState(NamedTuple):
    """At EL1 with its own stack pointer, MMU off, interrupts masked; `regs`: x0 to x30 and sp."""

    pc: int
    regs: Mapping[str, int] = {}

    @property
    def start(self) -> int:
        return self.pc
