"""Where the interrupt controller lies: libkrun's arm64 layout, below the devices at 0x0A00_0000."""

from __future__ import annotations

from vmlab.engine.soft.arm64 import gicv2, gicv3

__all__ = ["GICV2_CPU", "GICV2_DISTRIBUTOR", "GICV3_DISTRIBUTOR", "redistributors"]

_END = 0x0A00_0000
GICV2_DISTRIBUTOR = _END - gicv2.SIZE_DISTRIBUTOR
GICV2_CPU = GICV2_DISTRIBUTOR - gicv2.SIZE_CPU
GICV3_DISTRIBUTOR = _END - gicv3.SIZE_DISTRIBUTOR


def redistributors(cpus: int) -> int:
    """The base of those of so many CPUs, one behind another."""
    return GICV3_DISTRIBUTOR - cpus * gicv3.SIZE_REDISTRIBUTOR
