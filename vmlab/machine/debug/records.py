"""Breakpoints as they travel: what is wanted, what there is, what was met."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["BreakEntry", "BreakEvent", "BreakKind", "BreakSpec"]

#: of an instruction, a device's register, I/O space, guest memory, an interrupt line
BreakKind = Literal["code", "register", "io", "memory", "irq"]


class BreakSpec(Struct, frozen=True):
    """What is wanted.

    address, size: of "code" and "memory" as the guest's code uses them, of "io" of the bus `space`.
    device, register: of "register"; no register: the device's whole window. line: of "irq". read, write:
    which accesses. value: only writes of this one. count: it stops from the count-th hit on. once: it goes
    after it has stopped the machine. asks: the other side decides. label: how people have named it. owner:
    "" or "gdb".
    """

    kind: BreakKind
    address: int = 0
    size: int = 1
    space: str = "mmio"
    device: str = ""
    register: str = ""
    line: int = -1
    read: bool = False
    write: bool = True
    value: int | None = None
    count: int = 1
    once: bool = False
    asks: bool = False
    label: str = ""
    owner: str = ""


class BreakEntry(Struct, frozen=True):
    """A breakpoint that there is. how: "hardware", "int3", "single-stepping", "software", "bus" or "line"."""

    number: int
    spec: BreakSpec
    enabled: bool
    hits: int
    how: str


class BreakEvent(Struct, frozen=True):
    """What was met. time: of the host's monotonic clock, seconds. pc: 0 where it is not known. value: what is
    written; None for a read, which has not happened yet."""

    breakpoint: int
    kind: BreakKind
    cpu: int
    time: float
    pc: int = 0
    address: int = 0
    size: int = 0
    value: int | None = None
    write: bool = False
    device: str = ""
    register: str = ""
    label: str = ""
    owner: str = ""

    @property
    def text(self) -> str:
        """ "cpu0 at breakpoint 1: disk0.QueueNotify, write of 0x0"."""
        if self.kind == "irq":
            return f"at breakpoint {self.breakpoint}: {self.label}"
        where = f"cpu{self.cpu} at breakpoint {self.breakpoint}: {self.label}"
        if self.kind == "code":
            return where
        what = "write" if self.write else "read"
        value = f" of {self.value:#x}" if self.value is not None else ""
        at = f" at {self.address:#x}" if self.kind != "register" else ""
        return f"{where}, {what}{value}{at}"
