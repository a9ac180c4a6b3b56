"""What every guest finds in memory of its machine, to look for CPUs, lines and the power switch: ACPI tables,
a multiprocessor table, and the BIOS data area."""

from __future__ import annotations

from vmlab.arch.x86_64 import ARCH, platform
from vmlab.boot.acpi import tables as acpi
from vmlab.boot.acpi.facts import Facts
from vmlab.boot.x86_64 import bios
from vmlab.boot.x86_64.load import Told
from vmlab.core.lines import Lines
from vmlab.core.manager import MMIO_LEN
from vmlab.devices import hotplug, power

__all__ = ["SLOTS", "acpi_tables", "told"]

#: as many as the hot-plug controller has
SLOTS = hotplug.SLOT_COUNT


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
    windows = ARCH.windows
    lines = Lines(*windows.irq_interval, platform.SHARED_LINES)
    return acpi.build(
        Facts(
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
            power_irq=platform.POWER_IRQ,
            hotplug=platform.HOTPLUG_BASE,
            hotplug_irq=platform.HOTPLUG_IRQ,
            events=hotplug.EVENTS_AT,
            present=hotplug.VIRTIO_AT,
            lines=hotplug.LINE_AT,
            notes=hotplug.NOTE_AT,
            answers=hotplug.OST_AT,
            window=windows.base,
            window_size=MMIO_LEN,
            slots=slots,
            slot_lines=tuple(lines.usual(slot) or 0 for slot in range(slots)),
            first_level=lines.shared[0],
        )
    )
