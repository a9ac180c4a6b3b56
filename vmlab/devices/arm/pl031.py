"""A PL031 real-time clock (ARM DDI 0224C; cited by section): seconds since 1970, and one alarm.

The time is the host's, and what a guest loads is kept as a distance from it. The clock runs from the start,
as a firmware would have left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vmlab.core import clock
from vmlab.core.device import Device, on_peek, on_write
from vmlab.devices.arm.primecell import CELL_ID, peripheral_id
from vmlab.regs import Registers, bit, reserved, ro, rw, wo

__all__ = ["Pl031"]

_SECOND = 1_000_000_000
_MASK = 0xFFFF_FFFF
#: of a difference of two times, as far as it is one: half of the circle
_HALF = 1 << 31


class Pl031(Device):
    """now: seconds since 1970 that the guest sees; the host's time unless given."""

    type = "pl031"
    compatible = "arm,pl031"

    class regs(Registers):
        DR = ro(0x000, "the time, in seconds", spec="§3.3.1")
        MR = rw(0x004, "match: the time at which to interrupt", spec="§3.3.2")
        LR = rw(0x008, "load: sets the time", spec="§3.3.3")
        CR = ro(
            0x00C,
            "control",
            reset=1,
            spec="§3.3.4",
            START=bit(0, "the clock runs: always"),
            ZERO=reserved(1, 31),
        )
        IMSC = rw(
            0x010, "interrupt mask", spec="§3.3.5", MATCH=bit(0, "enabled"), ZERO=reserved(1, 31)
        )
        RIS = ro(
            0x014,
            "raw interrupt status",
            spec="§3.3.6",
            MATCH=bit(0, "the time of MR has come"),
            ZERO=reserved(1, 31),
        )
        MIS = ro(
            0x018,
            "masked interrupt status",
            spec="§3.3.7",
            MATCH=bit(0, "it has come, and is enabled"),
            ZERO=reserved(1, 31),
        )
        ICR = wo(0x01C, "interrupt clear", spec="§3.3.8", MATCH=bit(0, "clear"))
        PERIPH_ID0, PERIPH_ID1, PERIPH_ID2, PERIPH_ID3 = peripheral_id(0x031, 0)
        PRIMECELL_ID0, PRIMECELL_ID1, PRIMECELL_ID2, PRIMECELL_ID3 = CELL_ID

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or time.time
        self._wake: clock.Timer | None = None
        self._offset = 0
        self._matched = False

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._cancel()
            self._offset = 0
            self._matched = False

    def detached(self) -> None:
        with self.lock:
            self._cancel()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_wake": None}

    # --- the time -------------------------------------------------------------------------------

    @on_peek("DR")
    def _time(self) -> int:
        return int(self._now()) + self._offset & _MASK

    @on_write("LR")
    def _load(self, value: int) -> None:
        self._offset = value - int(self._now())
        self._await_match()

    # --- the alarm ------------------------------------------------------------------------------

    def irq_level(self) -> bool:
        return bool(self._pending() & self.r.IMSC)

    @on_peek("RIS")
    def _pending(self) -> int:
        return int(self._matched)

    @on_peek("MIS")
    def _masked(self) -> int:
        masked: int = self._matched & self.r.IMSC
        return masked

    @on_write("ICR")
    def _clear(self, value: int) -> None:
        if value & self.regs.ICR.MATCH:
            self._matched = False

    @on_write("MR")
    def _match(self, value: int) -> None:
        self._await_match()

    def _await_match(self) -> None:
        """The host's clock may be set meanwhile: whether the time has come is asked when it should have."""
        self._cancel()
        left = self.r.MR - self._time() & _MASK
        if left == 0:
            self._matched = True
        elif left < _HALF:
            into = int(self._now() % 1 * _SECOND)
            self._wake = self.clock.call_at(self.clock.now() + left * _SECOND - into, self._due)

    def _due(self) -> None:
        """On the clock's thread."""
        with self.lock:
            if self._wake is None:
                return
            self._cancel()
            if self._time() - self.r.MR & _MASK < _HALF:
                self._matched = True
            else:
                self._await_match()
            self.update()

    def _cancel(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
