"""libkrun's RISC-V machine, for Linux: its windows and lines, its serial port in the first of them. What that
has not lies where QEMU's "virt" has it, the interrupt controllers too: libkrun's AIA is KVM's."""

from __future__ import annotations

from vmlab.arch.riscv64 import platform
from vmlab.boot.riscv.load import Told
from vmlab.core.device import Device
from vmlab.core.manager import MMIO_LEN, DeviceType
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.power import Power
from vmlab.devices.riscv.finisher import Finisher
from vmlab.devices.riscv.goldfish_rtc import GoldfishRtc
from vmlab.devices.timer import Timer
from vmlab.devices.uart16550 import Uart16550
from vmlab.machine.board import Described, Fixed, FixedHooks
from vmlab.machine.board.virt import announce, command_line
from vmlab.machine.board.virt_description import Places, told

__all__ = ["announce", "command_line", "describe", "fixed_devices"]


def fixed_devices(hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
    found = [Fixed("serial", Uart16550(hooks.console), kind=DeviceType.SERIAL)]

    def add(id: str, device: Device, base: int, irq: int | None = None) -> None:
        found.append(Fixed(id, device, "mmio", [(base, MMIO_LEN, 0)], irq))

    finisher = Finisher(hooks.power_off, hooks.reset, hooks.fail)
    add("finisher", finisher, platform.FINISHER_BASE)
    add("rtc", GoldfishRtc(), platform.RTC_BASE, platform.KRUN_RTC_IRQ)
    power = Power(hooks.power_off, hooks.reset)
    add("power", power, platform.POWER_BASE, platform.KRUN_POWER_IRQ)
    add("timer0", Timer(), platform.TIMER_BASE, platform.KRUN_TIMER_IRQ)
    add("hotplug", hotplug, platform.HOTPLUG_BASE, platform.KRUN_HOTPLUG_IRQ)
    return found


def describe(machine: Described) -> Told:
    serial = machine.windows[DeviceType.SERIAL, "serial"]
    assert serial.irq is not None
    return told(machine, Places(serial.addr, serial.irq, platform.KRUN_RTC_IRQ))
