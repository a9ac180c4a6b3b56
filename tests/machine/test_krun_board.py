"""What an arm64 guest is told of its machine: the device tree by dtc, the ACPI tables by ACPICA."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tests.boot.dtc import source
from tests.support import require_program
from vmlab.boot import fdt
from vmlab.core.manager import DeviceInfo, DeviceType
from vmlab.machine.board import Described
from vmlab.machine.board.krun_description import acpi_tables, told, tree

#: as a machine's own devices have them, and two virtio devices
WINDOWS = {
    (DeviceType.SERIAL, "serial"): DeviceInfo(0x0A00_1000, 0x1000, 32),
    (DeviceType.RTC, "rtc"): DeviceInfo(0x0A00_2000, 0x1000, 33),
    (DeviceType.GPIO, "gpio"): DeviceInfo(0x0A00_3000, 0x1000, 34),
    (DeviceType.virtio(2), "disk0"): DeviceInfo(0x0A00_4000, 0x1000, 35),
    (DeviceType.USER, "own"): DeviceInfo(0x0A00_5000, 0x1000, None),
    (DeviceType.virtio(4), "rng0"): DeviceInfo(0x0A00_6000, 0x1000, 37),
}
BASE = 0x8FFF_0000


def machine(cpus: int = 2, gic: int = 2, slots: int = 0) -> Described:
    return Described(cpus, True, slots, WINDOWS, gic)


@pytest.mark.parametrize("gic", [2, 3])
def test_dtc_finds_nothing_wrong_with_the_tree(tmp_path: Path, gic: int) -> None:
    whole = tree(machine(gic=gic))
    memory = fdt.Node(
        "memory@80000000",
        {"device_type": fdt.text("memory"), "reg": fdt.reg(1 << 31, 1 << 28)},
        [],
    )
    whole = whole._replace(children=[*whole.children, memory])
    found = source(fdt.flatten(whole), tmp_path)
    assert found.count('"virtio,mmio"') == 2
    assert "interrupts = <0x00 0x03 0x01>" in found, "the disk's line is SPI 3, an edge"
    assert "interrupts = <0x00 0x00 0x04>" in found, "the serial port's is SPI 0, a level"
    assert f'"arm,gic-{"400" if gic == 2 else "v3"}"' in found


def test_the_console_and_the_clock_are_named() -> None:
    found = told(machine())
    assert found.stdout == "/uart@a001000"
    assert found.acpi is not None
    assert found.time == 0x0901_0000


def test_a_tree_of_the_users_own_takes_its_place() -> None:
    own = fdt.Node("", {"model": b"mine\0"}, [])
    found = told(machine()._replace(tree=own))
    assert (found.tree, found.stdout) == (own, "")


def split(blob: bytes) -> dict[str, bytes]:
    """Signature -> table, by the XSDT; each sums to zero."""
    root = struct.unpack_from("<Q", blob, 24)[0] - BASE
    count = (struct.unpack_from("<I", blob, root + 4)[0] - 36) // 8
    places = [at - BASE for at in struct.unpack_from(f"<{count}Q", blob, root + 36)]
    fixed = next(at for at in places if blob[at : at + 4] == b"FACP")
    places.append(struct.unpack_from("<Q", blob, fixed + 140)[0] - BASE)
    found = {}
    for at in [root, *places]:
        table = blob[at : at + struct.unpack_from("<I", blob, at + 4)[0]]
        assert sum(table) & 0xFF == 0
        found[table[:4].decode()] = table
    return found


@pytest.mark.parametrize("gic", [2, 3])
@pytest.mark.parametrize("signature", ["FACP", "APIC", "GTDT", "SPCR", "DSDT", "XSDT"])
def test_acpica_reads_the_tables(tmp_path: Path, signature: str, gic: int) -> None:
    iasl = require_program("iasl")
    table = split(acpi_tables(machine(gic=gic), BASE))[signature]
    (tmp_path / "t.aml").write_bytes(table)
    done = subprocess.run(
        [iasl, "-d", "t.aml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "error" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    text = (tmp_path / "t.dsl").read_text()
    assert "Invalid" not in text
    if signature == "APIC":
        assert text.count("Generic Interrupt Controller]") == 2
        assert f"Version : {gic:02X}" in text
        assert ("Generic Interrupt Redistributor" in text) == (gic == 3)
    if signature == "DSDT":
        assert text.count('"ACPI0007"') == 2
        assert text.count('"LNRO0005"') == text.count('"ACPI0004"') == 64


def test_a_linux_without_acpi_has_its_slots_in_the_tree_alone() -> None:
    assert b"LNRO0005" not in acpi_tables(machine(slots=8), BASE)


def test_the_tables_leave_room_for_the_rest() -> None:
    assert len(acpi_tables(machine(8, 3), BASE)) < 0xF000
