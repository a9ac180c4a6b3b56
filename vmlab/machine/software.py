"""What a machine runs: its kernel and what goes with it, read once, put into memory at each start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.boot.image import read_initrd, read_tree
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError
from vmlab.machine import board
from vmlab.machine.board import Described
from vmlab.machine.config import MachineConfig

if TYPE_CHECKING:
    from vmlab.engine.api import Engine
    from vmlab.machine.device_manager import DeviceManager

__all__ = ["Software"]


class Software:
    """Kernel, initrd, device tree, firmware and command line. ConfigError, and the loaders' errors, when one
    of them cannot be booted. board: the functions of the board that it is told of; screen: whether the
    machine has a text screen."""

    def __init__(self, config: MachineConfig) -> None:
        self._config = config
        self._arch = config.platform
        image = self._arch.read_image(config.kernel, config.memory)
        self._kernel = self._arch.parse(image, config.kernel, config.memory)
        self._initrd = read_initrd(config.initrd, config.memory) if config.initrd else None
        self._tree = read_tree(config.dtb) if config.dtb else None
        self.screen = self._has_screen()
        self._firmware = config.read_firmware()
        self.board = board.get(self._arch)
        self.cmdline = Cmdline()

    @property
    def linux(self) -> bool:
        return bool(self._kernel.linux)

    def _has_screen(self) -> bool:
        """Whether there is a text screen; what was asked for, else what the kernel expects."""
        if self._config.screen and self.linux:
            raise ConfigError("screen: a Linux here has none; its console is the serial port")
        if self._config.screen is None:
            return bool(getattr(self._kernel, "screen", False))
        return self._config.screen

    def write_cmdline(self, engine: str) -> None:
        """What was asked for; for a Linux, with what it must be told of that engine."""
        text = self._config.cmdline
        self.cmdline = self.board.command_line(text, engine) if self.linux else Cmdline(text=text)

    def prepare_slots(self, devices: DeviceManager) -> None:
        """Where it finds devices that come later."""
        if not self.linux:
            if self._arch.transports:
                devices.keep_windows(self._arch.transports, kept=False)
            return
        slots = self._arch.transports or self._config.slots
        if slots:
            # without ACPI it has the 8259As' lines, which are edges, and the windows that it is told of
            devices.manager.lines.shared = range(0)
            devices.manager.slots = slots
            devices.keep_windows(slots, kept=True)
            self.board.announce(devices.reserve, self.cmdline)
        else:
            devices.hotplug.acpi = devices.manager.paired = True

    def load(self, memory: GuestMemory, engine: Engine, devices: DeviceManager) -> None:
        """Into memory, with what it is told of the machine; the CPUs are at its entry."""
        told = self.board.describe(
            Described(
                *(self._config.cpus, self.linux, self._config.slots),
                devices.manager.get_device_info(),
                gic=engine.gic,
                tree=self._tree,
                arch=self._arch.name,
                screen=self.screen,
                firmware=self._firmware,
                compatible=devices.compatible(),
            )
        )
        state = self._arch.place(memory, self._kernel, self.cmdline, self._initrd, told)
        engine.load(state)
