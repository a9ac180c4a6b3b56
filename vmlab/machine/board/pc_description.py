"""What every guest finds in memory of its machine, to look for CPUs, lines and the power switch: ACPI tables,
a multiprocessor table, and the BIOS data area."""

from __future__ import annotations

from functools import cache

from vmlab.arch.x86_64 import ARCH, platform
from vmlab.boot.acpi import pc as acpi
from vmlab.boot.x86_64 import bios
from vmlab.boot.x86_64.layout import TABLES
from vmlab.boot.x86_64.load import Told
from vmlab.devices import power
from vmlab.machine.board.events import SLOTS, events

__all__ = ["acpi_tables", "told"]


@cache
def told(cpus: int, linux: bool) -> Told:
    """All of it. linux: such a kernel takes devices by ACPI."""
    first, last = platform.SHARED_LINES
    mp = bios.mp_table(
        *(cpus, platform.LAPIC_BASE, platform.IOAPIC_BASE, platform.IOAPIC_PINS),
        range(first, last + 1),
    )
    return Told(acpi_tables(cpus, SLOTS if linux else 0), mp, platform.COM1_PORT)


def acpi_tables(cpus: int, slots: int) -> bytes:
    """For `boot.layout.TABLES`. slots: how many windows can be filled while the guest runs."""
    return acpi.build(
        acpi.Facts(
            cpus=cpus,
            lapic=platform.LAPIC_BASE,
            ioapic=platform.IOAPIC_BASE,
            com1=platform.COM1_PORT,
            com1_irq=platform.COM1_IRQ,
            sleep_control=platform.POWER_PORT,
            sleep_status=platform.POWER_PORT + 1,
            reset_port=platform.POWER_PORT + 2,
            reset_value=power.RESET_VALUE,
            off=power.SOFT_OFF,
            events=events(
                ARCH, platform.HOTPLUG_BASE, platform.HOTPLUG_IRQ, platform.POWER_IRQ, slots
            ),
        ),
        TABLES,
    )
