"""What a machine is made from, and what can be said of it: plain records, fit for the wire."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, get_args

from msgspec import Struct

from vmlab.arch import DEFAULT
from vmlab.arch import machine as machine_of
from vmlab.arch.api import Arch
from vmlab.core.memory import check_size
from vmlab.errors import ConfigError
from vmlab.hints import perhaps

if TYPE_CHECKING:
    from vmlab.boot.riscv.firmware import Firmware

__all__ = [
    "ENDED",
    "MAX_CPUS",
    "STATES",
    "BusyCall",
    "CommandEntry",
    "DeviceEntry",
    "Exit",
    "Fault",
    "FieldEntry",
    "MachineConfig",
    "Range",
    "RegisterEntry",
    "StateName",
]

#: what a machine can be doing; the counter page holds the index
StateName = Literal["created", "running", "paused", "stopped", "crashed"]
STATES: tuple[StateName, ...] = get_args(StateName)
#: those of a machine that runs no more
ENDED = ("stopped", "crashed")
MAX_CPUS = 8
ENGINES = ("auto", "kvm", "soft")
GIC_VERSIONS = (2, 3)


class MachineConfig(Struct, frozen=True):
    """kernel: an absolute path. engine: "auto", "kvm" or "soft". memory: bytes. debug_exit: whether
    the guest can end the machine by the debug-exit port. slots: how many windows a Linux without ACPI is
    told of beforehand. arch: the guest's architecture, by its name in `vmlab.arch`. gic: the version of an
    arm64 machine's interrupt controller; dtb: the path of a device tree in place of its own. screen: whether
    a PC has a text screen and a keyboard; None: if its kernel is one that expects them. machine: the
    name of a board of the architecture's; None: the usual one. firmware: a RISC-V machine's: a file's path,
    "none" or "sbi"; None: as the kernel's addresses say. board: what a board of one's own that
    is made from it is called."""

    kernel: str
    engine: str = "auto"
    memory: int = 64 << 20
    cpus: int = 1
    cmdline: str = ""
    initrd: str | None = None
    debug_exit: bool = True
    slots: int = 0
    arch: str = DEFAULT
    gic: int | None = None
    dtb: str | None = None
    screen: bool | None = None
    machine: str | None = None
    firmware: str | None = None
    board: str = ""

    @property
    def board_name(self) -> str:
        """For people: the name of its board."""
        return self.board or self.platform.machine

    def read_firmware(self) -> Firmware | None:
        """What `firmware` says, its file read; KernelError in words."""
        if self.firmware is None:
            return None
        from vmlab.boot.riscv import firmware  # only here: few machines have one

        return firmware.read(self.firmware, 32 if self.arch == "riscv32" else 64)

    @property
    def platform(self) -> Arch:
        """The architecture with the board."""
        return machine_of(self.arch, self.machine)

    @property
    def name(self) -> str:
        """For people: the image's, or its folder's where the image is plainly called `kernel`."""
        folder, name = os.path.split(self.kernel)
        return os.path.basename(folder) if name == "kernel" else name.removesuffix(".elf")

    def check(self) -> None:
        """ConfigError, in words, for what no machine can be."""
        if self.engine not in ENGINES:
            hint = perhaps(self.engine, ENGINES)
            raise ConfigError(f"no engine {self.engine!r}; {hint}there are auto, kvm and soft")
        for what, value, kind, words in (
            ("cpus", self.cpus, int, "a whole number"),
            ("cmdline", self.cmdline, str, "text"),
        ):
            if type(value) is not kind:
                raise ConfigError(f"{what}={value!r}: it must be {words}")
        if not 1 <= self.cpus <= MAX_CPUS:
            raise ConfigError(f"{self.cpus} CPUs; a machine has 1 to {MAX_CPUS}")
        arch = self.platform
        check_size(self.memory)
        if self.gic is not None and (type(self.gic) is not int or self.gic not in GIC_VERSIONS):
            raise ConfigError(f"gic={self.gic!r:.40}: there are the versions 2 and 3")
        if not arch.has_tree:
            for what, asked in (("gic", self.gic), ("dtb", self.dtb)):
                if asked:
                    raise ConfigError(
                        f"{what}: an {self.arch} machine has neither GIC nor device tree"
                    )
        if self.screen not in (None, True, False):
            raise ConfigError(f"screen={self.screen!r:.40}: it is True or False")
        if self.screen and not arch.has_screen:
            raise ConfigError(f"screen: an {self.arch} machine has none; a PC (x86_64) has one")
        if self.firmware is not None and not self.arch.startswith("riscv"):
            raise ConfigError(
                f"firmware: RISC-V machines have one; {self.arch} kernels are started without"
            )
        if self.gic and not any(part.name == "gic" for part in arch.reserved):
            raise ConfigError(f"gic: the interrupt controller of {self.arch} is no GIC")


class Exit(Struct, frozen=True):
    """Why a machine ended. reason: "debug-exit", "stopped", "triple-fault", "internal-error", ...;
    code: the exit status of the run; text: a sentence."""

    reason: str
    code: int
    text: str

    def __str__(self) -> str:
        return self.text


class Fault(Struct, frozen=True):
    """A device's code raised; the guest waits at that access."""

    device: str
    text: str
    traceback: str


class BusyCall(Struct, frozen=True):
    """A call of a device's code that has not returned for long. where: "busy in looper0.spin_here, reading
    A"; seconds: for how long; stack: where it is, as a traceback shows it."""

    device: str
    where: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"{self.where}, for {self.seconds:.0f} s"


class FieldEntry(Struct, frozen=True):
    """Bits of a register: `width` of them from bit `low`. values: what its values mean. reserved: they mean
    nothing yet."""

    name: str
    low: int
    width: int
    doc: str
    values: dict[int, str] = {}
    reserved: bool = False


class RegisterEntry(Struct, frozen=True):
    """A row of a device's table. offset in bytes, width in bits. spec: where its specification speaks of it,
    or what it says there."""

    name: str
    offset: int
    width: int
    access: str
    doc: str
    fields: list[FieldEntry] = []
    spec: str = ""


class CommandEntry(Struct, frozen=True):
    """A method of a device that may be called from outside. signature: "(size: int) -> None"."""

    name: str
    signature: str
    doc: str


class DeviceEntry(Struct, frozen=True):
    """A device that is plugged in. space: "mmio" or "port"; block: its place in the counter page;
    consoles: streams of bytes that it has. virtio: whether its driver has a checklist. shows: (address,
    bytes) of RAM that it puts on a screen."""

    id: str
    type: str
    space: str
    base: int
    size: int
    irq: int | None
    fixed: bool
    block: int
    registers: list[RegisterEntry]
    commands: list[CommandEntry] = []
    consoles: int = 0
    virtio: bool = False
    shows: tuple[int, int] | None = None


class Range(Struct, frozen=True):
    """[start, end] of the guest's physical space, both ends included. kind: "ram", "mmio",
    "interrupt-controller" or "hole"."""

    start: int
    end: int
    kind: str
    name: str

    @property
    def size(self) -> int:
        return self.end - self.start + 1
