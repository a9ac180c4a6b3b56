"""The x86_64 PC that vmlab is: fixed addresses, ports and lines.

`kernels/arch/x86_64/layout.h` says the same to the guests; a test compares the two.
"""

from __future__ import annotations

__all__ = ["COM1_IRQ", "COM1_PORT", "DEBUG_EXIT_PORT", "HOTPLUG_BASE", "HOTPLUG_IRQ"]
__all__ += [
    "CRTC_PORT",
    "CRTC_STATUS_PORT",
    "I8042_DATA",
    "I8042_IRQ",
    "I8042_STATUS",
    "IOAPIC_BASE",
    "IOAPIC_PINS",
    "LAPIC_BASE",
    "MMIO_END",
    "POWER_IRQ",
    "POWER_PORT",
    "RTC_PORT",
    "SHARED_LINES",
    "SYSTEM_CONTROL_PORT",
    "TIMER_BASE",
    "TIMER_IRQ",
]

#: the windows of devices end here: the IOAPIC, the local APICs and firmware follow
MMIO_END = 0xFEC0_0000
COM1_PORT, COM1_IRQ = 0x3F8, 4
I8042_DATA, I8042_STATUS, I8042_IRQ = 0x60, 0x64, 1
#: what a machine with a text screen has beside: the CRT controller and the status behind it
CRTC_PORT, CRTC_STATUS_PORT = 0x3D4, 0x3DA
SYSTEM_CONTROL_PORT = 0x92
RTC_PORT = 0x70
#: QEMU's isa-debug-exit sits there too, so one guest binary ends under both
DEBUG_EXIT_PORT = 0xF4
#: the teaching timer; outside the manager's windows and lines
TIMER_BASE, TIMER_IRQ = 0xCF00_0000, 3
#: the hot-plug controller; the keyboard's line, which few machines have a keyboard for
HOTPLUG_BASE, HOTPLUG_IRQ = 0xCF00_1000, 1
#: the first and last line that devices share: levels, as a PC's lines from 16 up are
SHARED_LINES = (17, 23)
#: sleep, reset and power button of guests with ACPI; an I/O APIC pin that no other device gets
POWER_PORT, POWER_IRQ = 0x600, 16
IOAPIC_BASE, LAPIC_BASE = 0xFEC0_0000, 0xFEE0_0000
IOAPIC_PINS = 24
