"""The PC's clock and CMOS memory, an MC146818A (Motorola, 1984; cited by section heading).

INDEX (port 0x70) selects what DATA (port 0x71) is; each byte that the chip defines is a register of
the table, there while INDEX holds its address. The time is the host's: a guest may read it in any of
the chip's formats and cannot set it. Nothing interrupts, so the alarm bytes are plain memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vmlab.core.device import Device, on_peek
from vmlab.regs import Register, Registers, bit, bits, rc, ro, rw, wo

__all__ = ["CmosRtc"]

#: where PCs keep the century (ACPI 6.5 §5.2.9, FADT field CENTURY)
CENTURY = 0x32
#: 64 bytes of the chip, 64 more as in every PC since the AT's successors
ADDRESSES = 0x80
_RAM = frozenset(range(0x0E, ADDRESSES)) - {CENTURY}

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def _at(address: int) -> tuple[str, int, int]:
    return ("INDEX", 0x7F, address)


def _clock(address: int, doc: str) -> Register:
    return ro(1, doc, 8, when=_at(address), spec="Time, Calendar, and Alarm Locations")


def _alarm(address: int, doc: str) -> Register:
    return rw(1, doc, 8, when=_at(address), spec="Time, Calendar, and Alarm Locations")


class CmosRtc(Device):
    """now: the time that the guest sees, UTC unless given. memory: bytes of guest RAM, for the
    addresses where firmware leaves the sizes (0: they stay zero)."""

    type = "cmos-rtc"
    size = 2
    wants_irq = False
    reserved = 0xFF
    hid = "PNP0B00"

    class regs(Registers):
        INDEX = wo(
            0,
            "which byte DATA is",
            8,
            ADDRESS=bits(0, 7, "its address"),
            NMI_MASK=bit(7, "masks the NMI, which nothing here raises", access="ro"),
        )
        SECONDS = _clock(0x00, "seconds")
        SECONDS_ALARM = _alarm(0x01, "seconds of the alarm, which never comes")
        MINUTES = _clock(0x02, "minutes")
        MINUTES_ALARM = _alarm(0x03, "minutes of the alarm")
        HOURS = _clock(0x04, "hours; bit 7 is PM in the 12-hour format")
        HOURS_ALARM = _alarm(0x05, "hours of the alarm")
        DAY_OF_WEEK = _clock(0x06, "day of the week, Sunday is 1")
        DATE = _clock(0x07, "day of the month")
        MONTH = _clock(0x08, "month")
        YEAR = _clock(0x09, "year of the century")
        A = rw(
            1,
            "register A",
            8,
            when=_at(0x0A),
            reset=0x26,
            spec="Register A",
            RS=bits(0, 4, "rate of the periodic interrupt, which never comes"),
            DV=bits(4, 3, "time base; 2 is a crystal of 32,768 Hz"),
            UIP=bit(7, "update in progress: never", access="ro"),
        )
        B = rw(
            1,
            "register B",
            8,
            when=_at(0x0B),
            reset=0x02,
            spec="Register B",
            DSE=bit(0, "daylight saving", modelled=False),
            H24=bit(1, "hours are 0 to 23"),
            DM=bit(2, "bytes are binary; 0: BCD"),
            SQWE=bit(3, "square wave", modelled=False),
            UIE=bit(4, "update-ended interrupt", modelled=False),
            AIE=bit(5, "alarm interrupt", modelled=False),
            PIE=bit(6, "periodic interrupt", modelled=False),
            SET=bit(7, "stop the clock to set it", modelled=False),
        )
        C = rc(
            1,
            "register C: pending interrupts, never any",
            8,
            when=_at(0x0C),
            spec="Register C",
            UF=bit(4, "update ended"),
            AF=bit(5, "alarm"),
            PF=bit(6, "periodic"),
            IRQF=bit(7, "any of those that are enabled"),
        )
        D = ro(
            1,
            "register D",
            8,
            when=_at(0x0D),
            reset=0x80,
            spec="Register D",
            VRT=bit(7, "the memory and the time are valid"),
        )
        RAM = rw(
            1,
            "memory, but for the century's byte",
            8,
            when=("INDEX", 0x7F, _RAM),
            banked_by=("INDEX", ADDRESSES),
        )
        CENTURY = ro(1, "century", 8, when=_at(CENTURY), spec="ACPI 6.5 §5.2.9")

    def __init__(self, now: Callable[[], time.struct_time] | None = None, memory: int = 0) -> None:
        self._now = now or time.gmtime
        self._ram_size = memory
        self._store_memory_size()

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._store_memory_size()

    def _store_memory_size(self) -> None:
        """The sizes where a PC's firmware leaves them: KiB below 1 MiB at 0x15, KiB above it at 0x17
        and 0x30, units of 64 KiB above 16 MiB at 0x34 and above 4 GiB at 0x5b."""
        size = self._ram_size
        low = min(size, 0xC000_0000)
        for address, length, value in (
            (0x15, 2, min(low, 640 * KIB) // KIB),
            (0x17, 2, min(max(low - MIB, 0) // KIB, 0xFFFF)),
            (0x30, 2, min(max(low - MIB, 0) // KIB, 0xFFFF)),
            (0x34, 2, min(max(low - 16 * MIB, 0) // (64 * KIB), 0xFFFF)),
            (0x5B, 3, min((size - low) // (64 * KIB), 0xFF_FFFF)),
        ):
            self.r.RAM[address : address + length] = value.to_bytes(length, "little")

    def _format(self, value: int) -> int:
        """As register B says: binary, or two decimal digits."""
        return value if self.r.B & self.regs.B.DM else value // 10 << 4 | value % 10

    @on_peek("SECONDS")
    def _seconds(self) -> int:
        # the C library may report a leap second, which the chip cannot
        return self._format(min(self._now().tm_sec, 59))

    @on_peek("MINUTES")
    def _minutes(self) -> int:
        return self._format(self._now().tm_min)

    @on_peek("HOURS")
    def _hours(self) -> int:
        hour = self._now().tm_hour
        if self.r.B & self.regs.B.H24:
            return self._format(hour)
        return self._format(hour % 12 or 12) | (0x80 if hour >= 12 else 0)

    @on_peek("DAY_OF_WEEK")
    def _day_of_week(self) -> int:
        return self._format((self._now().tm_wday + 1) % 7 + 1)

    @on_peek("DATE")
    def _date(self) -> int:
        return self._format(self._now().tm_mday)

    @on_peek("MONTH")
    def _month(self) -> int:
        return self._format(self._now().tm_mon)

    @on_peek("YEAR")
    def _year(self) -> int:
        return self._format(self._now().tm_year % 100)

    @on_peek("CENTURY")
    def _century(self) -> int:
        return self._format(self._now().tm_year // 100)
