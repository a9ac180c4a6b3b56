"""The DSDT: the power button, a container per hot-plug slot, the generic event device, and what a board adds.

Linux takes a hot-added virtio-mmio device when a container that it has is checked again ("bus check")
and a device in it has appeared. So every slot is a container that is always there; its one child reads
the hot-plug controller to say whether it is, and on which line.
"""

from __future__ import annotations

from vmlab.boot.acpi import aml
from vmlab.boot.acpi.facts import Events

__all__ = ["build"]

#: _STA: present, enabled, shown, working (ACPI 6.5 §6.3.7)
_PRESENT = 0x0F
#: what the controller says of a slot without a line
_NO_LINE = 0xFF
#: flags of a line that one device holds, and of one that several may
_EDGE, _LEVEL = aml.trigger(level=False, shared=False), aml.trigger(level=True, shared=True)
#: notification of a button: pressed (§4.8.2.2.1.2)
_PRESSED = 0x80
#: the event words: slots 0 to 31, and 32 to 63
_EVENTS = ("EVTL", "EVTH")
#: the shortest name for slot n, in three characters
_NAME = "{}{:03X}"


def build(facts: Events, *devices: bytes) -> bytes:
    """The scope of all devices; `devices`: those that only this machine has."""
    return aml.scope(
        "\\_SB",
        _controller(facts) if facts.slots else b"",
        *devices,
        aml.device(
            "PWRB",
            aml.name("_HID", aml.eisa_id("PNP0C0C")),
            aml.name("_UID", aml.integer(0)),
        ),
        *(_slot(facts, number) for number in range(facts.slots)),
        _events(facts),
    )


def _slot_name(letter: str, slot: int) -> str:
    return _NAME.format(letter, slot)


def _controller(facts: Events) -> bytes:
    """The hot-plug controller's registers: the event words, and a byte a slot of four kinds."""
    bytes_of = [
        (8 * (base + slot), _slot_name(letter, slot), 8)
        for base, letter in sorted(
            ((facts.present, "S"), (facts.lines, "L"), (facts.notes, "N"), (facts.answers, "A"))
        )
        for slot in range(facts.slots)
    ]
    return (
        aml.region("HPC0", aml.SYSTEM_MEMORY, facts.hotplug, 0x1000)
        + aml.field(
            "HPC0",
            aml.DWORD_ACCESS,
            *((8 * at, name, 32) for at, name in zip(facts.events, _EVENTS, strict=True)),
        )
        + aml.field("HPC0", aml.BYTE_ACCESS, *bytes_of)
    )


def _slot(facts: Events, slot: int) -> bytes:
    """A container (§9.11 "module device") and the virtio-mmio device in it."""
    window = aml.memory32(facts.window + slot * facts.window_size, facts.window_size)
    line = facts.slot_lines[slot]
    is_level = line >= facts.first_level
    child = aml.device(
        _slot_name("V", slot),
        aml.name("_HID", aml.string("LNRO0005")),
        aml.name("_UID", aml.integer(slot)),
        aml.name("_CCA", aml.integer(1)),
        aml.method("_STA", aml.return_(aml.path(_slot_name("S", slot)))),
        aml.name(
            "CRES", aml.resources(window, aml.interrupt(line, level=is_level, shared=is_level))
        ),
        aml.byte_field("CRES", len(window) + 3, "TRIG"),
        aml.dword_field("CRES", len(window) + 5, "LINE"),
        aml.method(
            "_CRS",
            # an empty slot keeps the line that it would probably have
            aml.store(aml.path(_slot_name("L", slot)), aml.local(0)),
            aml.if_(
                aml.less(aml.local(0), aml.integer(_NO_LINE)),
                aml.store(aml.local(0), aml.path("LINE")),
                aml.if_(
                    aml.less(aml.local(0), aml.integer(facts.first_level)),
                    aml.store(aml.integer(_EDGE), aml.path("TRIG")),
                ),
                aml.else_(aml.store(aml.integer(_LEVEL), aml.path("TRIG"))),
            ),
            aml.return_(aml.path("CRES")),
            serialized=True,
        ),
    )
    return aml.device(
        _slot_name("C", slot),
        aml.name("_HID", aml.string("ACPI0004")),
        aml.name("_UID", aml.integer(slot)),
        aml.method("_STA", aml.return_(aml.integer(_PRESENT))),
        # what became of the last notification (§6.3.5)
        aml.method("_OST", aml.store(aml.arg(1), aml.path(_slot_name("A", slot))), arguments=3),
        child,
    )


def _events(facts: Events) -> bytes:
    """The generic event device (§5.6.9). Its events' registers are cleared by reading them."""
    hotplug = lines = b""
    if facts.slots:
        hotplug = aml.if_(
            aml.equal(aml.arg(0), aml.integer(facts.hotplug_irq)),
            *(_checks(word, facts.slots) for word in range(len(_EVENTS))),
        )
        lines = aml.interrupt(facts.hotplug_irq, level=True)
    power = aml.if_(
        aml.equal(aml.arg(0), aml.integer(facts.power_irq)),
        aml.notify("PWRB", aml.integer(_PRESSED)),
    )
    lines += aml.interrupt(facts.power_irq)
    return aml.device(
        "GED0",
        aml.name("_HID", aml.string("ACPI0013")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", aml.resources(lines)),
        aml.method("_EVT", hotplug, power, arguments=1, serialized=True),
    )


def _checks(word: int, slots: int) -> bytes:
    """Notify the containers that an event word names."""
    checks = [
        aml.if_(
            aml.and_(aml.local(0), aml.integer(1 << (slot & 31))),
            aml.notify(_slot_name("C", slot), aml.path(_slot_name("N", slot))),
        )
        for slot in range(32 * word, min(32 * word + 32, slots))
    ]
    return aml.store(aml.path(_EVENTS[word]), aml.local(0)) + aml.if_(aml.local(0), *checks)
