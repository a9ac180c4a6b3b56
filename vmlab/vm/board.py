"""Boards of one's own: which devices are where, on which machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from vmlab.arch import machine
from vmlab.errors import ConfigError
from vmlab.vm.copies import AnyDevice

__all__ = ["Board", "Placed", "base", "check_place", "everything", "placed"]


class Placed(NamedTuple):
    """A device at a fixed address, for `VM(devices=...)` and for boards.

    at: the guest-physical address of its first register, at the start of a page; None: the first free window.
    irq: its interrupt line; None: a free one, and none for a device that uses none."""

    device: AnyDevice
    at: int | None = None
    irq: int | None = None


class Board:
    """A board in a notebook's cell: what a course's machine has, where, and on which lines.

        class Lab(Board):
            arch = "riscv64"

            def devices(self):
                return {"leds": Placed(Leds(), at=0x1100_0000, irq=50)}

        VM("kernel.elf", machine=Lab())

    arch: its architecture; machine: the board that it is made from ("virt"; None: the usual one), whose CPUs,
    RAM, interrupt controllers, serial port and power switch it has. memory: what it has unless VM is told.
    name: what views call it; the class's unless it is said. Its devices are there from the start of each run,
    and travel to the machine's process with their classes. A guest with a device tree is told of those whose
    class says what they are (`compatible`)."""

    arch: ClassVar[str] = "riscv64"
    machine: ClassVar[str | None] = None
    memory: ClassVar[str | int | None] = None
    name: ClassVar[str] = ""

    def devices(self) -> Mapping[str, AnyDevice | Placed]:
        """id -> device; asked once for each VM, so that each has devices of its own."""
        return {}


def check_place(at: object, irq: object) -> None:
    """ConfigError for what is no address, or no line."""
    for name, value, most in (("at", at, 1 << 64), ("irq", irq, 1 << 16)):
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < most:
            raise ConfigError(f"{name}={value!r}: it must be a whole number, 0 or more")


def placed(id: str | None, device: Any) -> tuple[str | None, AnyDevice, int | None, int | None]:
    """(id, device, at, irq) of one that may be Placed."""
    if not isinstance(device, Placed):
        return id, device, None, None
    check_place(device.at, device.irq)
    return id, *device


def everything(
    board: Board | None, wanted: Sequence[tuple[str | None, Any]]
) -> list[tuple[str | None, AnyDevice, int | None, int | None]]:
    """The board's devices and the VM's; those at fixed addresses first, so that no other is in their place.
    ConfigError for a board that is none."""
    own: Any = board.devices() if board is not None else {}
    if not isinstance(own, Mapping):
        raise ConfigError(
            f"{type(board).__name__}.devices() gives {type(own).__name__}; it is to give a dict, id: device"
        )
    found = [placed(id, device) for id, device in (*own.items(), *wanted)]
    ids = [id for id, *_ in found if id is not None]
    for id in ids:
        if ids.count(id) > 1:
            raise ConfigError(f"there are two devices {id!r}: the board's and one in devices=")
    return sorted(found, key=lambda one: one[2] is None)


def base(asked: object, arch: str | None) -> tuple[Board | None, str | None, str | None]:
    """(the board, arch, machine) for what `VM(machine=)` was given."""
    if isinstance(asked, type) and issubclass(asked, Board):
        raise ConfigError(f"machine={asked.__name__}: give a board, {asked.__name__}()")
    if not isinstance(asked, Board):
        return None, arch, asked  # type: ignore[return-value]
    found = machine(asked.arch, asked.machine)
    if arch is not None and machine(arch).name != found.name:
        raise ConfigError(f"{type(asked).__name__} is a board of {found.name}, not of {arch}")
    return asked, found.name, found.machine
