"""The kernels' headers and the machines' Python name the same addresses, lines and registers."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.support import ROOT
from vmlab.arch import machine
from vmlab.core.device import Device
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.riscv import finisher
from vmlab.devices.riscv.goldfish_rtc import GoldfishRtc
from vmlab.devices.timer import Timer
from vmlab.engine.soft.riscv import plic
from vmlab.vm import VM

KERNELS = ROOT / "kernels"
DEFINITION = re.compile(r"^#define (\w+) +(0x[0-9a-fA-F]+|\d+)\b", re.MULTILINE)
ARCHES = ["x86_64", "arm64", "riscv64"]


def header(path: str) -> dict[str, int]:
    """The numbers that a header names."""
    return {name: int(value, 0) for name, value in DEFINITION.findall((KERNELS / path).read_text())}


def layout(arch: str) -> dict[str, int]:
    return header(f"arch/{arch}/layout.h")


@pytest.mark.parametrize("arch", ARCHES)
def test_what_both_name_is_the_same(arch: str) -> None:
    said = layout(arch)
    platform = import_module(f"vmlab.arch.{arch}.platform")
    shared = {name: getattr(platform, name) for name in said if hasattr(platform, name)}
    assert {"TIMER_BASE", "TIMER_IRQ", "HOTPLUG_BASE", "HOTPLUG_IRQ"} <= shared.keys()
    numbers = {name: value for name, value in shared.items() if isinstance(value, int)}
    assert numbers == {name: said[name] for name in numbers}


@pytest.mark.parametrize("arch", ARCHES)
def test_the_windows_are_inside_those_of_the_machine(arch: str) -> None:
    said, windows = layout(arch), machine(arch).windows
    assert said["DEVICE_BASE"] >= windows.base
    first, last = windows.irq_interval
    assert first <= said["DEVICE_FIRST_IRQ"]
    assert said["DEVICE_FIRST_IRQ"] + said["DEVICE_COUNT"] - 1 <= last


def test_riscv64_says_where_virt_is() -> None:
    from vmlab.arch.riscv64 import platform as p

    said = layout("riscv64")
    assert {
        "KERNEL_BASE": p.SBI_ENTRY,
        "SERIAL_BASE": p.UART_BASE,
        "SERIAL_IRQ": p.UART_IRQ,
        "DEVICE_BASE": p.WINDOWS_BASE,
        "DEVICE_FIRST_IRQ": p.LINES[0],
        "DEVICE_COUNT": p.LINES[1] - p.LINES[0] + 1,
        "LINES": plic.SOURCES,
        "FINISHER_PASS": finisher.PASS,
        "FINISHER_FAIL": finisher.FAIL,
    }.items() <= said.items()
    assert said["DEVICE_BASE"] + said["DEVICE_COUNT"] * said["DEVICE_SIZE"] == p.WINDOWS_END
    assert {
        "RAM_BASE",
        "CLINT_BASE",
        "CLINT_SIZE",
        "PLIC_BASE",
        "PLIC_SIZE",
        "TICK_HZ",
    } < said.keys()
    rtc = header("monitor/riscv64/own.c")
    assert rtc["SECOND"] == 1_000_000_000
    assert (GoldfishRtc.regs.TIME_LOW.offset, GoldfishRtc.regs.TIME_HIGH.offset) == (0, 4)


@pytest.mark.parametrize("arch", ARCHES)
def test_every_fixed_device_is_where_the_kernels_look(arch: str) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")
    said = layout(arch)
    with VM("monitor", arch=arch, engine="soft") as vm:
        found = {row.name: row.start for row in vm.address_map}
        lines = {row.device: row.line for row in vm.irqs}
    assert (found["timer0"], lines["timer0"]) == (said["TIMER_BASE"], said["TIMER_IRQ"])
    assert (found["hotplug"], lines["hotplug"]) == (said["HOTPLUG_BASE"], said["HOTPLUG_IRQ"])
    for name, prefix in (
        ("serial", "SERIAL"),
        ("rtc", "RTC"),
        ("gpio", "GPIO"),
        ("finisher", "FINISHER"),
    ):
        if f"{prefix}_BASE" in said and name in found:
            assert found[name] == said[f"{prefix}_BASE"]
            assert lines.get(name) == said.get(f"{prefix}_IRQ")


#: what the header calls otherwise, for its names are all in one room
OTHERWISE = {"HOTPLUG_SIZE": "HOTPLUG_WINDOW_SIZE", "HOTPLUG_IRQ": "HOTPLUG_LINE"}


@pytest.mark.parametrize(
    ("prefix", "device", "least"), [("TIMER_", Timer, 7), ("HOTPLUG_", HotPlug, 12)]
)
def test_registers_of_vmlab_s_own_devices(prefix: str, device: type[Device], least: int) -> None:
    said = header("common/platform.h")
    registers = {
        OTHERWISE.get(prefix + name, prefix + name): one.offset
        for name, one in vars(device.regs).items()
        if hasattr(one, "offset") and prefix + name not in OTHERWISE.values()
    }
    known = {name: offset for name, offset in registers.items() if name in said}
    assert len(known) >= least
    assert known == {name: said[name] for name in known}
