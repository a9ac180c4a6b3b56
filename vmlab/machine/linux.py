"""What a Linux guest is given beside what it asks for: ACPI tables, and the software engine's needs."""

from __future__ import annotations

from vmlab.boot.acpi import tables as acpi
from vmlab.boot.acpi.facts import Facts
from vmlab.core.cmdline import Cmdline
from vmlab.core.lines import Lines
from vmlab.core.manager import ARCHES, MMIO_LEN
from vmlab.devices import hotplug, power
from vmlab.machine import platform

__all__ = ["SLOTS", "SOFT_ARGUMENTS", "command_line", "tables"]

#: as many as the hot-plug controller has
SLOTS = hotplug.SLOT_COUNT
#: What the software engine's CPU wants, unless the command line says otherwise. Its time stamp counter
#: is the host's and needs no other clock to watch it.
SOFT_ARGUMENTS = ("tsc=reliable",)


def command_line(text: str, engine: str) -> Cmdline:
    """`text`, and for the software engine those of SOFT_ARGUMENTS whose key is not in it."""
    line = Cmdline(text=text)
    given = {word.partition("=")[0] for word in text.split()}
    if engine == "soft":
        for argument in SOFT_ARGUMENTS:
            if argument.partition("=")[0] not in given:
                line.insert_str(argument)
    return line


def tables(cpus: int) -> bytes:
    """The ACPI tables of this machine, for `boot.layout.TABLES`."""
    windows = ARCHES["x86_64"]
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
            window=windows.mmio_base,
            window_size=MMIO_LEN,
            slots=SLOTS,
            slot_lines=tuple(lines.usual(slot) or 0 for slot in range(SLOTS)),
            first_level=lines.shared[0],
        )
    )
