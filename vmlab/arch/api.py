"""What differs between processors, as everything above sees it. Facts alone: no device, no engine, no file.

A machine is made of an architecture (here), a board (`machine.board`: the devices that are always there) and
an engine. To add one: a package beside `x86_64`, a loader in `boot`, a board, and a room in an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from vmlab.errors import ConfigError

__all__ = ["Arch", "CpuState", "Dialect", "OnlyWindows", "Reserved", "Windows"]


class Windows(NamedTuple):
    """Where the MMIO device manager puts what it is given (libkrun's numbers; all ends included but `end`).

    base: guest-physical address of the first window. irq_interval: the lines that devices get one each.
    last_irq: the highest line that the interrupt controller has. skip: windows left free below the first
    device. end: where something else begins. shared: lines that any number of devices hold, when those of
    the interval are taken; they are levels. asked: lines that a device can have by asking; where there are
    such, it can also ask for any address at which nothing is."""

    base: int
    irq_interval: tuple[int, int]
    last_irq: int
    skip: int = 0
    end: int | None = None
    shared: tuple[int, int] | None = None
    asked: tuple[int, int] | None = None

    @property
    def first(self) -> int:
        """The address of the first device's window; each has a page."""
        return self.base + self.skip * 0x1000


class Dialect(NamedTuple):
    """What a machine's virtio-mmio transports say, and let pass. vendor: VendorID. forgiving: a driver that
    leaves VIRTIO_F_VERSION_1 out is served all the same, and the mistake counted; courses' are such. legacy:
    they are of version 1, unless a device says otherwise."""

    vendor: int = 0x424C_4D56  # "VMLB"
    forgiving: bool = False
    legacy: bool = False


class Reserved(NamedTuple):
    """[start, end] of physical space, both included, that an engine answers itself: interrupt controllers."""

    start: int
    end: int
    name: str


class CpuState(Protocol):
    """How the first CPU starts: made by a loader of the architecture, understood by its engines."""

    @property
    def start(self) -> int:
        """Where its first instruction lies, as the program counter has it."""
        ...


class Arch(Protocol):
    """An architecture. Sizes are in bytes, addresses guest-physical."""

    @property
    def name(self) -> str:
        """ "x86_64", "arm64", "riscv64"."""
        ...

    @property
    def port_bits(self) -> int | None:
        """Bits of an I/O port's number; None: there is no port space."""
        ...

    @property
    def address_bits(self) -> int:
        """Bits of a physical address, as far as the address map shows them."""
        ...

    @property
    def windows(self) -> Windows: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def transports(self) -> int:
        """virtio-mmio transports that are there from the start, with or without a device behind; each has
        its window and its line. 0: a window is where a device is."""
        ...

    @property
    def program_counter(self) -> str:
        """The register's name."""
        ...

    @property
    def registers(self) -> tuple[str, ...]:
        """Names of what a CPU shows, in the order in which they are shown."""
        ...

    @property
    def flags(self) -> Mapping[str, tuple[tuple[int, str], ...]]:
        """Of registers whose bits have names: (bit, name)."""
        ...

    def code_mode(self, regs: Mapping[str, int]) -> str:
        """What its instructions are, of a CPU with these registers: "x86-64", "x86-32", "x86-16", or the
        architecture's name."""
        ...

    @property
    def reserved(self) -> tuple[Reserved, ...]: ...

    @property
    def serial(self) -> str:
        """The id of the serial port in whose place `vm.console` is."""
        ...

    @property
    def usual_memory(self) -> str:
        """What a kernel of one's own gets unless it is said."""
        ...

    @property
    def has_tree(self) -> bool:
        """Whether its guests are told of the machine by a device tree."""
        ...

    @property
    def has_screen(self) -> bool:
        """Whether its boards can have a text screen."""
        ...

    @property
    def hotplug(self) -> int:
        """Where its board's hot-plug controller lies, for scripts of a guest's."""
        ...

    @property
    def buttons(self) -> tuple[str, ...]:
        """The ids of its board's devices that have a power button to press; a guest may know one of them."""
        ...

    @property
    def machine(self) -> str:
        """The name of its board: "pc", "krun", "virt"."""
        ...

    @property
    def board(self) -> str:
        """The module of its board, which `machine.board.get` loads."""
        ...

    def ram_layout(self, size: int) -> list[tuple[int, int]]:
        """(base, size) of each region of RAM, for `size` bytes of it."""
        ...

    def read_image(self, path: str, limit: int) -> bytes:
        """A kernel's bytes, `limit` at most; KernelError in words."""
        ...

    def check_files(self, kernel: str, initrd: str | None, memory: int) -> str:
        """KernelError when a machine with `memory` bytes cannot boot them, as far as that can be told
        quickly. What it would do without: a sentence, or ""."""
        ...

    def parse(self, image: bytes, name: str, limit: int) -> Any:
        """The image taken apart: a kernel, with `linux` and `name`. limit: bytes that it may unpack to."""
        ...

    def place(
        self, memory: Any, kernel: Any, cmdline: Any, initrd: bytes | None, tables: Any
    ) -> CpuState:
        """Write it, and all that it is handed, into guest memory. tables: what its board describes."""
        ...


class Loader:
    """The part of an architecture that needs guest memory: a module of `boot`, loaded when it is used."""

    name = ""
    #: its name
    loader = ""
    #: the module that has `FLAGS`, and `code_mode` where there are several
    bits_of = ""
    usual_memory = "64M"
    has_screen = False
    dialect = Dialect()
    transports = 0

    @property
    def _loader(self) -> Any:
        return import_module(self.loader)

    @property
    def flags(self) -> Mapping[str, tuple[tuple[int, str], ...]]:
        return import_module(self.bits_of).FLAGS if self.bits_of else {}

    def code_mode(self, regs: Mapping[str, int]) -> str:
        mode = getattr(import_module(self.bits_of), "code_mode", None) if self.bits_of else None
        return mode(regs) if mode is not None else self.name

    def read_image(self, path: str, limit: int) -> bytes:
        return self._loader.read_image(path, limit=limit)  # type: ignore[no-any-return]

    def check_files(self, kernel: str, initrd: str | None, memory: int) -> str:
        return self._loader.check_files(kernel, initrd, memory)  # type: ignore[no-any-return]

    def parse(self, image: bytes, name: str, limit: int) -> Any:
        return self._loader.parse(image, name, limit)

    def place(
        self, memory: Any, kernel: Any, cmdline: Any, initrd: bytes | None, tables: Any
    ) -> Any:
        return self._loader.place(memory, kernel, cmdline, initrd, tables)


class OnlyWindows:
    """An architecture of which no more is known than where its manager puts devices."""

    def __init__(self, name: str, windows: Windows) -> None:
        self.name, self.windows = name, windows

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise ConfigError(
            f"vmlab has no {self.name} machine yet; its device manager is all there is"
        )
