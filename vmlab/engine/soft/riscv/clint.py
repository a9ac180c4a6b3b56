"""The core-local interruptor (SiFive CLINT): a software interrupt and a timer for each hart, and the time."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["NEVER", "Clint"]

#: registers: MSIP a word a hart, MTIMECMP and MTIME of eight bytes
_TIMECMP, _TIME = 0x4000, 0xBFF8
#: what MTIMECMP is after a reset
NEVER = (1 << 64) - 1


class Clint:
    """now: the time in ticks. soft: a hart's MSIP has this value; timer: MTIMECMP of a hart was written.
    The owner's lock is held by each caller."""

    def __init__(
        self,
        harts: int,
        now: Callable[[], int],
        soft: Callable[[int, bool], None],
        timer: Callable[[int], None],
    ) -> None:
        self._harts, self._now, self._soft, self._timer = harts, now, soft, timer
        self.reset()

    def reset(self) -> None:
        self.msip = [0] * self._harts
        self.timecmp = [NEVER] * self._harts

    def read(self, offset: int, size: int) -> int:
        if offset < _TIMECMP:
            hart, value = offset // 4, 0
            if hart < self._harts:
                value = self.msip[hart] >> 8 * (offset & 3)
        elif offset < _TIME:
            hart = (offset - _TIMECMP) // 8
            value = self.timecmp[hart] >> 8 * (offset & 7) if hart < self._harts else 0
        else:
            value = self._now() >> 8 * (offset & 7)
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """The time itself is the machine's: it is not set."""
        if offset < _TIMECMP:
            hart = offset // 4
            if hart < self._harts and not offset & 3:
                self.msip[hart] = value & 1
                self._soft(hart, bool(value & 1))
        elif offset < _TIME:
            hart, low = (offset - _TIMECMP) // 8, 8 * (offset & 7)
            if hart < self._harts:
                kept = self.timecmp[hart] & ~((1 << 8 * size) - 1 << low)
                self.timecmp[hart] = (kept | value << low) & NEVER
                self._timer(hart)
