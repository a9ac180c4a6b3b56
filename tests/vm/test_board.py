"""Boards of one's own, and devices at fixed addresses."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.boot.images import elf64
from tests.support import require_module
from vmlab import VM, Board, Device, Placed, Registers, rw
from vmlab.arch.riscv64 import platform
from vmlab.boot import fdt
from vmlab.errors import BusError, ConfigError
from vmlab.virtio import Rng

RAM = platform.RAM_BASE
LEDS = 0x1100_0000


class Leds(Device):
    type = "leds"
    compatible = "course,leds"

    class regs(Registers):
        ON = rw(0, "a bit a light")

    def irq_level(self) -> bool:
        return bool(self.r.ON)


class Lab(Board):
    memory = "16M"

    def devices(self) -> Mapping[str, Any]:
        return {"free": Rng(), "leds": Placed(Leds(), at=LEDS, irq=50)}


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """lui a1,0x11000; li a0,5; sw a0,(a1); j ."""
    require_module("unicorn")
    words = (0x1100_05B7, 0x0050_0513, 0x00A5_A023, 0x0000_006F)
    path = tmp_path / "kernel.elf"
    path.write_bytes(
        elf64(struct.pack("<4I", *words), note=b"", machine=243, address=RAM, entry=RAM)
    )
    return path


@pytest.mark.parametrize("isolate", [True, False])
def test_a_board_of_ones_own(kernel: Path, isolate: bool) -> None:
    with VM(kernel, machine=Lab(), devices={"more": Rng()}, isolate=isolate) as vm:
        vm.wait_until(lambda v: v.traps["leds"].writes)
        assert (vm.machine, vm.config.memory) == ("Lab", 16 << 20)
        assert "riscv64 Lab, soft, 16M" in repr(vm)
        assert vm.stats()["machine"] == "Lab"
        assert vm.devices["leds"].peek()["ON"] == 5
        leds = vm.devices["leds"]
        assert (leds.base, leds.irq) == (LEDS, 50)
        assert [vm.devices[id].base for id in ("free", "more")] == [0x1000_1000, 0x1000_2000]
        assert next(row.raised for row in vm.irqs if row.line == 50) == 1
        # the next run has it where it was
        vm.stop()
        vm.start()
        assert vm.devices["leds"].base == LEDS


def test_the_guest_is_told(kernel: Path) -> None:
    with VM(kernel, machine=Lab()).start(paused=True) as vm:
        at = vm.cpus[0].regs["x11"]
        size = int.from_bytes(bytes(vm.memory.read(at + 4, 4)), "big")
        tree = fdt.parse(bytes(vm.memory.read(at, size)))
        node = tree.child("soc").child(f"device@{LEDS:x}")  # type: ignore[union-attr]
        assert node is not None
        assert node.properties["compatible"] == b"course,leds\0"
        assert node.properties["interrupts"] == (50).to_bytes(4, "big")


def test_each_vm_has_devices_of_its_own(kernel: Path) -> None:
    board = Lab()
    with VM(kernel, machine=board) as one, VM(kernel, machine=board) as two:
        assert one.devices["leds"].base == two.devices["leds"].base


def test_devices_at_fixed_addresses(kernel: Path) -> None:
    devices: list[Any] = [Rng(), Placed(Rng(), at=0x1000_1000), Placed(Leds(), irq=77)]
    with VM(kernel, memory="16M", devices=devices) as vm:
        assert {id: one.base for id, one in vm.devices.items() if "rng" in id} == {
            "rng0": 0x1000_1000,
            "rng1": 0x1000_2000,
        }
        assert next(row.device for row in vm.irqs if row.line == 77) == "leds0"
        added = vm.hot_add(Leds(), at=0x2000_0000, irq=1023)
        assert (added.base, added.irq) == (0x2000_0000, 1023)


@pytest.mark.parametrize(
    ("at", "irq", "words"),
    [
        (RAM, None, r"0x80000000 is RAM, which ends at 0x81000000"),
        (
            0x0C00_1000,
            None,
            r"0xc001000-0xc001fff overlaps the plic, which is at 0xc000000-0xc5fffff",
        ),
        (0x0200_0000, None, r"overlaps the clint, which is at 0x2000000-0x200ffff"),
        (0x1000_0000, None, r"overlap"),
        (LEDS, None, r"overlap"),
        (LEDS + 1, None, r"0x11000001 is not aligned to a window of 0x1000 bytes"),
        (1 << 63, None, r"past the address space"),
        (-1, None, r"at=-1: it must be a whole number"),
        (None, 10, r"line 10 belongs to 'serial', part of the machine"),
        (None, 50, r"line 50: 'leds' has it; each device has one of its own"),
        (None, 1024, r"line 1024: devices have the lines 1 to 1023"),
        (None, 0, r"line 0: devices have the lines 1 to 1023"),
        ("x", None, r"at='x': it must be a whole number"),
    ],
)
def test_places_that_cannot_be(kernel: Path, at: Any, irq: Any, words: str) -> None:
    with VM(kernel, machine=Lab()) as vm:
        before = vm.devices.keys()
        with pytest.raises((ConfigError, BusError), match=words):
            vm.hot_add(Leds(), at=at, irq=irq)
        assert vm.devices.keys() == before
    with (
        pytest.raises((ConfigError, BusError), match=words),
        VM(kernel, machine=Lab(), devices=[Placed(Leds(), at, irq)]),
    ):
        pass


def test_boards_that_are_none(kernel: Path) -> None:
    class Foreign(Lab):
        arch = "arm64"

    class Misled(Lab):
        machine = "vrit"

    class Listing(Lab):
        def devices(self) -> Any:
            return [Leds()]

    with pytest.raises(ConfigError, match=r"machine=Lab: give a board, Lab\(\)"):
        VM(kernel, machine=Lab)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Foreign is a board of arm64, not of riscv64"):
        VM(kernel, arch="riscv64", machine=Foreign())
    with pytest.raises(ConfigError, match="no machine 'vrit'; did you mean 'virt'"):
        VM(kernel, machine=Misled())
    with pytest.raises(ConfigError, match=r"Listing.devices\(\) gives list; it is to give a dict"):
        VM(kernel, machine=Listing())
    with pytest.raises(ConfigError, match="there are two devices 'leds'"):
        VM(kernel, machine=Lab(), devices={"leds": Leds()})
    with pytest.raises(ConfigError, match="not a vmlab Device"):
        VM(kernel, devices=[Placed("x", at=0)])  # type: ignore[arg-type]
