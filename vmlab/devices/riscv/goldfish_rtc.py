"""The real-time clock of Google's Goldfish machine: nanoseconds since 1970, and one alarm.

Its interrupt is a level that stays until it is cleared. The time is the host's, and what a guest sets is kept
as a distance from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vmlab.core import clock
from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.regs import Registers, bit, ro, rw, wo

__all__ = ["GoldfishRtc"]

_LOW, _ALL = (1 << 32) - 1, (1 << 64) - 1


class GoldfishRtc(Device):
    """now: nanoseconds since 1970 that the guest sees; the host's time unless given."""

    type = "goldfish-rtc"
    compatible = "google,goldfish-rtc"

    class regs(Registers):
        TIME_LOW = rw(0x00, "the time, low half; reading it latches the high half")
        TIME_HIGH = rw(0x04, "the time, high half; it is set when the low half is written")
        ALARM_LOW = rw(0x08, "the alarm, low half; writing it sets the alarm")
        ALARM_HIGH = rw(0x0C, "the alarm, high half")
        IRQ_ENABLED = rw(0x10, "interrupt enable", ENABLE=bit(0, "the alarm interrupts"))
        CLEAR_ALARM = wo(0x14, "any write forgets the alarm")
        ALARM_STATUS = ro(0x18, "alarm status", RUNNING=bit(0, "an alarm is set"))
        CLEAR_INTERRUPT = wo(0x1C, "any write clears the interrupt")

    def __init__(self, now: Callable[[], int] | None = None) -> None:
        self._now = now or time.time_ns
        self._wake: clock.Timer | None = None
        self._offset = 0
        self._latched = 0
        self._alarmed = False

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._cancel()
            self._offset = self._latched = 0
            self._alarmed = False

    def detached(self) -> None:
        with self.lock:
            self._cancel()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_wake": None}

    def irq_level(self) -> bool:
        return bool(self._alarmed and self.r.IRQ_ENABLED & self.regs.IRQ_ENABLED.ENABLE)

    # --- the time -------------------------------------------------------------------------------

    def _time(self) -> int:
        return self._now() + self._offset & _ALL

    @on_peek("TIME_LOW")
    def _low(self) -> int:
        return self._time() & _LOW

    @on_read("TIME_LOW")
    def _read(self) -> int:
        now = self._time()
        self._latched = now >> 32
        return now & _LOW

    @on_peek("TIME_HIGH")
    def _high(self) -> int:
        return self._latched

    @on_write("TIME_LOW")
    def _set(self, value: int) -> None:
        self._offset = (self.r.TIME_HIGH << 32 | value) - self._now()

    # --- the alarm ------------------------------------------------------------------------------

    @on_write("ALARM_LOW")
    def _set_alarm(self, value: int) -> None:
        self._cancel()
        left = (self.r.ALARM_HIGH << 32 | value) - self._time()
        if left <= 0:
            self._alarmed = True
        else:
            self._wake = self.clock.call_at(self.clock.now() + left, self._due)

    def _due(self) -> None:
        """On the clock's thread."""
        with self.lock:
            if self._wake is not None:
                self._cancel()
                self._alarmed = True
                self.update()

    @on_write("CLEAR_ALARM")
    def _clear_alarm(self, value: int) -> None:
        self._cancel()

    @on_peek("ALARM_STATUS")
    def _status(self) -> int:
        return int(self._wake is not None)

    @on_write("CLEAR_INTERRUPT")
    def _clear_interrupt(self, value: int) -> None:
        self._alarmed = False

    def _cancel(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
