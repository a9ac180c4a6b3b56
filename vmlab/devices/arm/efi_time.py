"""The time as UEFI has it: what the runtime service GetTime copies (UEFI 2.10 §8.3, EFI_TIME).

An arm64 kernel with ACPI has no other clock to set its own by.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vmlab.core.device import Device, on_peek
from vmlab.regs import Registers, bits, ro

__all__ = ["EfiTime"]


class EfiTime(Device):
    """now: the time that the guest sees, UTC unless given."""

    type = "efi-time"
    wants_irq = False

    class regs(Registers):
        DATE = ro(
            0,
            "the date",
            YEAR=bits(0, 16, "year"),
            MONTH=bits(16, 8, "month, 1 to 12"),
            DAY=bits(24, 8, "day, 1 to 31"),
        )
        TIME = ro(
            4,
            "the time of day",
            HOUR=bits(0, 8, "hour"),
            MINUTE=bits(8, 8, "minute"),
            SECOND=bits(16, 8, "second"),
        )
        NANOSECOND = ro(8, "part of a second: always 0")
        ZONE = ro(
            12,
            "how far from UTC: not at all",
            MINUTES=bits(0, 16, "minutes from UTC"),
            DAYLIGHT=bits(16, 8, "daylight saving: none"),
        )

    def __init__(self, now: Callable[[], time.struct_time] | None = None) -> None:
        self._now = now or time.gmtime

    @on_peek("DATE")
    def _date(self) -> int:
        now = self._now()
        return now.tm_year | now.tm_mon << 16 | now.tm_mday << 24

    @on_peek("TIME")
    def _time(self) -> int:
        now = self._now()
        return now.tm_hour | now.tm_min << 8 | min(now.tm_sec, 59) << 16
