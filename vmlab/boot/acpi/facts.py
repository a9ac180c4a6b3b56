"""What the tables say of devices that come while the guest runs, as whoever builds the machine knows it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Events"]


class Events(NamedTuple):
    """What the generic event device tells a guest of: slots that have changed, and the power button.

    The hot-plug controller lies at `hotplug`, in memory; its blocks are offsets in it, one byte a slot each:
    `present` (as _STA), `lines`, `notes` (what to notify), `answers` (_OST's status)."""

    power_irq: int
    hotplug: int
    hotplug_irq: int
    #: offsets of the two event words
    events: tuple[int, int]
    present: int
    lines: int
    notes: int
    answers: int
    #: address and size of the first slot's window, and how many there are: 0 for guests that are not told of
    #: devices by ACPI
    window: int
    window_size: int
    slots: int
    #: the line that each slot has when devices come in order; 0 for one that never has any
    slot_lines: tuple[int, ...]
    #: lines from this one up are levels, and shared; those below are edges
    first_level: int
