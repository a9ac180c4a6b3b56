"""The arm64 machine: fixed addresses and lines, where libkrun's has them and, for what that has not, below.

`kernels/arch/arm64/layout.h` says the same to the guests; a test compares the two.
"""

from __future__ import annotations

__all__ = ["RAM_BASE", "WINDOWS_BASE", "WINDOWS_END", "redistributors"]
__all__ += ["CLOCK_BASE", "DEBUG_EXIT_BASE", "HOTPLUG_BASE", "POWER_BASE", "TIMER_BASE"]
__all__ += ["GICV2_CPU", "GICV2_DISTRIBUTOR", "GICV3_DISTRIBUTOR", "HOTPLUG_IRQ", "POWER_IRQ"]
__all__ += ["GIC_START", "LAST_LINE", "LINES", "MAX_CPUS", "TIMER_IRQ"]

RAM_BASE = 0x8000_0000
#: the windows of devices: from a page above the base, up to here
WINDOWS_BASE, WINDOWS_END = 0x0A00_0000, 0x4000_0000
#: the first and last line that devices get, and the last that there is. Lines are INTIDs: 32 is SPI 0
LINES = (32, 159)
LAST_LINE = 1019
#: outside of the manager's windows and lines
TIMER_BASE, TIMER_IRQ = 0x0900_0000, 160
HOTPLUG_BASE, HOTPLUG_IRQ = 0x0900_1000, 161
POWER_BASE, POWER_IRQ = 0x0900_2000, 162
DEBUG_EXIT_BASE = 0x0900_3000
#: the time as EFI has it; a page of the largest size
CLOCK_BASE = 0x0901_0000
#: as many as a GICv2 can have
MAX_CPUS = 8
# The interrupt controller ends where the windows begin: the distributor, and below it the CPU interface of
# version 2, or a redistributor a CPU of version 3 (0x2_0000 bytes each).
GICV2_DISTRIBUTOR, GICV2_CPU = WINDOWS_BASE - 0x1000, WINDOWS_BASE - 0x3000
GICV3_DISTRIBUTOR = WINDOWS_BASE - 0x1_0000
_REDISTRIBUTOR = 0x2_0000


def redistributors(cpus: int) -> int:
    """The base of those of so many CPUs, one behind another."""
    return GICV3_DISTRIBUTOR - cpus * _REDISTRIBUTOR


GIC_START = redistributors(MAX_CPUS)
