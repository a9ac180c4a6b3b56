"""System control port A of a PS/2, by which guests open A20 without the keyboard controller (IBM Personal
System/2 Technical Reference, "System Control Port A")."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.device import Device, on_write
from vmlab.regs import Registers, bit, rw

__all__ = ["SystemControl"]


class SystemControl(Device):
    """Calls `on_reset()` when the guest resets the CPU. A20 is open whatever the guest says."""

    type = "system-control"
    size = 1
    wants_irq = False

    class regs(Registers):
        PORT_A = rw(
            0,
            "system control port A",
            8,
            reset=2,
            RESET=bit(0, "1: the CPU starts anew"),
            A20=bit(1, "address line 20 is open"),
        )

    def __init__(self, on_reset: Callable[[], None] = lambda: None) -> None:
        self._on_reset = on_reset

    @on_write("PORT_A")
    def _written(self, value: int) -> None:
        if not value & self.regs.PORT_A.A20:
            self.mistake("A20 is to be closed; here it stays open")
        if value & self.regs.PORT_A.RESET:
            self._on_reset()
