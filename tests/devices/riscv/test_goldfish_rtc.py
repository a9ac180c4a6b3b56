"""The goldfish RTC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmlab.devices.riscv.goldfish_rtc import GoldfishRtc
from vmlab.testing import DeviceHarness, ManualClock

TIME_LOW, TIME_HIGH, ALARM_LOW, ALARM_HIGH, ENABLED, CLEAR_ALARM, STATUS, CLEAR = range(0, 0x20, 4)
MOMENT = 1_700_000_000_123_456_789


class Host:
    """A clock of the host's, in nanoseconds since 1970."""

    def __init__(self) -> None:
        self.time = MOMENT
        self.clock = ManualClock()
        self.device = GoldfishRtc(lambda: self.time)
        self.harness = DeviceHarness(self.device, clock=self.clock)

    def pass_ns(self, count: int) -> None:
        self.time += count
        self.clock.advance(count // 1000)

    def __getitem__(self, register: int) -> int:
        return self.device.read(register, 4)

    def __setitem__(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    def alarm(self, when: int) -> None:
        self[ALARM_HIGH], self[ALARM_LOW] = when >> 32, when & 0xFFFF_FFFF


@pytest.fixture
def rtc() -> Iterator[Host]:
    made = Host()
    yield made
    made.harness.close()


def test_the_time_in_two_halves(rtc: Host) -> None:
    low = rtc[TIME_LOW]
    rtc.time += 1 << 32
    assert rtc[TIME_HIGH] << 32 | low == MOMENT


def test_a_guest_sets_it(rtc: Host) -> None:
    rtc[TIME_HIGH], rtc[TIME_LOW] = 1, 5
    rtc.pass_ns(10)
    assert (rtc[TIME_LOW], rtc[TIME_HIGH]) == (15, 1)
    rtc.device.reset()
    assert rtc[TIME_LOW] == MOMENT + 10 & 0xFFFF_FFFF


def test_an_alarm(rtc: Host) -> None:
    rtc[ENABLED] = 1
    rtc.alarm(MOMENT + 5_000_000)
    assert (rtc[STATUS], rtc.device.irq.level) == (1, False)
    rtc.pass_ns(5_000_000)
    assert (rtc[STATUS], rtc.device.irq.level) == (0, True)
    rtc[CLEAR] = 1
    assert not rtc.device.irq.level


def test_an_alarm_that_has_been(rtc: Host) -> None:
    rtc.alarm(MOMENT - 1)
    assert not rtc.device.irq.level
    rtc[ENABLED] = 1
    assert rtc.device.irq.level


def test_an_alarm_that_is_taken_back(rtc: Host) -> None:
    rtc[ENABLED] = 1
    rtc.alarm(MOMENT + 1_000_000)
    rtc[CLEAR_ALARM] = 0
    rtc.pass_ns(2_000_000)
    assert (rtc[STATUS], rtc.device.irq.level) == (0, False)
    rtc.alarm((1 << 64) - 1)
    assert rtc[STATUS] == 1
