"""An arm64 machine's tables (ACPI 6.5 §5.2): its GIC, its timers, its serial port, and power by PSCI."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.boot.acpi import aml, dsdt, tables
from vmlab.boot.acpi.facts import Events

__all__ = ["Facts", "Timers", "build"]

_TABLE = b"VMLABARM"
#: ARM boot architecture flags (§5.2.9.4): PSCI, by HVC
_PSCI_HVC = 1 << 0 | 1 << 1
_GICC, _GICD, _GICR = 0xB, 0xC, 0xE
_ENABLED = 1
_NOWHERE = (1 << 64) - 1
#: a timer's flags (§5.2.25, table 5.118): a level, active high, that goes on while CPUs sleep
_TIMER = 1 << 2
#: SPCR (Microsoft, revision 2): an ARM PL011, interrupts by the GIC, 115,200 baud
_PL011, _BY_GIC, _115200 = 3, 1 << 3, 7
_MEMORY, _DWORD = 0, 3


class Timers(NamedTuple):
    """INTIDs of the generic timer's four interrupts."""

    secure: int
    physical: int
    virtual: int
    hypervisor: int


class Facts(NamedTuple):
    """Addresses are the guest's. gic: its version; gic_cpus: of version 2 the CPU interface, of version 3 the
    first redistributor, of `gic_size` bytes all together."""

    cpus: int
    gic: int
    distributor: int
    gic_cpus: int
    gic_size: int
    timers: Timers
    serial: int
    serial_irq: int
    events: Events


def build(facts: Facts, base: int) -> bytes:
    """All tables, for the address `base`; the RSDP comes first."""
    fixed = tables.fadt()
    struct.pack_into("<I", fixed, 112, tables.HW_REDUCED_ACPI)
    struct.pack_into("<H", fixed, 129, _PSCI_HVC)
    return tables.build(
        base,
        _TABLE,
        _code(facts),
        fixed,
        (b"APIC", 5, _madt(facts)),
        (b"GTDT", 3, _gtdt(facts)),
        (b"SPCR", 2, _spcr(facts)),
    )


def _code(facts: Facts) -> bytes:
    window = aml.memory32(facts.serial, 0x1000)
    serial = aml.device(
        "COM0",
        aml.name("_HID", aml.string("ARMH0011")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CCA", aml.integer(1)),
        aml.name("_CRS", aml.resources(window, aml.interrupt(facts.serial_irq, level=True))),
    )
    cpus = [
        aml.device(
            f"CP{cpu:02X}",
            aml.name("_HID", aml.string("ACPI0007")),
            aml.name("_UID", aml.integer(cpu)),
        )
        for cpu in range(facts.cpus)
    ]
    return dsdt.build(facts.events, serial, *cpus)


def _madt(facts: Facts) -> bytes:
    """§5.2.12.14 to 18: a CPU interface a CPU, the distributor, and of version 3 the redistributors."""
    body = struct.pack("<II", 0, 0)
    interface = facts.gic_cpus if facts.gic == 2 else 0
    for cpu in range(facts.cpus):
        body += struct.pack("<BBHIIIII", _GICC, 80, 0, cpu, cpu, _ENABLED, 0, 0)
        body += struct.pack("<QQQQIQQBBH", 0, interface, 0, 0, 0, 0, cpu, 0, 0, 0)
    body += struct.pack("<BBHIQIB3x", _GICD, 24, 0, 0, facts.distributor, 0, facts.gic)
    if facts.gic == 3:
        body += struct.pack("<BBHQI", _GICR, 16, 0, facts.gic_cpus, facts.gic_size)
    return body


def _gtdt(facts: Facts) -> bytes:
    """§5.2.25. The counters are registers of the CPU's, and nowhere in memory."""
    lines = [number for line in facts.timers for number in (line, _TIMER)]
    return struct.pack("<QI8IQ4I", _NOWHERE, 0, *lines, _NOWHERE, 0, 0, 0, 0)


def _spcr(facts: Facts) -> bytes:
    """Where early messages go. It names no PCI device."""
    register = struct.pack("<BBBBQ", _MEMORY, 32, 0, _DWORD, facts.serial)
    port = struct.pack("<BBIBBBBBB", _BY_GIC, 0, facts.serial_irq, _115200, 0, 1, 0, 3, 0)
    no_pci = struct.pack("<HHBBBIBI", 0xFFFF, 0xFFFF, 0, 0, 0, 0, 0, 0)
    return struct.pack("<B3x", _PL011) + register + port + no_pci
