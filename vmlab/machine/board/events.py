"""What every board's ACPI tables say of its hot-plug controller and its power button."""

from __future__ import annotations

from vmlab.arch.api import Arch
from vmlab.boot.acpi.facts import Events
from vmlab.core.lines import Lines
from vmlab.core.manager import MMIO_LEN
from vmlab.devices import hotplug

__all__ = ["SLOTS", "events"]

#: as many as the hot-plug controller has
SLOTS = hotplug.SLOT_COUNT


def events(arch: Arch, base: int, irq: int, power_irq: int, slots: int) -> Events:
    """base, irq: the hot-plug controller's. slots: how many windows can be filled while the guest runs."""
    windows = arch.windows
    lines = Lines(*windows.irq_interval, windows.shared)
    return Events(
        power_irq=power_irq,
        hotplug=base,
        hotplug_irq=irq,
        events=hotplug.EVENTS_AT,
        present=hotplug.VIRTIO_AT,
        lines=hotplug.LINE_AT,
        notes=hotplug.NOTE_AT,
        answers=hotplug.OST_AT,
        window=windows.first,
        window_size=MMIO_LEN,
        slots=slots,
        slot_lines=tuple(lines.usual(slot) or 0 for slot in range(slots)),
        first_level=lines.shared[0] if lines.shared else windows.last_irq + 1,
    )
