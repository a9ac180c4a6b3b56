"""Where a loader puts what a guest is handed: at the end of RAM, out of every kernel's way.

Each place is a whole number of 64 KiB, the largest page that a kernel may use.
"""

from __future__ import annotations

from typing import NamedTuple

from vmlab.core.memory import GuestMemory

__all__ = ["UNIT", "Places", "places"]

UNIT = 0x1_0000


class Places(NamedTuple):
    """Addresses. tree: the device tree, one UNIT at most; code: the runtime services'; tables: ACPI's and
    EFI's. An initrd ends where the tree begins."""

    tree: int
    code: int
    tables: int
    end: int


def places(memory: GuestMemory) -> Places:
    end = memory.regions[-1].end & ~(UNIT - 1)
    return Places(end - 3 * UNIT, end - 2 * UNIT, end - UNIT, end)
