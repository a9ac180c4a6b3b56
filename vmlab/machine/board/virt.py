"""QEMU's RISC-V machine "virt", and what of vmlab's own has no place in that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmlab.arch.riscv64 import platform
from vmlab.boot.riscv.load import Told
from vmlab.core.cmdline import Cmdline
from vmlab.core.device import Device
from vmlab.core.manager import MMIO_LEN
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.power import Power
from vmlab.devices.riscv.finisher import Finisher
from vmlab.devices.riscv.goldfish_rtc import GoldfishRtc
from vmlab.devices.timer import Timer
from vmlab.devices.uart16550 import Uart16550
from vmlab.machine.board import Described, Fixed, FixedHooks
from vmlab.machine.board.virt_description import told

if TYPE_CHECKING:
    from vmlab.machine.hotplug.placeholders import Placeholders

__all__ = ["announce", "command_line", "describe", "fixed_devices"]


class Lines(NamedTuple):
    """Of the devices that lie at the same addresses on each RISC-V board."""

    rtc: int = platform.RTC_IRQ
    power: int = platform.POWER_IRQ
    timer: int = platform.TIMER_IRQ
    hotplug: int = platform.HOTPLUG_IRQ


def fixed_devices(hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
    place = [(platform.UART_BASE, 8, 0)]
    serial = Fixed("serial", Uart16550(hooks.console), "mmio", place, platform.UART_IRQ)
    return [serial, *beside_the_serial_port(hooks, hotplug, Lines())]


def beside_the_serial_port(hooks: FixedHooks, hotplug: HotPlug, lines: Lines) -> list[Fixed]:
    found: list[Fixed] = []

    def add(id: str, device: Device, base: int, irq: int | None = None) -> None:
        found.append(Fixed(id, device, "mmio", [(base, MMIO_LEN, 0)], irq))

    finisher = Finisher(hooks.power_off, hooks.reset, hooks.fail)
    add("finisher", finisher, platform.FINISHER_BASE)
    add("rtc", GoldfishRtc(), platform.RTC_BASE, lines.rtc)
    power = Power(hooks.power_off, hooks.reset)
    add("power", power, platform.POWER_BASE, lines.power)
    add("timer0", Timer(), platform.TIMER_BASE, lines.timer)
    add("hotplug", hotplug, platform.HOTPLUG_BASE, lines.hotplug)
    return found


def describe(machine: Described) -> Told:
    return told(machine)


def command_line(text: str, engine: str) -> Cmdline:
    return Cmdline(text=text)


def announce(slots: Placeholders, cmdline: Cmdline) -> None:
    """The device tree names the windows."""
