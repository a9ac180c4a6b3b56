"""The generic timer: a virtual and a physical one for each CPU (ARM DDI 0487, D11).

Both count the machine's time, CNTVOFF being 0: it stands still while the machine is paused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vmlab.engine.soft.guest_clock import GuestClock

__all__ = ["FREQUENCY", "PHYSICAL_LINE", "REGISTERS", "VIRTUAL_LINE", "Timer"]

#: of the counter, in Hz; a tick is 16 ns
FREQUENCY = 62_500_000
TICK_NS = 1_000_000_000 // FREQUENCY
#: INTIDs (BSA §3.8): private peripheral interrupts 11 and 14
VIRTUAL_LINE, PHYSICAL_LINE = 27, 30
_ENABLE, _IMASK, _ISTATUS = 1, 2, 4
_MASK64: Final = (1 << 64) - 1

#: (op0, op1, CRn, CRm, op2) -> (line of the timer, register)
REGISTERS: Final = {
    (3, 3, 14, 2, 0): (PHYSICAL_LINE, "TVAL"),
    (3, 3, 14, 2, 1): (PHYSICAL_LINE, "CTL"),
    (3, 3, 14, 2, 2): (PHYSICAL_LINE, "CVAL"),
    (3, 3, 14, 3, 0): (VIRTUAL_LINE, "TVAL"),
    (3, 3, 14, 3, 1): (VIRTUAL_LINE, "CTL"),
    (3, 3, 14, 3, 2): (VIRTUAL_LINE, "CVAL"),
}


class Timer:
    """One timer. drive: sets its line. arm: asks to be `expired` at a time of the host's in ns, or not."""

    def __init__(
        self, clock: GuestClock, drive: Callable[[bool], None], arm: Callable[[int | None], None]
    ) -> None:
        self._clock, self._drive, self._arm = clock, drive, arm
        self.control = self.compare = 0

    def reset(self) -> None:
        self.control = self.compare = 0
        self.update()

    @property
    def _met(self) -> bool:
        return bool(self.control & _ENABLE) and self._clock.ticks() >= self.compare

    def read(self, register: str) -> int:
        if register == "CTL":
            return self.control | (_ISTATUS if self._met else 0)
        if register == "CVAL":
            return self.compare
        return self.compare - self._clock.ticks() & 0xFFFF_FFFF

    def write(self, register: str, value: int) -> None:
        if register == "CTL":
            self.control = value & (_ENABLE | _IMASK)
        elif register == "CVAL":
            self.compare = value & _MASK64
        else:
            signed = (value & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
            self.compare = self._clock.ticks() + signed & _MASK64
        self.update()

    def update(self) -> None:
        """Set the line, and when to look again: after a write, a deadline, a resume."""
        met = self._met
        self._drive(met and not self.control & _IMASK)
        waits = self.control & (_ENABLE | _IMASK) == _ENABLE and not met
        self._arm(self._clock.host_time(self.compare) if waits else None)

    def expired(self) -> None:
        self.update()
