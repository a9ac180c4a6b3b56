"""The ACPI tables: checksums, places, and what ACPICA's compiler makes of the AML."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support import require_program
from vmlab.arch.x86_64 import platform
from vmlab.boot.acpi import aml
from vmlab.boot.x86_64.layout import TABLES, TABLES_ROOM
from vmlab.errors import ConfigError
from vmlab.machine.board import pc_description as tables
from vmlab.machine.board.events import SLOTS


def split(blob: bytes) -> dict[str, bytes]:
    """Signature -> table, found as a guest finds them: from the RSDP."""
    assert blob[:8] == b"RSD PTR "
    assert sum(blob[:20]) & 0xFF == 0
    assert sum(blob[:36]) & 0xFF == 0
    found = {}

    def take(address: int) -> bytes:
        at = address - TABLES
        (size,) = struct.unpack_from("<I", blob, at + 4)
        table = blob[at : at + size]
        assert sum(table) & 0xFF == 0
        found[table[:4].decode()] = table
        return table

    root = take(struct.unpack_from("<Q", blob, 24)[0])
    for (address,) in struct.iter_unpack("<Q", root[36:]):
        table = take(address)
        if table[:4] == b"FACP":
            take(struct.unpack_from("<Q", table, 140)[0])
    return found


@pytest.fixture(scope="module")
def machine() -> dict[str, bytes]:
    return split(tables.acpi_tables(2, SLOTS))


def disassembled(folder: Path, table: bytes) -> str:
    iasl = require_program("iasl")
    (folder / "t.aml").write_bytes(table)
    done = subprocess.run(
        [iasl, "-d", "t.aml"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "error" not in done.stderr.lower(), done.stderr
    return (folder / "t.dsl").read_text()


def test_they_fit_their_place() -> None:
    assert len(tables.acpi_tables(8, SLOTS)) < TABLES_ROOM // 4


def test_the_fadt_is_hardware_reduced(machine: dict[str, bytes]) -> None:
    table = machine["FACP"]
    (flags,) = struct.unpack_from("<I", table, 112)
    assert len(table) == 276
    assert flags >> 20 & 1
    assert flags >> 10 & 1
    for at, port in ((116, 0x602), (244, 0x600), (256, 0x601)):
        assert struct.unpack_from("<BBBBQ", table, at) == (1, 8, 0, 1, port)
    assert table[128] == 0x42


def test_the_madt_lists_every_cpu_and_the_ioapic(machine: dict[str, bytes]) -> None:
    body, kinds = machine["APIC"][44:], []
    while body:
        kinds.append((body[0], body[3] if body[0] == 0 else None))
        body = body[body[1] :]
    assert kinds == [(0, 0), (0, 1), (1, None)]


@pytest.mark.parametrize("name", ["FACP", "APIC", "XSDT"])
def test_iasl_reads_every_table(machine: dict[str, bytes], tmp_path: Path, name: str) -> None:
    text = disassembled(tmp_path, machine[name])
    assert "Invalid" not in text


def test_iasl_compiles_what_it_read(machine: dict[str, bytes], tmp_path: Path) -> None:
    """And with its own optimizations off the bytes are the same but for its name in the header."""
    text = disassembled(tmp_path, machine["DSDT"])
    assert "Unknown" not in text
    done = subprocess.run(
        ["iasl", "-oa", "-p", "again", "t.dsl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "0 Errors, 0 Warnings" in done.stdout, done.stdout
    again = (tmp_path / "again.aml").read_bytes()
    assert again[36:] == machine["DSDT"][36:]


def test_the_dsdt_says_what_the_machine_is(machine: dict[str, bytes], tmp_path: Path) -> None:
    text = re.sub(r"\s*//[^\n]*", "", disassembled(tmp_path, machine["DSDT"]))
    text = re.sub(r"\s+", " ", text)
    assert text.count('"LNRO0005"') == text.count('"ACPI0004"') == SLOTS
    assert 'EisaId ("PNP0501"' in text
    assert "0x03F8" in text
    assert "0xD000A000" in text
    assert f"0x{platform.HOTPLUG_BASE:08X}" in text
    assert "Notify (C00A, N00A)" in text
    assert "Notify (PWRB, 0x80)" in text
    assert "Name (\\_S5, Package (0x04) { 0x05, Zero, Zero, Zero })" in text


def test_the_encoder_refuses_what_no_name_or_number_is() -> None:
    for bad in ("TOOLONG", "a", "A.", "A-B"):
        with pytest.raises(ConfigError):
            aml.path(bad)
    with pytest.raises(ConfigError):
        aml.integer(1 << 64)
    with pytest.raises(ConfigError):
        aml.integer(-1)


def test_lengths_are_coded_in_as_few_bytes_as_they_need() -> None:
    for size in (0, 62, 63, 64, 4093, 4094, 4095, 70_000, 1 << 20):
        coded = aml._length(bytes(size))
        extra = coded[0] >> 6
        value = coded[0] & 0x3F
        if extra:
            value = coded[0] & 0xF | int.from_bytes(coded[1:], "little") << 4
        assert (len(coded), value) == (1 + extra, size + len(coded))
    with pytest.raises(ConfigError):
        aml._length(bytes(1 << 28))


def test_tables_are_made_quickly() -> None:
    import timeit

    assert min(timeit.repeat(lambda: tables.acpi_tables(1, SLOTS), number=1, repeat=5)) < 0.05
