"""What a PC's firmware leaves in memory beside ACPI: the BIOS data area, and the table of the MultiProcessor
Specification 1.4, by which kernels without ACPI find the other CPUs and the I/O APIC."""

from __future__ import annotations

import struct

from vmlab.arch.x86_64 import platform, text_mode
from vmlab.boot.x86_64.layout import (
    BASE_MEMORY,
    BIOS_DATA,
    BIOS_DATA_SIZE,
    EBDA,
    EBDA_SIZE,
)
from vmlab.core.memory import GuestMemory

__all__ = ["mp_table", "write"]

#: the floating pointer lies here, where a guest looks first (§4); the area begins with its size
_POINTER = EBDA + 16
_POINTER_SIZE, _HEADER_SIZE = 16, 44
_OEM, _PRODUCT = b"VMLAB   ", b"PC          "
_SPEC_REV = 4
#: version of the local and the I/O APICs
_APIC_VERSION = 0x14
# entry types (§4.3)
_PROCESSOR, _BUS, _IOAPIC, _IO_INTERRUPT, _LOCAL_INTERRUPT = range(5)
_ENABLED, _BOOTSTRAP = 1, 2
# interrupt types (table 4-11)
_INT, _NMI, _EXT_INT = 0, 1, 3
_ALL_LAPICS = 0xFF
#: §4.3.4: as the bus has it, edges and active high; level-triggered and active high
_AS_ISA, _LEVEL = 0, 0b1101
#: family 6, and features FPU and APIC, as CPUID's leaf 1 has them
_SIGNATURE, _FEATURES = 0x600, 1 << 9 | 1


#: equipment word: a screen of 80 columns in colour
_COLOUR_SCREEN = 2 << 4
#: number of the text mode, and lines of a character
_TEXT_MODE, _CHARACTER = 3, 16


def write(memory: GuestMemory, com1: int, mp: bytes, screen: bool = False) -> None:
    """The BIOS data area (as the PC's BIOS lays it out), and `mp` in the extended one. screen: the machine
    has a text screen, which is blank."""
    area = bytearray(BIOS_DATA_SIZE)
    struct.pack_into("<H", area, 0x00, com1)
    struct.pack_into("<H", area, 0x0E, EBDA >> 4)
    # equipment: one serial port, a coprocessor
    struct.pack_into("<H", area, 0x10, 1 << 9 | 1 << 1 | (_COLOUR_SCREEN if screen else 0))
    struct.pack_into("<H", area, 0x13, BASE_MEMORY >> 10)
    if screen:
        shape = text_mode.Shape()
        struct.pack_into("<BHH", area, 0x49, _TEXT_MODE, text_mode.COLUMNS, text_mode.MEMORY_SIZE)
        struct.pack_into(
            "<BBBH", area, 0x60, shape.cursor_end, shape.cursor_start, 0, platform.CRTC_PORT
        )
        struct.pack_into("<BH", area, 0x84, shape.rows - 1, _CHARACTER)
        memory.write(text_mode.MEMORY, text_mode.BLANK * text_mode.CELLS)
    memory.write(BIOS_DATA, area)
    memory.write(EBDA, bytes([EBDA_SIZE >> 10]))
    memory.write(_POINTER, mp)


def mp_table(cpus: int, lapic: int, ioapic: int, pins: int, levels: range = range(0)) -> bytes:
    """Floating pointer and configuration table: the CPUs, an ISA bus whose lines are the I/O APIC's pins;
    `levels` are those that are no edges."""
    ioapic_id = 0  # as its own register says, and the MADT
    entries = [
        struct.pack(
            *("<BBBBII8x", _PROCESSOR, cpu, _APIC_VERSION),
            *(_ENABLED | (0 if cpu else _BOOTSTRAP), _SIGNATURE, _FEATURES),
        )
        for cpu in range(cpus)
    ]
    entries.append(struct.pack("<BB6s", _BUS, 0, b"ISA   "))
    entries.append(struct.pack("<BBBBI", _IOAPIC, ioapic_id, _APIC_VERSION, _ENABLED, ioapic))
    entries += [
        struct.pack(
            *("<BBHBBBB", _IO_INTERRUPT, _INT, _LEVEL if line in levels else _AS_ISA),
            *(0, line, ioapic_id, line),
        )
        for line in range(pins)
    ]
    entries += [
        struct.pack("<BBHBBBB", _LOCAL_INTERRUPT, kind, 0, 0, 0, _ALL_LAPICS, pin)
        for pin, kind in enumerate((_EXT_INT, _NMI))
    ]
    body = b"".join(entries)
    table = bytearray(
        struct.pack(
            *("<4sHBB8s12sIHHIHBB", b"PCMP", _HEADER_SIZE + len(body), _SPEC_REV, 0),
            *(_OEM, _PRODUCT, 0, 0, len(entries), lapic, 0, 0, 0),
        )
        + body
    )
    table[7] = -sum(table) & 0xFF
    pointer = bytearray(
        struct.pack("<4sIBBB5x", b"_MP_", _POINTER + _POINTER_SIZE, 1, _SPEC_REV, 0)
    )
    pointer[10] = -sum(pointer) & 0xFF
    return bytes(pointer + table)
