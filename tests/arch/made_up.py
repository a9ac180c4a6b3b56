"""An architecture that nobody has, its board, and an engine that runs it: what stands above the seam must
work from the seam alone.

A kernel of it is text, one access a line: `write ADDRESS SIZE VALUE` or `read ADDRESS SIZE`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vmlab.arch.api import Dialect, Reserved, Windows
from vmlab.core.cmdline import Cmdline
from vmlab.core.counters import EXIT_KINDS
from vmlab.core.memory import GuestMemory
from vmlab.devices.hotplug import HotPlug
from vmlab.devices.uart16550 import Uart16550
from vmlab.engine.api import EngineConfig
from vmlab.machine.board import Described, Fixed, FixedHooks
from vmlab.machine.hotplug.placeholders import Placeholders

RAM, SERIAL, HOTPLUG, WINDOWS = 0x8000_0000, 0x1000_0000, 0x1000_1000, 0x4000_0000


class Kernel(NamedTuple):
    name: str
    text: bytes
    linux: bool = False


class State(NamedTuple):
    start: int


class Toy:
    name = "toy"
    port_bits = None
    address_bits = 32
    windows = Windows(WINDOWS, (8, 11), last_irq=31, end=WINDOWS + 0x4_0000)
    program_counter = "ip"
    registers = ("acc", "ip")
    flags: dict[str, tuple[tuple[int, str], ...]] = {}
    reserved = (Reserved(0x2000_0000, 0x2000_FFFF, "intc"),)
    serial = "tty0"
    hotplug = HOTPLUG
    transports = 0
    has_tree = False
    has_screen = False
    usual_memory = "64M"
    buttons = ()
    machine = "paper"
    board = __name__
    dialect = Dialect()

    def code_mode(self, regs: Mapping[str, int]) -> str:
        return self.name

    def ram_layout(self, size: int) -> list[tuple[int, int]]:
        return [(RAM, size)]

    def read_image(self, path: str, limit: int) -> bytes:
        return Path(path).read_bytes()

    def check_files(self, kernel: str, initrd: str | None, memory: int) -> str:
        return ""

    def parse(self, image: bytes, name: str, limit: int) -> Kernel:
        return Kernel(name, image)

    def place(
        self, memory: GuestMemory, kernel: Kernel, cmdline: Any, initrd: Any, tables: Any
    ) -> State:
        memory.write(RAM, kernel.text)
        return State(RAM)


ARCH = Toy()
BOARDS = {ARCH.machine: ARCH}

# --- its board ----------------------------------------------------------------------------------------


def fixed_devices(hooks: FixedHooks, hotplug: HotPlug) -> list[Fixed]:
    return [
        Fixed("tty0", Uart16550(hooks.console), "mmio", [(SERIAL, 8, 0)], 3),
        Fixed("hotplug", hotplug, "mmio", [(HOTPLUG, 0x1000, 0)], 4),
    ]


def describe(machine: Described) -> None:
    return None


def announce(slots: Placeholders, cmdline: Cmdline) -> None:
    """There are none."""


def command_line(text: str, engine: str) -> Cmdline:
    return Cmdline(text=text)


# --- its engine ---------------------------------------------------------------------------------------


def available() -> tuple[bool, str]:
    return True, "it is made up"


class Line:
    def set(self, level: bool) -> None:
        return None

    def pulse(self) -> None:
        return None

    def close(self) -> None:
        """Nothing to let go of."""


class Paper:
    """Carries out a kernel's lines on one thread, and then waits."""

    name, cpus, gic = "paper", 1, 0

    def __init__(self, config: EngineConfig) -> None:
        self._memory, self._bus = config.memory, config.mmio
        self._exits = config.exits(0)
        self._state: State | None = None
        self._acc = self._done = 0
        self._go, self._over, self._idle = threading.Event(), False, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        assert self._state is not None
        text = bytes(self._memory.view(self._state.start, 4096)).partition(b"\0")[0].decode()
        for line in text.splitlines():
            self._idle.set()
            self._go.wait()
            if self._over:
                return
            verb, *numbers = line.split()
            address, size, *value = (int(number, 0) for number in numbers)
            self._exits[6] += 1  # KVM's number of an MMIO exit
            if verb == "read":
                self._acc = self._bus.read(address, size)
            else:
                self._bus.write(address, size, value[0] if value else self._acc)
            self._done += 1
        self._idle.set()

    @property
    def exits(self) -> dict[str, int]:
        assert len(self._exits) == EXIT_KINDS  # type: ignore[arg-type]
        return {"mmio": self._exits[6]}

    def irq_sink(self, gsi: int) -> Line:
        return Line()

    def doorbell(
        self, address: int, size: int, match: int | None, ring: Callable[[int], None]
    ) -> Line:
        return Line()

    def load(self, state: State) -> None:
        self._state = state

    def start(self) -> None:
        self._go.set()
        self._thread.start()

    def pause(self, timeout: float | None = None) -> bool:
        self._go.clear()
        return True

    def request_pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def park(self) -> bool:
        self._go.wait()
        return not self._over

    def step(self, cpu: int = 0) -> bool:
        return False

    def current_cpu(self) -> int:
        return 0

    def cpu_here(self) -> int | None:
        return 0

    def access_here(self, port: bool = False) -> tuple[int, int | None]:
        return 0, None

    def watch_interrupts(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        """It has none."""

    def program_counter(self, port: bool = False) -> int | None:
        return None

    def get_regs(self, cpu: int = 0) -> dict[str, int]:
        assert self._state is not None
        return {"acc": self._acc, "ip": self._state.start + self._done}

    def set_regs(self, cpu: int, values: Mapping[str, int]) -> None:
        self._acc = values["acc"]

    def close(self) -> None:
        self._over = True
        self._go.set()
        if self._thread.is_alive():
            self._thread.join()
