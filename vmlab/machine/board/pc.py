"""The devices that every machine has, where a PC has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vmlab.arch.x86_64 import platform
from vmlab.core.device import Device
from vmlab.core.manager import MMIO_LEN
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.pc.cmos_rtc import CmosRtc
from vmlab.devices.pc.debug_exit import DebugExit
from vmlab.devices.pc.i8042 import I8042
from vmlab.devices.power import Power
from vmlab.devices.timer import Timer
from vmlab.devices.uart16550 import Uart16550

__all__ = ["Fixed", "FixedHooks", "fixed_devices"]


class FixedHooks(NamedTuple):
    """What such devices do to the machine. debug_exit: None for a machine without that port."""

    reset: Callable[[], None]
    power_off: Callable[[], None]
    debug_exit: Callable[[int], None] | None


class Fixed(NamedTuple):
    """places: (address, bytes, the device's offset there) of each range, in `space`, "port" or "mmio"."""

    id: str
    device: Device
    space: str
    places: list[tuple[int, int, int]]
    irq: int | None = None


def fixed_devices(hooks: FixedHooks, uart: Uart16550, hotplug: HotPlug) -> list[Fixed]:
    """In the order of their places in the counter page."""
    keyboard = [(platform.I8042_DATA, 1, 0), (platform.I8042_STATUS, 1, 4)]
    found = [
        Fixed("com1", uart, "port", [(platform.COM1_PORT, 8, 0)], platform.COM1_IRQ),
        Fixed("i8042", I8042(hooks.reset), "port", keyboard),
        Fixed("rtc", CmosRtc(), "port", [(platform.RTC_PORT, 2, 0)]),
    ]
    if hooks.debug_exit is not None:
        end = DebugExit(hooks.debug_exit)
        found.append(Fixed("debug-exit", end, "port", [(platform.DEBUG_EXIT_PORT, 4, 0)]))
    power = Power(hooks.power_off, hooks.reset)
    found.append(Fixed("power", power, "port", [(platform.POWER_PORT, 4, 0)], platform.POWER_IRQ))
    for id, device, base, irq in (
        ("timer0", Timer(), platform.TIMER_BASE, platform.TIMER_IRQ),
        ("hotplug", hotplug, platform.HOTPLUG_BASE, platform.HOTPLUG_IRQ),
    ):
        found.append(Fixed(id, device, "mmio", [(base, MMIO_LEN, 0)], irq))
    return found
