"""How a CPU starts: what a loader says and an engine does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

__all__ = ["CpuState"]


class CpuState(NamedTuple):
    """How a vCPU starts.

    mode: "real" (reset state but for CS:IP, base = rip & ~0xffff), "protected" (32-bit, paging off,
    flat segments: the PVH and multiboot entry), "long" (64-bit, paging through `cr3`, flat segments); arm64:
    "el1" (EL1 with its own stack pointer, MMU off, interrupts masked; `rip` is its pc).
    `gdt` is (base, limit) of a GDT already in guest memory that has the mode's code and data segment at
    `selectors`; (0, 0) leaves GDTR empty and only the hidden segment state is set.
    selectors: what CS and the data segment registers hold.
    """

    mode: Literal["real", "protected", "long", "el1"]
    rip: int
    regs: Mapping[str, int] = {}
    cr3: int = 0
    gdt: tuple[int, int] = (0, 0)
    selectors: tuple[int, int] = (0x10, 0x18)

    @property
    def start(self) -> int:
        return self.rip
