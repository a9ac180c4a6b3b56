"""Boards: an architecture, and the devices that every machine of it has.

A board is a module with the functions of `Board`. An architecture names its board (`Arch.board`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from vmlab.arch.api import Arch
from vmlab.core.cmdline import Cmdline
from vmlab.core.device import Device
from vmlab.devices.hotplug import HotPlug

__all__ = ["Board", "Fixed", "FixedHooks", "Serial", "get"]


class Serial(Protocol):
    """The device in which `vm.console` ends."""

    @property
    def room(self) -> int:
        """Bytes of input that would be taken now."""
        ...

    def receive(self, data: bytes) -> int:
        """Input from the host; how many bytes of it were taken."""
        ...


class FixedHooks(NamedTuple):
    """What such devices do to the machine. console: bytes that the guest sent to its serial port.
    debug_exit: None for a machine without that port."""

    console: Callable[[bytes], None]
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


class Board(Protocol):
    def fixed_devices(self, hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
        """In the order of their places in the counter page; the one that `Arch.serial` names is a Serial."""
        ...

    def describe(self, cpus: int, linux: bool) -> Any:
        """What a guest finds in memory of its machine, for the architecture's `place`."""
        ...

    def command_line(self, text: str, engine: str) -> Cmdline:
        """A Linux guest's: `text`, and what that kernel must be told of this board on that engine."""
        ...


def get(arch: Arch) -> Board:
    """The architecture's board."""
    return cast("Board", import_module(arch.board))
