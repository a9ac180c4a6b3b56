"""The static tables (ACPI 6.5 §5.2): RSDP, XSDT, FADT, MADT, and the DSDT behind them.

Hardware-reduced ACPI (§4.1): no legacy interrupt controller, no PM timer, no SCI. Power is one register
to sleep and one to reset, events come by the generic event device.
"""

from __future__ import annotations

import struct

from vmlab.boot.acpi import dsdt
from vmlab.boot.acpi.facts import Facts
from vmlab.boot.x86_64.layout import TABLES

__all__ = ["build"]

_OEM, _TABLE, _CREATOR = b"VMLAB ", b"VMLABPC ", b"VLAB"
_FADT_SIZE = 276
# FADT flags (§5.2.9, table 5.10)
_WBINVD, _PWR_BUTTON, _SLP_BUTTON = 1 << 0, 1 << 4, 1 << 5
_RESET_REG_SUP, _HW_REDUCED_ACPI = 1 << 10, 1 << 20
#: IA-PC boot architecture flags (§5.2.9.3): no VGA, no CMOS clock that ACPI would not describe
_BOOT_ARCH = 1 << 2 | 1 << 5
_SYSTEM_IO, _BYTE = 1, 1


def build(facts: Facts) -> bytes:
    """All tables, for the address `layout.TABLES`; the RSDP comes first."""
    blob = bytearray(64)

    def placed(data: bytes) -> int:
        blob.extend(bytes(-len(blob) % 64))
        address = TABLES + len(blob)
        blob.extend(data)
        return address

    code = placed(_table(b"DSDT", 2, dsdt.build(facts)))
    fadt = placed(_table(b"FACP", 6, _fadt(facts, code)))
    madt = placed(_table(b"APIC", 5, _madt(facts)))
    root = placed(_table(b"XSDT", 1, struct.pack("<2Q", fadt, madt)))
    blob[:36] = _rsdp(root)
    return bytes(blob)


def _sum(data: bytes | bytearray) -> int:
    """What makes the bytes add up to zero."""
    return -sum(data) & 0xFF


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    """The header (§5.2.6) and `body`."""
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, _OEM, _TABLE, 1, _CREATOR, 1
    )
    whole = bytearray(head + body)
    whole[9] = _sum(whole)
    return bytes(whole)


def _rsdp(xsdt: int) -> bytes:
    """§5.2.5.3: the first 20 bytes have a checksum of their own."""
    whole = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, _OEM, 2, 0, 36, xsdt, 0))
    whole[8] = _sum(whole[:20])
    whole[32] = _sum(whole)
    return bytes(whole)


def _register(port: int) -> bytes:
    """A generic address structure (§5.2.3.2): 8 bits of I/O space."""
    return struct.pack("<BBBBQ", _SYSTEM_IO, 8, 0, _BYTE, port)


def _fadt(facts: Facts, code: int) -> bytes:
    """§5.2.9. Fields that are not set are zero: hardware that is not there."""
    table = bytearray(_FADT_SIZE)
    flags = _WBINVD | _PWR_BUTTON | _SLP_BUTTON | _RESET_REG_SUP | _HW_REDUCED_ACPI
    struct.pack_into("<H", table, 109, _BOOT_ARCH)
    struct.pack_into("<I", table, 112, flags)
    table[116:128] = _register(facts.reset_port)
    table[128] = facts.reset_value
    table[131] = 5  # FADT minor version: 6.5
    struct.pack_into("<Q", table, 140, code)  # X_DSDT
    table[244:256] = _register(facts.sleep_control)
    table[256:268] = _register(facts.sleep_status)
    table[268:276] = _OEM.strip().ljust(8, b"\0")  # the hypervisor's vendor
    return bytes(table[36:])


def _madt(facts: Facts) -> bytes:
    """§5.2.12: a local APIC a CPU, one I/O APIC whose pins are the lines, no overrides."""
    body = struct.pack("<II", facts.lapic, 0)
    for cpu in range(facts.cpus):
        body += struct.pack("<BBBBI", 0, 8, cpu, cpu, 1)
    return body + struct.pack("<BBBBII", 1, 12, 0, 0, facts.ioapic, 0)
