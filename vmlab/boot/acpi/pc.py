"""A PC's tables (ACPI 6.5 §5.2): local APICs and an I/O APIC, COM1, and power by I/O ports."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.boot.acpi import aml, dsdt, tables
from vmlab.boot.acpi.facts import Events

__all__ = ["Facts", "build"]

_TABLE = b"VMLABPC "
# FADT flags (§5.2.9, table 5.10)
_WBINVD, _PWR_BUTTON, _SLP_BUTTON = 1 << 0, 1 << 4, 1 << 5
_RESET_REG_SUP = 1 << 10
#: IA-PC boot architecture flags (§5.2.9.3): no VGA, no CMOS clock that ACPI would not describe
_BOOT_ARCH = 1 << 2 | 1 << 5
_SYSTEM_IO, _BYTE = 1, 1


class Facts(NamedTuple):
    """Ports and addresses are the guest's."""

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
    events: Events


def build(facts: Facts, base: int) -> bytes:
    """All tables, for the address `base`; the RSDP comes first."""
    return tables.build(base, _TABLE, _code(facts), _fadt(facts), (b"APIC", 5, _madt(facts)))


def _code(facts: Facts) -> bytes:
    sleep = aml.package(*(aml.integer(value) for value in (facts.off, 0, 0, 0)))
    serial = aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", aml.resources(aml.io_ports(facts.com1, 8), aml.interrupt(facts.com1_irq))),
    )
    return aml.name("\\_S5", sleep) + dsdt.build(facts.events, serial)


def _register(port: int) -> bytes:
    """A generic address structure (§5.2.3.2): 8 bits of I/O space."""
    return struct.pack("<BBBBQ", _SYSTEM_IO, 8, 0, _BYTE, port)


def _fadt(facts: Facts) -> bytearray:
    table = tables.fadt()
    flags = _WBINVD | _PWR_BUTTON | _SLP_BUTTON | _RESET_REG_SUP | tables.HW_REDUCED_ACPI
    struct.pack_into("<H", table, 109, _BOOT_ARCH)
    struct.pack_into("<I", table, 112, flags)
    table[116:128] = _register(facts.reset_port)
    table[128] = facts.reset_value
    table[244:256] = _register(facts.sleep_control)
    table[256:268] = _register(facts.sleep_status)
    return table


def _madt(facts: Facts) -> bytes:
    """§5.2.12: a local APIC a CPU, one I/O APIC whose pins are the lines, no overrides."""
    body = struct.pack("<II", facts.lapic, 0)
    for cpu in range(facts.cpus):
        body += struct.pack("<BBBBI", 0, 8, cpu, cpu, 1)
    return body + struct.pack("<BBBBII", 1, 12, 0, 0, facts.ioapic, 0)
