"""Sleep, reset and the power button of hardware-reduced ACPI (ACPI 6.5 §4.8.3.7, §4.8.3.6).

Three bytes of I/O space: the FADT names the registers, the generic event device owns the line that the
button pulls.
"""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.device import Device, command, on_write
from vmlab.regs import Registers, bit, bits, rw, w1c, wo

__all__ = ["RESET_VALUE", "SOFT_OFF", "Power"]

#: SLP_TYP of S5, the only sleeping state (the DSDT's _S5 says the same)
SOFT_OFF = 5
#: what the guest writes to RESET (FADT, RESET_VALUE)
RESET_VALUE = 0x42


def _nothing() -> None:
    """For what nobody waits for."""


class Power(Device):
    """Calls `on_off()` when the guest switches itself off, `on_reset()` when it resets the machine."""

    type = "power"
    size = 4

    class regs(Registers):
        SLEEP_CONTROL = rw(
            0,
            "sleep control",
            8,
            spec="ACPI 6.5 §4.8.3.7.1",
            SLP_TYP=bits(2, 3, "the sleeping state: 5 is soft off"),
            SLP_EN=bit(5, "enter it"),
        )
        SLEEP_STATUS = w1c(
            1,
            "sleep status",
            8,
            spec="ACPI 6.5 §4.8.3.7.2",
            WAK_STS=bit(7, "the machine has woken; it never sleeps here"),
        )
        RESET = wo(2, "0x42 resets the machine", 8, spec="ACPI 6.5 §4.8.3.6")

    def __init__(
        self, on_off: Callable[[], None] = _nothing, on_reset: Callable[[], None] = _nothing
    ) -> None:
        self._on_off, self._on_reset = on_off, on_reset

    @command
    def press(self) -> None:
        """Press the power button: the guest's system shuts down if it listens."""
        self.irq.pulse()

    @on_write("SLEEP_CONTROL")
    def _sleep(self, value: int) -> None:
        control = self.regs.SLEEP_CONTROL
        self.r.SLEEP_CONTROL = value & ~control.SLP_EN  # reads as zero
        if not value & control.SLP_EN:
            return
        wanted = control.SLP_TYP.of(value)
        if wanted == SOFT_OFF:
            self._on_off()
        else:
            self.mistake(f"sleep type {wanted}: there is only soft off, {SOFT_OFF}")

    @on_write("RESET")
    def _reset(self, value: int) -> None:
        if value == RESET_VALUE:
            self._on_reset()
        else:
            self.mistake(f"{value:#x} written to RESET")
