"""The kinds of exits that this engine has, by KVM's numbers (`KVM_EXIT_*`): one table for both engines."""

from __future__ import annotations

__all__ = ["HLT", "INTR", "IO", "MMIO", "NAMES"]

IO, HLT, MMIO, INTR = 2, 5, 6, 10
NAMES = {MMIO: "mmio", IO: "io", HLT: "hlt", INTR: "intr"}
