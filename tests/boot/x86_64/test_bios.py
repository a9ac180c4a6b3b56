"""What a guest without ACPI finds: the BIOS data area, and the MultiProcessor Specification's table."""

from __future__ import annotations

import struct

import pytest

from tests.boot.images import elf64, multiboot_elf
from vmlab.arch.x86_64 import platform
from vmlab.boot.x86_64.layout import BOOT_INFO, RAM, TABLES, memory_map
from vmlab.boot.x86_64.load import parse, place
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import KernelError
from vmlab.machine.board import pc_description as tables

MIB = 1 << 20


def told(memory: GuestMemory, image: bytes, cpus: int = 2) -> GuestMemory:
    memory.clear()
    place(memory, parse(image, "k"), Cmdline(), None, tables.told(cpus, linux=False))
    return memory


def word(memory: GuestMemory, at: int) -> int:
    return int.from_bytes(memory.read(at, 2), "little")


def floating_pointer(memory: GuestMemory) -> int:
    """As a guest looks for it (MP 1.4 §4): the extended BIOS data area, the end of base memory, the ROM."""
    ebda, base = word(memory, 0x40E) << 4, word(memory, 0x413) << 10
    for start, size in ((ebda, 0x400), (base - 0x400, 0x400), (0xF_0000, 0x1_0000)):
        for at in range(start, start + size, 16):
            found = memory.read(at, 16)
            if found[:4] == b"_MP_" and not sum(found) & 0xFF:
                return at
    raise AssertionError("no floating pointer")


def test_the_bios_data_area_agrees_with_the_memory_map(memory: GuestMemory) -> None:
    told(memory, multiboot_elf())
    (base,) = (one.size for one in memory_map(memory) if one.start == 0 and one.kind == RAM)
    assert word(memory, 0x413) << 10 == base
    assert word(memory, 0x40E) << 4 == base
    assert struct.unpack_from("<I", memory.read(BOOT_INFO + 4, 4))[0] << 10 == base
    assert word(memory, 0x400) == platform.COM1_PORT
    assert word(memory, 0x410) >> 9 & 7 == 1, "serial ports in the equipment word"
    assert memory.read(base, 1) == b"\1", "the area's size in KiB"


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_the_mp_table_names_every_cpu_and_line(memory: GuestMemory, cpus: int) -> None:
    told(memory, multiboot_elf(), cpus)
    pointer = memory.read(floating_pointer(memory), 16)
    at, length, revision = struct.unpack_from("<IBB", pointer, 4)
    assert (length, revision, pointer[11]) == (1, 4, 0)
    signature, size, revision = struct.unpack_from("<4sHB", memory.read(at, 8))
    table = memory.read(at, size)
    assert (signature, revision, sum(table) & 0xFF) == (b"PCMP", 4, 0)
    count, lapic = struct.unpack_from("<HI", table, 34)
    assert lapic == platform.LAPIC_BASE
    entries, body = [], table[44:]
    while body:
        length = 20 if body[0] == 0 else 8
        entries.append(body[:length])
        body = body[length:]
    assert len(entries) == count
    assert [(one[1], one[3]) for one in entries if one[0] == 0] == [
        (cpu, 1 if cpu else 3) for cpu in range(cpus)
    ]
    (ioapic,) = (one for one in entries if one[0] == 2)
    assert struct.unpack("<xBxBI", ioapic) == (0, 1, platform.IOAPIC_BASE)
    lines = {one[5]: (one[6], one[7]) for one in entries if one[0] == 3}
    assert lines == {line: (0, line) for line in range(24)}
    levels = {one[5] for one in entries if one[0] == 3 and one[2] == 0b1101}
    assert levels == set(range(17, 24)), "as the tables of ACPI say, and as devices drive them"
    assert {one[2] for one in entries if one[0] == 3} == {0, 0b1101}
    assert [(one[1], one[7]) for one in entries if one[0] == 4] == [(3, 0), (1, 1)]


def test_the_root_of_acpi_is_named_to_a_pvh_kernel_and_found_by_others(memory: GuestMemory) -> None:
    told(memory, elf64())
    assert struct.unpack("<Q", memory.read(BOOT_INFO + 32, 8)) == (TABLES,)
    for image in (elf64(), multiboot_elf()):
        told(memory, image)
        found = [at for at in range(0xE_0000, 0x10_0000, 16) if memory.read(at, 8) == b"RSD PTR "]
        assert found == [TABLES]


@pytest.mark.parametrize("address", [0x3F9, 0x400, 0x4FF, 0x9_FC00, 0x9_FFFF])
def test_a_kernel_over_them_is_refused(memory: GuestMemory, address: int) -> None:
    image = elf64(segments=[(MIB, b"\xf4", 1), (address, b"12345678", 8)])
    with pytest.raises(KernelError, match=r"BIOS data area|ROM segment"):
        told(memory, image)
