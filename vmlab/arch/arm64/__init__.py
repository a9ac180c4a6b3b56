"""64-bit ARM: the windows and lines of libkrun's manager, RAM above them."""

from __future__ import annotations

from vmlab.arch.api import Loader, Reserved, Windows
from vmlab.arch.arm64 import platform

__all__ = ["ARCH", "BOARDS"]


class Arm64(Loader):
    name = "arm64"
    port_bits: int | None = None
    address_bits = 36
    #: the first device is one window above the base
    windows = Windows(
        platform.WINDOWS_BASE, platform.LINES, platform.LAST_LINE, skip=1, end=platform.WINDOWS_END
    )
    program_counter = "pc"
    registers = (
        *(f"x{number}" for number in range(31)),
        *("sp", "pc", "pstate", "sctlr_el1", "ttbr0_el1", "ttbr1_el1", "tcr_el1", "mair_el1"),
        *("vbar_el1", "elr_el1", "spsr_el1", "esr_el1", "far_el1", "sp_el0", "tpidr_el0"),
        "tpidr_el1",
    )
    reserved = (Reserved(platform.GIC_START, platform.WINDOWS_BASE - 1, "gic"),)
    serial = "serial"
    hotplug = platform.HOTPLUG_BASE
    has_tree = True
    buttons = ("power", "gpio", "hotplug")
    machine = "krun"
    board = "vmlab.machine.board.krun"
    loader = "vmlab.boot.arm64.load"
    bits_of = "vmlab.arch.arm64.bits"

    def ram_layout(self, size: int) -> list[tuple[int, int]]:
        return [(platform.RAM_BASE, size)]


ARCH = Arm64()
BOARDS = {ARCH.machine: ARCH}
