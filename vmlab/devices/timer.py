"""The teaching device: a timer in memory space with one interrupt line, small enough to read at once.

It counts lazily. Between an expiry and the guest's acknowledgement nothing is scheduled: the periods
that ended meanwhile are worked out from the clock when someone asks. So the host's work is bounded by
the guest's acknowledgements, and every count is right however late the host was.
"""

from __future__ import annotations

from typing import Any

from vmlab.core import clock
from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.regs import Registers, bit, rc, reserved, ro, rw, w1c

__all__ = ["SHORTEST_US", "Timer"]

#: its bytes in memory spell "VLMT"
ID_VALUE = 0x544D4C56
#: Shorter periods behave as this one, so that no guest can keep the host busy with a timer.
SHORTEST_US = 50
LAST_COUNT = 0xFFFF_FFFF


class Timer(Device):
    """A period in microseconds, once or again and again; the line is up while EXPIRED is set and
    interrupts are enabled."""

    type = "timer"
    size = 0x1000
    hid = "VMLB0001"
    compatible = "vmlab,timer"

    class regs(Registers):
        ID = ro(0x00, "what this device is", reset=ID_VALUE)
        CTRL = rw(
            0x04,
            "control",
            ENABLE=bit(
                0, "run; setting it starts a period, clears TICKS; clears itself if one-shot"
            ),
            IRQ_ENABLE=bit(1, "raise the line while EXPIRED is set"),
            PERIODIC=bit(2, "start the next period by itself"),
            ZERO=reserved(3, 29, "always 0"),
        )
        PERIOD = rw(0x08, "microseconds, at least 50 (less counts as 50); taken when ENABLE is set")
        STATUS = w1c(0x0C, "what has happened", EXPIRED=bit(0, "a period has ended"))
        TICKS = ro(0x10, "periods that ended since ENABLE was set")
        COUNT = ro(0x14, "microseconds until the period ends; 0 while stopped")
        OVERRUN = rc(0x18, "periods that ended while EXPIRED was still set; cleared by reading")

    def __init__(self) -> None:
        self._wake: clock.Timer | None = None
        self._stop()
        self._expired = False

    def _stop(self) -> None:
        self._running = self._periodic = False
        self._due = self._period = 0

    # --- the life of a device -------------------------------------------------------------------

    def reset(self) -> None:
        with self.lock:
            self._cancel()
            self._stop()
            self._expired = False
            super().reset()

    def attached(self) -> None:
        """A timer that was running elsewhere starts its period anew: this is another clock."""
        with self.lock:
            self._due = self.clock.now() + self._period
            self._schedule()

    def detached(self) -> None:
        with self.lock:
            self._cancel()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_wake": None}

    # --- time -----------------------------------------------------------------------------------

    def _ended(self) -> int:
        """Periods that have ended and are not in the registers yet."""
        late = self.clock.now() - self._due
        if not self._running or late < 0:
            return 0
        return 1 + late // self._period if self._periodic else 1

    def _account(self) -> None:
        """Bring the registers up to the clock."""
        ended = self._ended()
        if not ended:
            return
        self.r.TICKS = (self.r.TICKS + ended) & LAST_COUNT
        self.r.OVERRUN = self._overrun_after(ended)
        self._expired = True
        if self._periodic:
            self._due += ended * self._period
        else:
            self._stop()
            self.r.CTRL &= ~self.regs.CTRL.ENABLE

    def _overrun_after(self, ended: int) -> int:
        missed = ended if self._expired else max(ended - 1, 0)
        return int(min(self.r.OVERRUN + missed, LAST_COUNT))

    def _schedule(self) -> None:
        """Be called at the expiry; while EXPIRED is set there is nothing to tell anyone."""
        self._cancel()
        if self._running and not self._expired:
            self._wake = self.clock.call_at(self._due, self._on_time)

    def _cancel(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _on_time(self) -> None:
        """Runs on the clock's thread. A call that was already on its way when it was cancelled finds
        no period to end."""
        with self.lock:
            if self._wake is not None:
                self._account()
                self.update()

    # --- registers ------------------------------------------------------------------------------

    def irq_level(self) -> bool:
        return bool(self._expired and self.r.CTRL & self.regs.CTRL.IRQ_ENABLE)

    @on_peek("CTRL")
    def _control(self) -> int:
        over = self._ended() and not self._periodic
        return int(self.r.CTRL & ~self.regs.CTRL.ENABLE if over else self.r.CTRL)

    @on_write("CTRL")
    def _set_control(self, value: int) -> None:
        CTRL = self.regs.CTRL
        self._account()
        self.r.CTRL = value
        if not value & CTRL.ENABLE:
            self._stop()
        elif not self._running:
            self._running = True
            self._period = 1000 * max(self.r.PERIOD, SHORTEST_US)
            self._due = self.clock.now() + self._period
            self.r.TICKS = 0
        self._periodic = bool(value & CTRL.PERIODIC)
        self._schedule()

    @on_peek("STATUS")
    def _status(self) -> int:
        return int(self.regs.STATUS.EXPIRED) if self._expired or self._ended() else 0

    @on_read("STATUS")
    def _read_status(self) -> int:
        self._account()
        return self._status()

    @on_write("STATUS")
    def _acknowledge(self, value: int) -> None:
        if value & self.regs.STATUS.EXPIRED:
            self._account()
            self._expired = False
            self._schedule()

    @on_peek("TICKS")
    def _ticks(self) -> int:
        return int(self.r.TICKS + self._ended()) & LAST_COUNT

    @on_peek("COUNT")
    def _count(self) -> int:
        if not self._running:
            return 0
        left = self._due + self._ended() * self._period - self.clock.now()
        return max(-(-left // 1000), 0) if self._periodic or not self._ended() else 0

    @on_peek("OVERRUN")
    def _overrun(self) -> int:
        return self._overrun_after(self._ended())

    @on_read("OVERRUN")
    def _read_overrun(self) -> int:
        self._account()
        return self._overrun()
