"""RISC-V of 64 bits (and of 32, by `riscv32`): the windows and lines of libkrun's manager, and the machine
"virt", which is QEMU's."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vmlab.arch.api import Arch, Dialect, Loader, OnlyWindows, Reserved, Windows
from vmlab.arch.riscv64 import platform

__all__ = ["ARCH", "BOARDS", "KRUN_WINDOWS", "REGISTERS", "Krun", "Virt"]

KRUN_WINDOWS = Windows(0x0A00_0000, (0, 1023), last_irq=1023)

ARCH = OnlyWindows("riscv64", KRUN_WINDOWS)


#: what a debugger shows, in this order
REGISTERS = (
    *(f"x{number}" for number in range(32)),
    *("pc", "priv", "mstatus", "mie", "mip", "mtvec", "mepc", "mcause", "mtval", "medeleg"),
    *("mideleg", "stvec", "sepc", "scause", "stval", "satp"),
)


class Virt(Loader):
    machine = "virt"
    port_bits: int | None = None
    windows = Windows(
        platform.WINDOWS_BASE,
        platform.LINES,
        platform.LAST_LINE,
        end=platform.WINDOWS_END,
        asked=(1, platform.LAST_LINE),
    )
    transports = platform.LINES[1]
    program_counter = "pc"
    registers = REGISTERS
    reserved = (
        Reserved(platform.CLINT_BASE, platform.CLINT_BASE + platform.CLINT_SIZE - 1, "clint"),
        Reserved(platform.PLIC_BASE, platform.PLIC_BASE + platform.PLIC_SIZE - 1, "plic"),
    )
    #: QEMU's, which its kernels take for granted
    usual_memory = "128M"
    serial = "serial"
    hotplug = platform.HOTPLUG_BASE
    has_tree = True
    buttons = ("power", "hotplug")
    board = "vmlab.machine.board.virt"
    bits_of = "vmlab.arch.riscv64.bits"

    def __init__(self, bits: int) -> None:
        self.name, self.bits = f"riscv{bits}", bits
        # QEMU's vendor; the books' drivers for 32 bits are legacy ones
        self.dialect = Dialect(0x554D_4551, forgiving=True, legacy=bits == 32)
        self.address_bits = 36 if bits == 64 else 34

    @property
    def _loader(self) -> Any:
        return import_module("vmlab.boot.riscv.load").RiscvLoader(self.bits)

    def ram_layout(self, size: int) -> list[tuple[int, int]]:
        return [(platform.RAM_BASE, size)]


class Krun(Virt):
    """libkrun's windows, for Linux: virtio devices of version 1.2, as many as there are lines."""

    machine = "krun"
    windows = Windows(
        platform.KRUN_BASE,
        platform.KRUN_LINES,
        platform.LAST_LINE,
        end=platform.KRUN_END,
        asked=(1, platform.LAST_LINE),
    )
    transports = 0
    usual_memory = "64M"
    board = "vmlab.machine.board.krun_riscv"

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.dialect = Dialect()


BOARDS: dict[str, Arch] = {"virt": Virt(64), "krun": Krun(64)}
