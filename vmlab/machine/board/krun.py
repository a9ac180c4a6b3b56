"""The machine that an arm64 guest has: libkrun's, and what of vmlab's own has no place in that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.arch.arm64 import platform
from vmlab.boot.arm64.load import Told
from vmlab.core.cmdline import Cmdline
from vmlab.core.device import Device
from vmlab.core.manager import MMIO_LEN, DeviceType
from vmlab.devices.arm.efi_time import EfiTime
from vmlab.devices.arm.pl011 import Pl011
from vmlab.devices.arm.pl031 import Pl031
from vmlab.devices.arm.pl061 import Pl061
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.pc.debug_exit import DebugExit
from vmlab.devices.power import Power
from vmlab.devices.timer import Timer
from vmlab.machine.board import Described, Fixed, FixedHooks
from vmlab.machine.board.krun_description import told

if TYPE_CHECKING:
    from vmlab.machine.hotplug.placeholders import Placeholders

__all__ = ["announce", "command_line", "describe", "fixed_devices"]

#: With more in the device tree than /chosen a kernel takes its devices from there, unless it is told: one
#: that has ACPI is to take them from that, since it can be told of more while it runs. One that has not does
#: not mind.
_ARGUMENTS = ("acpi=force",)


def fixed_devices(hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
    found = [
        Fixed("serial", Pl011(hooks.console), kind=DeviceType.SERIAL),
        Fixed("rtc", Pl031(), kind=DeviceType.RTC),
        Fixed("gpio", Pl061(), kind=DeviceType.GPIO),
    ]

    def add(id: str, device: Device, base: int, irq: int | None = None) -> None:
        found.append(Fixed(id, device, "mmio", [(base, MMIO_LEN, 0)], irq))

    if hooks.debug_exit is not None:
        add("debug-exit", DebugExit(hooks.debug_exit), platform.DEBUG_EXIT_BASE)
    power = Power(hooks.power_off, hooks.reset)
    add("power", power, platform.POWER_BASE, platform.POWER_IRQ)
    add("timer0", Timer(), platform.TIMER_BASE, platform.TIMER_IRQ)
    add("hotplug", hotplug, platform.HOTPLUG_BASE, platform.HOTPLUG_IRQ)
    add("clock", EfiTime(), platform.CLOCK_BASE)
    return found


def describe(machine: Described) -> Told:
    return told(machine)


def command_line(text: str, engine: str) -> Cmdline:
    """`text`, and those of _ARGUMENTS whose key is not in it."""
    line = Cmdline(text=text)
    given = {word.partition("=")[0] for word in text.split()}
    for argument in _ARGUMENTS:
        if argument.partition("=")[0] not in given:
            line.insert_str(argument)
    return line


def announce(slots: Placeholders, cmdline: Cmdline) -> None:
    """The device tree names the windows."""
