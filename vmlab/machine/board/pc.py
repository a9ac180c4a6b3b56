"""The PC that an x86_64 machine is: its fixed devices, where a PC has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.arch.x86_64 import platform, text_mode
from vmlab.boot.x86_64.load import Told
from vmlab.core.cmdline import Cmdline
from vmlab.core.manager import MMIO_LEN
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.pc.cmos_rtc import CmosRtc
from vmlab.devices.pc.debug_exit import DebugExit
from vmlab.devices.pc.i8042 import I8042
from vmlab.devices.pc.system_control import SystemControl
from vmlab.devices.pc.text_screen import TextScreen
from vmlab.devices.power import Power
from vmlab.devices.timer import Timer
from vmlab.devices.uart16550 import Uart16550
from vmlab.machine.board import Described, Fixed, FixedHooks
from vmlab.machine.board.pc_description import told

if TYPE_CHECKING:
    from vmlab.machine.hotplug.placeholders import Placeholders

__all__ = ["SOFT_ARGUMENTS", "announce", "command_line", "describe", "fixed_devices"]

#: What the software engine's CPU wants of a Linux, unless the command line says otherwise. Its time stamp
#: counter is the host's and needs no other clock to watch it.
SOFT_ARGUMENTS = ("tsc=reliable",)


def fixed_devices(hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
    typed_at = hooks.screen is not None
    keyboard = [(platform.I8042_DATA, 1, 0), (platform.I8042_STATUS, 1, 4)]
    keyboard_irq = platform.I8042_IRQ if typed_at else None
    serial = Uart16550(hooks.console)
    found = [
        Fixed("com1", serial, "port", [(platform.COM1_PORT, 8, 0)], platform.COM1_IRQ),
        Fixed("i8042", I8042(hooks.reset, typed_at), "port", keyboard, keyboard_irq),
        Fixed("rtc", CmosRtc(), "port", [(platform.RTC_PORT, 2, 0)]),
    ]
    if hooks.screen is not None:
        found += _screen(hooks, hooks.screen)
        hotplug.shares_line = True
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


def _screen(hooks: FixedHooks, shown: memoryview) -> list[Fixed]:
    places = [(platform.CRTC_PORT, 2, 0), (platform.CRTC_STATUS_PORT, 1, 6)]
    cells = text_mode.MEMORY, text_mode.MEMORY_SIZE
    control = [(platform.SYSTEM_CONTROL_PORT, 1, 0)]
    return [
        Fixed("screen", TextScreen(shown), "port", places, shows=cells),
        Fixed("port92", SystemControl(hooks.reset), "port", control),
    ]


def describe(machine: Described) -> Told:
    return told(machine.cpus, machine.linux)._replace(screen=machine.screen)


def command_line(text: str, engine: str) -> Cmdline:
    """`text`, and for the software engine those of SOFT_ARGUMENTS whose key is not in it."""
    line = Cmdline(text=text)
    given = {word.partition("=")[0] for word in text.split()}
    if engine == "soft":
        for argument in SOFT_ARGUMENTS:
            if argument.partition("=")[0] not in given:
                line.insert_str(argument)
    return line


def announce(slots: Placeholders, cmdline: Cmdline) -> None:
    slots.add_to_cmdline(cmdline)
