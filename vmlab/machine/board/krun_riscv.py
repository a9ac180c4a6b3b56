"""libkrun's RISC-V machine, for Linux: its windows and lines, its serial port in the first of them. What that
has not lies where QEMU's "virt" has it, the interrupt controllers too: libkrun's AIA is KVM's."""

from __future__ import annotations

from vmlab.arch.riscv64 import platform
from vmlab.boot.riscv.load import Told
from vmlab.core.manager import DeviceType
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.uart16550 import Uart16550
from vmlab.machine.board import Described, Fixed, FixedHooks
from vmlab.machine.board.virt import Lines, announce, beside_the_serial_port, command_line
from vmlab.machine.board.virt_description import Places, told

__all__ = ["announce", "command_line", "describe", "fixed_devices"]


LINES = Lines(
    platform.KRUN_RTC_IRQ,
    platform.KRUN_POWER_IRQ,
    platform.KRUN_TIMER_IRQ,
    platform.KRUN_HOTPLUG_IRQ,
)


def fixed_devices(hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
    serial = Fixed("serial", Uart16550(hooks.console), kind=DeviceType.SERIAL)
    return [serial, *beside_the_serial_port(hooks, hotplug, LINES)]


def describe(machine: Described) -> Told:
    serial = machine.windows[DeviceType.SERIAL, "serial"]
    assert serial.irq is not None
    return told(machine, Places(serial.addr, serial.irq, LINES.rtc))
