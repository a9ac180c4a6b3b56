"""The machine "virt": what its guests find, and how they end it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.dtc import source
from tests.boot.images import elf64
from vmlab import VM
from vmlab.arch import machine
from vmlab.arch.riscv64 import platform
from vmlab.boot import fdt
from vmlab.core.manager import DeviceInfo, DeviceType
from vmlab.errors import BusError, ConfigError, KernelError
from vmlab.machine.board import Described
from vmlab.machine.board.virt_description import told
from vmlab.virtio import Rng

pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")

RAM, SBI = platform.RAM_BASE, platform.SBI_ENTRY
#: lui a1,0x10000; li a0,'H'; sb a0,(a1); li a0,'i'; sb a0,(a1); then jump back to itself
HELLO = (0x1000_05B7, 0x0480_0513, 0x00A5_8023, 0x0690_0513, 0x00A5_8023)
STAY = (0x0000_006F,)
#: lui a1,0x100; lui a0,HIGH; addi a0,a0,LOW; sw a0,(a1)
WIDTHS = pytest.mark.parametrize("arch", ["riscv64", "riscv32"])


def finishing(value: int) -> tuple[int, ...]:
    low = value & 0xFFF
    high = (value + 0x800 >> 12 & 0xFFFFF) << 12
    return (0x0010_05B7, 0x537 | high, low << 20 | 0x5_0513, 0x00A5_A023)


#: li a7,2; ecall; li a7,1; bltz a0,-12; ecall; j -20: what is typed is echoed by the legacy calls
ECHO = (0x0020_0893, 0x0000_0073, 0x0010_0893, 0xFE05_4AE3, 0x0000_0073, 0xFEDF_F06F)


def kernel(tmp_path: Path, arch: str, words: tuple[int, ...], at: int = RAM) -> Path:
    code = struct.pack(f"<{len(words)}I", *words)
    path = tmp_path / "kernel.elf"
    if arch == "riscv64":
        path.write_bytes(elf64(code, note=b"", machine=243, address=at, entry=at))
        return path
    head = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, 243, 1, at, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    head += struct.pack("<8I", 1, 84, at, at, len(code), len(code), 7, 4096)
    path.write_bytes(head + code)
    return path


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[VM]:
    with VM(kernel(tmp_path, "riscv64", (*HELLO, *STAY)), memory="16M") as vm:
        vm.console.expect("Hi")
        yield vm


@WIDTHS
def test_a_kernel_says_what_it_is_for(tmp_path: Path, arch: str) -> None:
    with VM(kernel(tmp_path, arch, (*HELLO, *STAY)), memory="16M") as vm:
        assert (vm.config.arch, vm.engine) == (arch, "soft")
        vm.console.expect("Hi")
        assert vm.traps["serial"].registers["THR"].writes == 2


@WIDTHS
@pytest.mark.parametrize(
    ("value", "reason", "code"),
    [(0x5555, "poweroff", 0), (0x2A_3333, "fail", 42), (0xFFFF_3333, "fail", 0xFFFF)],
)
def test_a_guest_ends_the_run(
    tmp_path: Path, arch: str, value: int, reason: str, code: int
) -> None:
    with VM(kernel(tmp_path, arch, finishing(value)), memory="16M") as vm:
        vm.wait_until(lambda v: v.exit is not None)
        assert vm.exit is not None
        assert (vm.exit.reason, vm.exit.code) == (reason, code)


@WIDTHS
def test_the_firmware_is_the_machine_s(tmp_path: Path, arch: str) -> None:
    with VM(kernel(tmp_path, arch, ECHO, SBI), memory="16M") as vm:
        vm.console.send("echo me")
        vm.console.expect("echo me")


def test_the_usual_memory(tmp_path: Path) -> None:
    """As QEMU's machine has it: xv6 takes it for granted."""
    assert VM(kernel(tmp_path, "riscv64", STAY)).config.memory == 128 << 20


def test_the_map(hello: VM) -> None:
    hello.hot_add(Rng(), "rng0")
    found = {row.name: row.start for row in hello.address_map}
    assert found["serial"] == 0x1000_0000
    assert (found["finisher"], found["rtc"]) == (0x10_0000, 0x10_1000)
    assert (found["clint"], found["plic"]) == (0x200_0000, 0xC00_0000)
    assert found["rng0"] == 0x1000_1000
    lines = {row.device: row.line for row in hello.irqs}
    assert (lines["serial"], lines["rtc"], lines["rng0"]) == (10, 11, 1)


class Old(Rng):
    legacy = True


class New(Rng):
    legacy = False


@WIDTHS
def test_versions_of_the_transport(tmp_path: Path, arch: str) -> None:
    """The usual one of its books' drivers, unless a device says otherwise."""
    devices = {
        "usual": Rng(),
        "old": Old(),
        "new": New(),
        "told old": New(legacy=True),
        "told new": Old(legacy=False),
    }
    with VM(kernel(tmp_path, arch, STAY), memory="16M", devices=devices, isolate=False) as vm:
        versions = [vm.devices[name].peek()["Version"] for name in devices]
        assert versions == [1 if arch == "riscv32" else 2, 1, 2, 1, 2]


def storing(register: int) -> int:
    """sw a0,REGISTER(a1)"""
    return register >> 5 << 25 | 0x00A5_A023 | (register & 0x1F) << 7


#: a1 = the first window; Status = 0, 1, 3; GuestPageSize = 0x1000
OLD_DRIVER = (
    *(
        0x1000_15B7,
        0x0000_0513,
        storing(0x70),
        0x0010_0513,
        storing(0x70),
        0x0030_0513,
        storing(0x70),
    ),
    *(0x0000_1537, storing(0x28)),
)


@WIDTHS
def test_how_far_a_driver_is(tmp_path: Path, arch: str) -> None:
    code = (*OLD_DRIVER, *HELLO, *STAY)
    with VM(kernel(tmp_path, arch, code), memory="16M", devices={"rng0": Rng()}) as vm:
        vm.console.expect("Hi")
        found = vm.devices["rng0"].checklist()
        assert [found[name].done for name in ("reset", "ACKNOWLEDGE", "DRIVER")] == [True] * 3
        if arch == "riscv32":
            assert (found.version, found["GuestPageSize"].state) == (1, "done")
            assert found["features"].state == "missing"
        else:
            assert "the driver is one for version 1" in found["identify"].note
            assert found["FEATURES_OK"].note == "FEATURES_OK was never set"


def test_eight_virtio_devices_fit(hello: VM) -> None:
    for number in range(8):
        hello.hot_add(Rng(), f"r{number}")
    with pytest.raises(BusError):
        hello.hot_add(Rng(), "r8")


def test_dtc_finds_nothing_wrong_with_the_tree(tmp_path: Path) -> None:
    windows = {
        (DeviceType.SERIAL, "serial"): DeviceInfo(platform.UART_BASE, 0x100, platform.UART_IRQ),
        (DeviceType.virtio(2), "disk0"): DeviceInfo(platform.WINDOWS_BASE, 0x1000, 1),
    }
    tree = told(Described(2, True, 0, windows, arch="riscv64")).tree
    memory = fdt.Node(
        "memory@80000000",
        {"device_type": fdt.text("memory"), "reg": fdt.reg(1 << 31, 1 << 28)},
        [],
    )
    found = source(fdt.flatten(tree._replace(children=[*tree.children, memory])), tmp_path)
    assert "riscv,plic0" in found
    assert '"virtio,mmio"' in found


def test_what_it_cannot_be(tmp_path: Path) -> None:
    path = kernel(tmp_path, "riscv64", STAY)
    with pytest.raises(KernelError, match="made for riscv64; this machine is riscv32"):
        VM(path, arch="riscv32")
    with pytest.raises(ConfigError, match="8"):
        VM(path, cpus=9)
    with pytest.raises(ConfigError):
        VM(path, gic=2)
    assert machine("riscv64").name == "riscv64"


@WIDTHS
def test_an_empty_transport_is_there(tmp_path: Path, arch: str) -> None:
    """As QEMU has it: magic, version and vendor, and DeviceID 0; each window keeps its line."""
    with VM(kernel(tmp_path, arch, STAY), memory="16M", isolate=False) as vm:
        vm.connection.up()
        bus = vm.connection.session._controller.machine.mmio  # type: ignore[union-attr]

        def words(window: int) -> list[int]:
            return [
                bus.read(platform.WINDOWS_BASE + window * 0x1000 + at, 4) for at in (0, 4, 8, 12)
            ]

        version = 1 if arch == "riscv32" else 2
        empty = [0x7472_6976, version, 0, 0x554D_4551]
        assert [words(window) for window in range(8)] == [empty] * 8
        vm.hot_add(Rng(), "r", at=platform.WINDOWS_BASE + 0x3000)
        assert words(3) == [0x7472_6976, version, 4, 0x554D_4551]
        assert next(row.line for row in vm.irqs if row.device == "r") == 4
        assert [words(window) for window in (2, 4)] == [empty] * 2
        vm.hot_remove("r")
        assert words(3) == empty
        assert vm.devices.keys() & {"placeholder0"} == set()
        vm.hot_add(Rng(), "s")
        assert next(row.line for row in vm.irqs if row.device == "s") == 1
