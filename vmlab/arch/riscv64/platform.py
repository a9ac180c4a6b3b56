"""The machine "virt": addresses and lines where QEMU's machine of that name has them, and vmlab's own devices
where that has nothing.

`kernels/arch/riscv64/layout.h` says the same to the guests; a test compares the two.
"""

from __future__ import annotations

__all__ = ["CLINT_BASE", "CLINT_SIZE", "PLIC_BASE", "PLIC_SIZE", "RAM_BASE", "TICK_HZ"]
__all__ += ["FINISHER_BASE", "RTC_BASE", "RTC_IRQ", "UART_BASE", "UART_IRQ"]
__all__ += ["LAST_LINE", "LINES", "SBI_ENTRY", "WINDOWS_BASE", "WINDOWS_END"]
__all__ += [
    "KRUN_BASE",
    "KRUN_END",
    "KRUN_HOTPLUG_IRQ",
    "KRUN_LINES",
    "KRUN_POWER_IRQ",
    "KRUN_RTC_IRQ",
]
__all__ += ["KRUN_TIMER_IRQ"]
__all__ += ["HOTPLUG_BASE", "HOTPLUG_IRQ", "POWER_BASE", "POWER_IRQ", "TIMER_BASE", "TIMER_IRQ"]

FINISHER_BASE = 0x10_0000
RTC_BASE, RTC_IRQ = 0x10_1000, 11
CLINT_BASE, CLINT_SIZE = 0x0200_0000, 0x1_0000
PLIC_BASE, PLIC_SIZE = 0x0C00_0000, 0x60_0000
UART_BASE, UART_IRQ = 0x1000_0000, 10
#: the windows of virtio devices and their lines: eight of them
WINDOWS_BASE, WINDOWS_END = 0x1000_1000, 0x1000_9000
LINES = (1, 8)
LAST_LINE = 1023
#: not of QEMU's
TIMER_BASE, TIMER_IRQ = 0x0B00_0000, 40
HOTPLUG_BASE, HOTPLUG_IRQ = 0x0B00_1000, 41
POWER_BASE, POWER_IRQ = 0x0B00_2000, 42
#: the machine "krun": windows of devices where libkrun's are, and its lines, but for 0, which is no source of
#: a PLIC, and the last ones, which are the machine's own. The rest lies as in "virt"
KRUN_BASE, KRUN_END = 0x0A00_0000, 0x0B00_0000
KRUN_LINES = (1, 1015)
KRUN_TIMER_IRQ, KRUN_HOTPLUG_IRQ, KRUN_POWER_IRQ, KRUN_RTC_IRQ = 1016, 1017, 1018, 1019
RAM_BASE = 0x8000_0000
#: where kernels for S mode lie; firmware is below
SBI_ENTRY = 0x8020_0000
#: of the time CSR, in the tree as timebase-frequency
TICK_HZ = 10_000_000
