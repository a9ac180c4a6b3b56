"""The 8254 programmable interval timer (Intel 8254 data sheet, 231164) and port 0x61.

Channel 0 is interrupt 0, channel 1 counts but drives nothing, channel 2 is gated and read through
port 0x61 (speaker and calibration loops). Time is the host's; counters are computed when read.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HZ", "Pit"]

HZ = 1_193_182
_NS = 1_000_000_000


class _Channel:
    """One counter. Times are nanoseconds."""

    def __init__(self) -> None:
        self.mode = 3
        self.access = 3
        self.bcd = False
        self.reload = 0x10000
        self.started = 0
        #: no count has been written since the control word
        self.null = True
        self.gate = True
        self._low: int | None = None
        self._read_high = False
        self._latched: int | None = None
        self._status: int | None = None

    def control(self, value: int, now: int) -> None:
        access = value >> 4 & 3
        if access == 0:
            self.latch(now)
            return
        self.access, self.bcd = access, bool(value & 1)
        mode = value >> 1 & 7
        self.mode = mode - 4 if mode > 5 else mode  # bit 2 is "don't care" for modes 2 and 3
        self.null = True
        self._low = self._latched = self._status = None
        self._read_high = False

    def ticks(self, now: int) -> int:
        return (now - self.started) * HZ // _NS

    def count(self, now: int) -> int:
        """The counting element's value."""
        if self.null:
            return self.reload & 0xFFFF
        ticks = self.ticks(now)
        if self.mode == 2:
            left = self.reload - ticks % self.reload
        elif self.mode == 3:  # counts by two, twice per period
            left = self.reload - 2 * ticks % self.reload
        else:
            left = (self.reload - ticks) % (10000 if self.bcd else 0x10000)
        return _to_bcd(left) if self.bcd else left & 0xFFFF

    def output(self, now: int) -> bool:
        """The OUT pin (figures 15 to 20)."""
        if self.null:
            return self.mode != 0
        ticks = self.ticks(now)
        if self.mode in (0, 1):
            return ticks >= self.reload
        if self.mode == 2:
            return ticks % self.reload != self.reload - 1
        if self.mode == 3:
            return ticks % self.reload < (self.reload + 1) // 2
        return ticks != self.reload

    def latch(self, now: int) -> None:
        if self._latched is None:
            self._latched = self.count(now)

    def latch_status(self, now: int) -> None:
        if self._status is None:
            self._status = (
                self.output(now) << 7
                | self.null << 6
                | self.access << 4
                | self.mode << 1
                | self.bcd
            )

    def read(self, now: int) -> int:
        if self._status is not None:
            value, self._status = self._status, None
            return value
        latched = self._latched
        value = self.count(now) if latched is None else latched
        high = self.access == 2 or (self.access == 3 and self._read_high)
        if self.access == 3:
            self._read_high = not self._read_high
        if self.access != 3 or not self._read_high:
            self._latched = None
        return value >> 8 if high else value & 0xFF

    def write(self, value: int, now: int) -> bool:
        """-> whether a count is now complete and counting starts."""
        if self.access == 3 and self._low is None:
            self._low = value
            return False
        if self.access == 3:
            value, self._low = value << 8 | (self._low or 0), None
        elif self.access == 2:
            value <<= 8
        if self.bcd:
            value = _from_bcd(value)
        self.reload = value or (10000 if self.bcd else 0x10000)
        if self.mode in (2, 3) and self.reload == 1:
            self.reload = 2  # a count of 1 is illegal there
        self.started = now
        self.null = False
        return True

    def set_gate(self, gate: bool, now: int) -> None:
        rising = gate and not self.gate
        self.gate = gate
        if rising and self.mode in (1, 2, 3, 5):
            self.started = now


class Pit:
    """`pulse()` is a rising edge of channel 0; `arm(deadline or None)` asks for a call of `expired`.

    As on KVM, OUT 0 reaches the interrupt controllers as an edge at each expiry, and programming
    the counter makes none.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        pulse: Callable[[], None],
        arm: Callable[[int | None], None],
    ) -> None:
        self._clock, self._pulse, self._arm = clock, pulse, arm
        self.reset()

    def reset(self) -> None:
        self.channels = [_Channel() for _ in range(3)]
        self.channels[2].gate = False
        self._speaker = 0
        self._arm(None)

    def _deadline(self, after: int) -> int | None:
        """When channel 0's output next rises, later than `after`."""
        channel = self.channels[0]
        if channel.null or channel.mode in (1, 5):
            return None  # 1 and 5 wait for a gate that a PC ties high
        ticks = channel.ticks(after)
        if channel.mode in (2, 3):
            # rising edges missed while the host was busy are dropped
            ticks = (ticks // channel.reload + 1) * channel.reload
        elif ticks >= channel.reload:
            return None
        else:
            ticks = channel.reload
        return channel.started - (-ticks * _NS // HZ)

    def expired(self) -> None:
        """Channel 0's output rises."""
        self._pulse()
        channel = self.channels[0]
        if channel.mode in (2, 3):
            self._arm(self._deadline(self._clock()))

    def read(self, port: int) -> int:
        now = self._clock()
        if port == 0x61:
            # bit 4 toggles with the memory refresh that a PC times by channel 1, every 15 us
            refresh = now // 15_085 & 1
            out = self.channels[2].output(now)
            return self._speaker | refresh << 4 | out << 5
        return 0 if port == 0x43 else self.channels[port & 3].read(now)

    def write(self, port: int, value: int) -> None:
        now = self._clock()
        if port == 0x61:
            self._speaker = value & 3
            self.channels[2].set_gate(bool(value & 1), now)
        elif port == 0x43:
            self._control(value, now)
        elif self.channels[port & 3].write(value, now) and port == 0x40:
            self._arm(self._deadline(now))

    def _control(self, value: int, now: int) -> None:
        select = value >> 6
        if select == 3:  # read-back
            for number, channel in enumerate(self.channels):
                if value >> 1 + number & 1:
                    if not value & 0x20:
                        channel.latch(now)
                    if not value & 0x10:
                        channel.latch_status(now)
            return
        self.channels[select].control(value, now)
        if select == 0 and value & 0x30:
            self._arm(None)


def _to_bcd(value: int) -> int:
    return int(str(value % 10000), 16)


def _from_bcd(value: int) -> int:
    """Decimal digits of `value`; a digit above 9 counts as what it is."""
    return sum((value >> 4 * n & 15) * 10**n for n in range(4))
