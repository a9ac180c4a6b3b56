"""The real-time clock and its memory."""

from __future__ import annotations

import calendar
import time

import pytest

from vmlab.devices.pc.cmos_rtc import CmosRtc

INDEX, DATA = 0, 1
#: a Saturday afternoon
MOMENT = time.struct_time((2038, 11, 27, 15, 4, 9, 5, 331, 0))
B, DM, H24 = 0x0B, 0x04, 0x02


def clock(at: time.struct_time = MOMENT, memory: int = 0) -> CmosRtc:
    return CmosRtc(lambda: at, memory)


def get(chip: CmosRtc, address: int) -> int:
    chip.write(INDEX, 1, address)
    return chip.read(DATA, 1)


def put(chip: CmosRtc, address: int, value: int) -> None:
    chip.write(INDEX, 1, address)
    chip.write(DATA, 1, value)


def at_hour(hour: int) -> CmosRtc:
    return clock(time.struct_time((2000, 1, 1, hour, 0, 0, 5, 1, 0)))


TIME_BYTES = (0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32)


def test_the_time_in_bcd() -> None:
    chip = clock()
    assert [get(chip, at) for at in TIME_BYTES] == [
        0x09,
        0x04,
        0x15,
        0x07,
        0x27,
        0x11,
        0x38,
        0x20,
    ]


def test_the_time_in_binary() -> None:
    chip = clock()
    put(chip, B, DM | H24)
    assert [get(chip, at) for at in TIME_BYTES] == [9, 4, 15, 7, 27, 11, 38, 20]


@pytest.mark.parametrize(
    ("hour", "bcd", "binary"),
    [
        (0, 0x12, 12),
        (1, 0x01, 1),
        (11, 0x11, 11),
        (12, 0x92, 0x8C),
        (13, 0x81, 0x81),
        (23, 0x91, 0x8B),
    ],
)
def test_the_12_hour_format(hour: int, bcd: int, binary: int) -> None:
    chip = at_hour(hour)
    put(chip, B, 0)
    assert get(chip, 0x04) == bcd
    put(chip, B, DM)
    assert get(chip, 0x04) == binary


@pytest.mark.parametrize(("weekday", "expected"), [(6, 1), (0, 2), (5, 7)])
def test_sunday_is_1(weekday: int, expected: int) -> None:
    chip = clock(time.struct_time((2000, 1, 1, 0, 0, 0, weekday, 1, 0)))
    assert get(chip, 0x06) == expected


def test_a_leap_second_is_not_shown() -> None:
    chip = clock(time.struct_time((2016, 12, 31, 23, 59, 60, 5, 366, 0)))
    assert get(chip, 0x00) == 0x59


def test_the_hosts_time_is_utc() -> None:
    chip = CmosRtc()
    put(chip, B, DM | H24)
    before = time.time()
    seen = [get(chip, at) for at in (0x09, 0x08, 0x07, 0x04, 0x02, 0x00)]
    year = 2000 + seen[0]
    assert abs(calendar.timegm((year, *seen[1:])) - before) <= 2


def test_the_time_cannot_be_set() -> None:
    chip = clock()
    put(chip, 0x00, 0x33)
    assert get(chip, 0x00) == 0x09


def test_status_registers() -> None:
    chip = clock()
    assert get(chip, 0x0A) == 0x26
    put(chip, 0x0A, 0xAF)
    assert get(chip, 0x0A) == 0x2F, "UIP is read only, and never set"
    assert get(chip, 0x0B) == H24
    assert get(chip, 0x0C) == 0x00
    assert get(chip, 0x0D) == 0x80
    put(chip, 0x0D, 0x00)
    assert get(chip, 0x0D) == 0x80


def test_what_is_not_modelled_is_told() -> None:
    chip, told = clock(), []
    chip.on_mistake = lambda device, text: told.append(text)
    put(chip, B, H24 | 0x20)
    assert told == ["B: bits 0x20 are not modelled"]
    assert get(chip, B) == H24 | 0x20


def test_memory_keeps_every_byte() -> None:
    chip = clock()
    places = [at for at in range(0x0E, 0x80) if at != 0x32]
    assert len(places) == 113
    for at in places:
        put(chip, at, at ^ 0x5A)
    assert [get(chip, at) for at in places] == [at ^ 0x5A for at in places]
    assert get(chip, 0x00) == 0x09


def test_alarms_are_memory() -> None:
    chip = clock()
    for at in (0x01, 0x03, 0x05):
        put(chip, at, 0xC0 | at)
    assert [get(chip, at) for at in (0x01, 0x03, 0x05)] == [0xC1, 0xC3, 0xC5]


def test_the_nmi_mask_does_not_select() -> None:
    chip = clock()
    put(chip, 0x80 | 0x40, 0x77)
    assert get(chip, 0x40) == 0x77
    assert get(chip, 0x80) == 0x09


def test_the_index_cannot_be_read() -> None:
    chip = clock()
    chip.write(INDEX, 1, 0x40)
    assert chip.read(INDEX, 1) == 0xFF


def test_one_write_of_both_ports() -> None:
    chip = clock()
    chip.write(INDEX, 2, 0x99 << 8 | 0x40)
    assert get(chip, 0x40) == 0x99


def test_registers_are_counted_by_name() -> None:
    chip = clock()
    for _ in range(3):
        get(chip, 0x00)
    get(chip, 0x0D)
    counts = chip.counters.counts().registers
    assert (counts["INDEX"].writes, counts["SECONDS"].reads, counts["D"].reads) == (4, 3, 1)


@pytest.mark.parametrize(
    ("size", "low", "above_1m", "above_16m", "above_4g"),
    [
        (0, 0, 0, 0, 0),
        (1 << 20, 640, 0, 0, 0),
        (64 << 20, 640, 63 << 10, 48 << 4, 0),
        (1 << 30, 640, 0xFFFF, 1008 << 4, 0),
        (4 << 30, 640, 0xFFFF, (3072 - 16) << 4, 1 << 14),
    ],
)
def test_memory_sizes(size: int, low: int, above_1m: int, above_16m: int, above_4g: int) -> None:
    chip = clock(memory=size)

    def word(at: int) -> int:
        return get(chip, at) | get(chip, at + 1) << 8

    assert word(0x15) == low
    assert word(0x17) == word(0x30) == above_1m
    assert word(0x34) == above_16m
    assert word(0x5B) | get(chip, 0x5D) << 16 == above_4g
    chip.reset()
    assert word(0x15) == low
