"""Boards: an architecture, and the devices that every machine of it has.

A board is a module with the functions of `Board`. An architecture names its board (`Arch.board`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from vmlab.arch.api import Arch
from vmlab.core.cmdline import Cmdline
from vmlab.core.device import Device
from vmlab.core.manager import DeviceInfo, DeviceType
from vmlab.devices.hotplug import HotPlug

if TYPE_CHECKING:
    from vmlab.boot.fdt import Node
    from vmlab.boot.riscv.firmware import Firmware
    from vmlab.machine.hotplug.placeholders import Placeholders

__all__ = ["Board", "Described", "Fixed", "FixedHooks", "Serial", "get"]


class Serial(Protocol):
    """The device in which `vm.console` ends."""

    #: takes what the guest sends
    sink: Callable[[bytes], None] | None

    @property
    def room(self) -> int:
        """Bytes of input that would be taken now."""
        ...

    def receive(self, data: bytes) -> int:
        """Input from the host; how many bytes of it were taken."""
        ...


class FixedHooks(NamedTuple):
    """What such devices do to the machine. console: bytes that the guest sent to its serial port.
    debug_exit: None for a machine without that port. fail: the run ends with this status. screen: where a
    text screen's device tells what its registers say; None for a machine without one."""

    console: Callable[[bytes], None]
    reset: Callable[[], None]
    power_off: Callable[[], None]
    debug_exit: Callable[[int], None] | None
    fail: Callable[[int], None]
    screen: memoryview | None = None


class Fixed(NamedTuple):
    """places: (address, bytes, the device's offset there) of each range, in `space`, "port" or "mmio". kind:
    of one that the device manager gives a window and a line, as libkrun's does. shows: (address, bytes) of
    RAM that it puts on a screen."""

    id: str
    device: Device
    space: str = "mmio"
    places: list[tuple[int, int, int]] = []
    irq: int | None = None
    kind: DeviceType | None = None
    shows: tuple[int, int] | None = None


class Described(NamedTuple):
    """What of a machine its guest is told. linux: the guest is one; slots: windows that it knows from the
    start, for one without ACPI; windows: those that hold something. gic: the version of an arm64
    machine's; tree: a device tree of the user's own. screen: it has a text screen. firmware: a RISC-V
    machine's, where it was said. compatible: of devices that say what they are to a device tree, by id."""

    cpus: int
    linux: bool
    slots: int
    windows: dict[tuple[DeviceType, str], DeviceInfo]
    gic: int = 2
    tree: Node | None = None
    arch: str = ""
    screen: bool = False
    firmware: Firmware | None = None
    compatible: dict[str, str] = {}


class Board(Protocol):
    def fixed_devices(self, hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
        """In the order of their places in the counter page; the one that `Arch.serial` names is a Serial."""
        ...

    def describe(self, machine: Described) -> Any:
        """What a guest finds in memory of its machine, for the architecture's `place`; each time that it
        starts."""
        ...

    def command_line(self, text: str, engine: str) -> Cmdline:
        """A Linux guest's: `text`, and what that kernel must be told of this board on that engine."""
        ...

    def announce(self, slots: Placeholders, cmdline: Cmdline) -> None:
        """Tell a Linux without ACPI of its slots by the command line, where `describe` does not."""
        ...


def get(arch: Arch) -> Board:
    """The architecture's board."""
    return cast("Board", import_module(arch.board))
