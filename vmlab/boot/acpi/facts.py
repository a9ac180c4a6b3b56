"""What the tables say of a machine: its addresses and lines, as whoever builds it knows them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Facts"]


class Facts(NamedTuple):
    """Ports and addresses are the guest's. The hot-plug controller's blocks are offsets in it, one byte
    a slot each: `present` (as _STA), `lines`, `notes` (what to notify), `answers` (_OST's status)."""

    cpus: int
    lapic: int
    ioapic: int
    com1: int
    com1_irq: int
    sleep_control: int
    sleep_status: int
    reset_port: int
    reset_value: int
    #: SLP_TYP of S5, soft off
    off: int
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
    #: the line that each slot has when devices come in order
    slot_lines: tuple[int, ...]
    #: lines from this one up are levels, and shared; those below are edges
    first_level: int
