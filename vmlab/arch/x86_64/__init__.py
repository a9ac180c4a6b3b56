"""64-bit x86: a PC, with its first window at 0xd000_0000 and its RAM in two parts around the devices."""

from __future__ import annotations

from vmlab.arch.api import Loader, Reserved, Windows
from vmlab.arch.x86_64 import platform

__all__ = ["ARCH", "BOARDS", "HIGH_RAM_START", "LOW_RAM_END"]

#: RAM below 4 GiB ends here at the latest; devices live above it
LOW_RAM_END = 0xC000_0000
HIGH_RAM_START = 0x1_0000_0000


class X86(Loader):
    name = "x86_64"
    port_bits: int | None = 16
    address_bits = 36
    windows = Windows(
        0xD000_0000, (5, 15), last_irq=23, end=platform.MMIO_END, shared=platform.SHARED_LINES
    )
    program_counter = "rip"
    registers = (
        *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),  # as instructions number them
        *(f"r{number}" for number in range(8, 16)),
        *("rip", "rflags", "es", "cs", "ss", "ds", "fs", "gs", "cr0", "cr2", "cr3", "cr4", "efer"),
    )
    reserved = (
        Reserved(platform.IOAPIC_BASE, platform.IOAPIC_BASE + 0xFFF, "ioapic"),
        Reserved(platform.LAPIC_BASE, platform.LAPIC_BASE + 0xFFF, "local apic"),
    )
    serial = "com1"
    hotplug = platform.HOTPLUG_BASE
    has_tree = False
    has_screen = True
    buttons = ("power",)
    machine = "pc"
    board = "vmlab.machine.board.pc"
    loader = "vmlab.boot.x86_64.load"
    bits_of = "vmlab.arch.x86_64.bits"

    def ram_layout(self, size: int) -> list[tuple[int, int]]:
        low = min(size, LOW_RAM_END)
        layout = [(0, low)]
        if size > low:
            layout.append((HIGH_RAM_START, size - low))
        return layout


ARCH = X86()
#: a PC whose windows and lines are libkrun's: it goes by both names
BOARDS = {ARCH.machine: ARCH, "krun": ARCH}
